"""The diffusion process: schedule, Gaussian transitions, loss."""
