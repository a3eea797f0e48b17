"""Phantom cells: drawn by a program, so that everything can be tried without real ones."""
