"""Synthetic images for other people: files that say what they are, with a card and metadata."""
