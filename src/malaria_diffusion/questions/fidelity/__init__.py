"""Are synthetic cells like real ones, and as varied?"""
