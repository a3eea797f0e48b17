"""Have synthetic cells the intensities and the classifier's scores of real ones?"""
