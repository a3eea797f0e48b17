"""Algorithm 1: data, objective, optimizer, trainer, what is watched, checkpoints."""
