"""The diffusion model as a classifier: a cell is of the class under which it is denoised best."""
