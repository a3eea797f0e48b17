"""Are synthetic cells recognised as intended?"""
