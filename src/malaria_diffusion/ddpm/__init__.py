"""Denoising diffusion probabilistic models (Ho et al. 2020): the mathematics and the engine.

In reading order: schedule, process, network, keyed, training, checkpoint, sampling, model. Imports torch and
diffusers; knows nothing of malaria, Kedro or MLflow.
"""
