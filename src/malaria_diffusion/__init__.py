"""Denoising diffusion for synthetic medical images, and their honest validation."""

__version__ = "0.2.0"
