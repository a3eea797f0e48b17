"""Are the synthetic images cells at all: one whole outline, of a size and shape that real cells have?"""
