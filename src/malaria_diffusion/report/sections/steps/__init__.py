"""How many diffusion steps does it take?"""
