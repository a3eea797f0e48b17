"""How much does the accuracy owe to the split?"""
