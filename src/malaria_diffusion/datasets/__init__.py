"""Catalog types of this project: image sources, memory maps, finished files and folders, figures."""
