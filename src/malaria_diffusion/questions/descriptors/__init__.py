"""Have synthetic cells the outlines, colours and spots that a pathologist reads in real ones?"""
