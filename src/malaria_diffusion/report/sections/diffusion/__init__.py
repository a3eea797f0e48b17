"""How far did the diffusion model get?"""
