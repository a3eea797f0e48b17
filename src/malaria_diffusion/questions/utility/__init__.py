"""What are synthetic cells worth to a classifier?"""
