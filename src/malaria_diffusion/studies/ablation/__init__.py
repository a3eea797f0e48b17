"""The study of the number of diffusion steps."""
