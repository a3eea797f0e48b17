"""Denoising diffusion for synthetic medical images, and their honest validation."""
