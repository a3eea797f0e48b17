"""Summaries of runs: read from files, named, and grouped by what of them is the same but for the seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import fsspec

from malaria_diffusion.cells.fingerprint import fingerprint_json
from malaria_diffusion.errors import UserError

Summary = dict[str, Any]
PARTS = ("dataset", "ddpm", "classifier", "headlines")
# what tells runs of the same settings apart
SEEDS = ("seed", "split_seed", "identity")
# of the cells and the model, what other settings would change
OF_DATASET = ("fingerprint", "split_strategy", "size", "classes")
OF_MODEL = ("epochs", "images_seen", "process", "network", "training", "sampling")


def read_summaries(places: Sequence[str] | Mapping[str, str]) -> dict[str, Summary]:
    """Summaries by name, in the order in which they are given.

    Args:
        places: Paths or URLs of files, named by that part of the paths in which they differ; or by name.

    Raises:
        UserError: a file is missing, damaged or no summary, or two are the same.
    """
    return {name: _read(place) for name, place in (places if isinstance(places, Mapping) else _named(places)).items()}


def settings_of(summary: Summary) -> str:
    """A name for all that may be set of a run but its seeds, of cells, model, sampling and classifier."""
    settings = [
        {name: summary["dataset"].get(name) for name in OF_DATASET},
        {name: summary["ddpm"].get(name) for name in OF_MODEL},
        summary["classifier"].get("parameters"),
        summary.get("n"),
        summary.get("confidence"),
    ]
    return str(fingerprint_json(_without_seeds(settings)))


def seeds_of(summary: Summary) -> str:
    """A name for its seeds, and what follows from these."""
    return str(fingerprint_json(_seeds(summary)))


def _read(place: str) -> Summary:
    again = "give the path of a file that `kedro run --pipeline validation` has written, in gate.summaries"
    try:
        with fsspec.open(place, "rt", encoding="utf-8") as file:
            summary = json.load(file)
    except FileNotFoundError as error:
        raise UserError(f"{place}: there is no summary here; {again}") from error
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{place}: cannot be read as a summary ({type(error).__name__}: {error}); {again}") from error
    lacking = [part for part in PARTS if not isinstance(summary, dict) or not isinstance(summary.get(part), dict)]
    if lacking:
        raise UserError(f"{place}: no summary of a run, as it lacks {', '.join(lacking)}; {again}")
    return dict(summary)


def _named(places: Sequence[str]) -> dict[str, str]:
    if len(set(places)) < len(places):
        twice = next(place for place in places if places.count(place) > 1)
        raise UserError(f"gate.summaries has {twice!r} twice; name each file once")
    parts = [PurePosixPath(place).parts for place in places]
    shortest = min(map(len, parts))
    first = next((at for at in range(shortest) if len({part[at] for part in parts}) > 1), shortest - 1)
    last = next((at for at in range(shortest) if len({part[-1 - at] for part in parts}) > 1), 0)
    return {"/".join(part[first : len(part) - last] or part): place for part, place in zip(parts, places, strict=True)}


def _without_seeds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_seeds(item) for key, item in sorted(value.items()) if key not in SEEDS}
    return [_without_seeds(item) for item in value] if isinstance(value, list) else value


def _seeds(value: Any) -> Any:
    if not isinstance(value, dict):
        return None
    found = {key: item if key in SEEDS else _seeds(item) for key, item in sorted(value.items())}
    return {key: item for key, item in found.items() if item is not None}
