"""The pipelines of this project."""

from kedro.pipeline import Pipeline

from malaria_diffusion.pipelines import data_processing, diffusion, phantom, validation


def register_pipelines() -> dict[str, Pipeline]:
    """All pipelines by name; `kedro run` runs the first three in turn."""
    study = {
        "data_processing": data_processing.create_pipeline(),
        "diffusion": diffusion.create_pipeline(),
        "validation": validation.create_pipeline(),
    }
    return {"__default__": sum(study.values(), Pipeline([])), **study, "phantom": phantom.create_pipeline()}
