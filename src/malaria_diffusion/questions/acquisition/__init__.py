"""Has the way an image was taken anything to do with its label, its errors, or its being synthetic?"""
