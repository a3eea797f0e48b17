"""The pipelines of this project."""

from kedro.pipeline import Pipeline

from malaria_diffusion.pipelines import (
    ablation,
    data_processing,
    diffusion,
    folds,
    gate,
    generative,
    guidance,
    phantom,
    reader_study,
    shadow_models,
    validation,
)


def register_pipelines() -> dict[str, Pipeline]:
    """All pipelines by name; `kedro run` runs the study: the three of it in turn."""
    study = {
        "data_processing": data_processing.create_pipeline(),
        "diffusion": diffusion.create_pipeline(),
        "validation": validation.create_pipeline(),
    }
    return {
        "__default__": sum(study.values(), Pipeline([])),
        **study,
        "ablation": ablation.create_pipeline(),
        "folds": folds.create_pipeline(),
        "gate": gate.create_pipeline(),
        "generative": generative.create_pipeline(),
        "generative_low_data": generative.create_low_data_pipeline(),
        "guidance": guidance.create_pipeline(),
        "phantom": phantom.create_pipeline(),
        "reader_study": reader_study.create_pipeline(),
        "shadow_models": shadow_models.create_pipeline(),
    }
