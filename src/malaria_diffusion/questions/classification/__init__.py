"""How well does the classifier know cells of unseen people?"""
