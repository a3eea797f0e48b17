"""Denoising diffusion probabilistic models (Ho et al. 2020): the mathematics and the engine.

In reading order: process, network, training, sampling, model, bound. Imports torch and
diffusers; knows nothing of malaria, Kedro or MLflow. An equation number without a name is that of the paper this
project implements; docs/method.md lists them.
"""
