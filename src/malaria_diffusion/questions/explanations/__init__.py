"""Does the classifier look at the same thing in real and in synthetic cells?"""
