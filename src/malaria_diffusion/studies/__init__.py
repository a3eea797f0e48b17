"""Studies of their own: the number of diffusion steps, the scale of guidance."""
