"""Putting finished models into MLflow's registry, each once."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
from mlflow.models import ModelSignature

import malaria_diffusion

# what the library needs to run either model, without the pipelines around it
PACKAGES = (
    "accelerate",
    "diffusers",
    "mlflow",
    "numpy",
    "pandas",
    "pillow",
    "pydantic",
    "safetensors",
    "torch",
    "torchvision",
    "tqdm",
    "ultralytics",
)


class Version(NamedTuple):
    """A finished model and how MLflow is to load and call it.

    Attributes:
        suffix: Of the registered name.
        loader_module: Has the function `_load_pyfunc(path, config)`.
        data_path: The model's file or folder.
        config: What the loader needs besides.
        signature: What goes in and comes out.
        example: Of what goes in.
        sha256: Tells this model from any other of its name.
        tags: Where it comes from.
    """

    suffix: str
    loader_module: str
    data_path: Path
    config: dict[str, Any]
    signature: ModelSignature
    example: Any
    sha256: str
    tags: dict[str, str]


def register(version: Version, prefix: str) -> str:
    """Log a model in the active run and register it, unless it is registered already.

    The package's source travels with it, so that a server needs the packages it is made of, but not this project.

    Args:
        version: The model.
        prefix: Of the registered name.

    Returns:
        Name and version as in `models:/NAME/VERSION`.
    """
    name = f"{prefix}-{version.suffix}"
    for known in mlflow.MlflowClient().search_model_versions(f"name = '{name}'"):
        if known.tags.get("sha256") == version.sha256:
            return f"{name}/{known.version}"
    logged = mlflow.pyfunc.log_model(
        name=version.suffix,
        loader_module=version.loader_module,
        data_path=str(version.data_path),
        code_paths=[str(Path(malaria_diffusion.__file__).parent)],
        model_config=version.config,
        signature=version.signature,
        input_example=version.example,
        pip_requirements=[f"{package}=={metadata.version(package).partition('+')[0]}" for package in PACKAGES],
    )
    registered = mlflow.register_model(logged.model_uri, name, tags=version.tags | {"sha256": version.sha256})
    return f"{name}/{registered.version}"


def sha256_of(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
