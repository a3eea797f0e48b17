"""Putting finished models into MLflow's registry, each once."""

from __future__ import annotations

import json
import shutil
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import mlflow
from mlflow.models import ModelSignature

import malaria_diffusion

CONFIG = "config.json"

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
        loader_module: Has the function `_load_pyfunc(path)`; `unpack(path)` gives it `model` and `config`.
        model: The model's file or folder.
        config: What the loader needs besides, JSON-ready.
        signature: What goes in and comes out.
        example: Of what goes in.
        images_seen: Images that the training has drawn; where the model stands among its curves.
        sha256: Tells this model from any other of its name.
        tags: Where it comes from.
    """

    suffix: str
    loader_module: str
    model: Path
    config: dict[str, Any]
    signature: ModelSignature
    example: Any
    images_seen: int
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
    with TemporaryDirectory() as folder:
        # not as MLflow's model_config, which it would log among the run's parameters
        (Path(folder) / CONFIG).write_text(json.dumps(version.config, indent=1))
        copy = shutil.copytree if version.model.is_dir() else shutil.copy2
        copy(version.model, Path(folder) / version.model.name)
        logged = mlflow.pyfunc.log_model(
            name=version.suffix,
            loader_module=version.loader_module,
            data_path=folder,
            code_paths=[str(Path(malaria_diffusion.__file__).parent)],
            signature=version.signature,
            input_example=version.example,
            step=version.images_seen,
            pip_requirements=[f"{package}=={metadata.version(package).partition('+')[0]}" for package in PACKAGES],
        )
    registered = mlflow.register_model(logged.model_uri, name, tags=version.tags | {"sha256": version.sha256})
    return f"{name}/{registered.version}"


def unpack(path: str) -> tuple[Path, dict[str, Any]]:
    """Model and config of a logged version, from the path that MLflow gives its loader."""
    (model,) = (found for found in Path(path).iterdir() if found.name != CONFIG)
    return model, json.loads((Path(path) / CONFIG).read_text())
