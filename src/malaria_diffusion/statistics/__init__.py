"""Resampling, permutation and matching, whatever is measured."""
