"""A blinded reader study: can people tell synthetic cells from real ones, and do they see the same classes in both?"""
