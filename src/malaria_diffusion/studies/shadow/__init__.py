"""Does a likelihood ratio from shadow models tell the cells that a model was trained on from others?"""
