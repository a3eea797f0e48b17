"""What is judged together belongs together: a model and the cells it trained on, synthetic cells and their model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.cells.fingerprint import fingerprint_names, short_hashes
from malaria_diffusion.cells.split import SplitParameters, Strategy, assign_splits, training_cells_fingerprint
from malaria_diffusion.errors import Remedy, UserError


class LineageError(UserError):
    """Artefacts of different runs met."""


def refuse_other_cells(
    lineage: dict[str, Any], cells_fingerprint: str, cell_table: pd.DataFrame, synthetic: bool = False
) -> None:
    """Make sure that a model trained on the training cells of the current split and on no others.

    So no cell and no person that validates or tests has trained it, and its members are who they are said to be.

    Args:
        lineage: Of the model, see `diffusion.model.Lineage`.
        cells_fingerprint: Of the packed cells, see `cells.fingerprint`.
        cell_table: Their table.
        synthetic: Whether the lineage is that of synthetic cells, of which another model can make others.

    Raises:
        LineageError: naming what was found and what to do.
    """
    trained_on = (lineage["cells_fingerprint"], lineage["training_cells_fingerprint"])
    if trained_on == (cells_fingerprint, training_cells_fingerprint(cell_table)):
        return
    held_out = cell_table[cell_table["split"] != "train"]
    known = set(short_hashes(held_out)) & set(lineage["training_cells"])
    leak = f", among them {len(known)} of the {len(held_out)} that now validate or test" if known else ""
    whose = " of the synthetic cells" if synthetic else ""
    todo = "sample with a model of the current ones first" if synthetic else "train on the current ones first"
    raise LineageError(
        f"model {lineage['identity']}{whose} trained on other cells than the training cells of cells and cell_table"
        f"{leak}: pack and split as it was when it trained, or {todo}",
        Remedy.SAMPLING if synthetic else Remedy.TRAINING,
    )


def refuse_other_split(cell_table: pd.DataFrame, strategy: Strategy, parameters: SplitParameters) -> None:
    """Make sure that cells are split as these parameters say.

    Args:
        cell_table: Of the packed cells.
        strategy: By which they are split; that of the parameters does not count.
        parameters: See there.

    Raises:
        LineageError: how many cells they put elsewhere.
    """
    asked = assign_splits(cell_table[["path", "name", "label"]], parameters.model_copy(update={"strategy": strategy}))
    columns = ["person", "split", "audit"]
    if others := int((asked[columns].to_numpy() != cell_table[columns].to_numpy()).any(axis=1).sum()):
        raise LineageError(
            f"data_processing.split puts {others} of {len(asked)} cells elsewhere than cells and cell_table have them: "
            "set it to what they were split by, or pack and split again",
            Remedy.DATA,
        )


def refuse_other_model(
    synthetic_cells: NDArray[np.uint8], synthetic_table: pd.DataFrame, lineage: dict[str, Any]
) -> None:
    """Make sure that synthetic cells, their table and the lineage of their model are of one run.

    Raises:
        LineageError: naming what was found and what to do.
    """
    again = "sample again"
    if len(synthetic_cells) != len(synthetic_table):
        raise LineageError(
            f"{len(synthetic_cells)} synthetic_cells, but {len(synthetic_table)} rows in synthetic_table; {again}",
            Remedy.SAMPLING,
        )
    stated = set(zip(synthetic_table["model_identity"], synthetic_table["training_people_hash"], strict=True))
    expected = {(lineage["identity"], fingerprint_names(lineage["training_people"]))}
    if stated != expected:
        raise LineageError(
            f"synthetic_table names the models {sorted(stated)}, synthetic_lineage is of {sorted(expected)}; {again}",
            Remedy.SAMPLING,
        )


def refuse_other_weights(model: dict[str, Any], lineage: dict[str, Any]) -> None:
    """Make sure that synthetic cells with this `lineage` are by the model at hand.

    Raises:
        LineageError: naming both.
    """
    here, theirs = weights_of(model), weights_of(lineage)
    if here != theirs:
        raise LineageError(
            f"ddpm is training {here}, but the synthetic cells are by {theirs}; sample first", Remedy.SAMPLING
        )


def weights_of(lineage: dict[str, Any]) -> str:
    """Which weights these are, in words: training, epoch, and that of the network to guide by if there is one."""
    guide = lineage["training"].get("guide_epochs")  # models older than guides do not tell
    guided = "" if guide is None else f", guided by epoch {guide}"
    return f"{lineage['identity']}, epoch {lineage['best_epoch']}{guided}"


def refuse_other_summary(model: dict[str, Any], summary: dict[str, Any]) -> None:
    """Make sure that a summary of the validation is of the model at hand.

    Raises:
        LineageError: naming both.
    """
    theirs = summary["ddpm"]
    here = (model["identity"], model["best_epoch"])
    of = (theirs["identity"], theirs.get("best_epoch", model["best_epoch"]))  # which older summaries do not tell
    if here != of:
        raise LineageError(
            f"summary is of training {of[0]}, epoch {of[1]}, but ddpm is {here[0]}, epoch {here[1]}; validate again",
            Remedy.VALIDATION,
        )


def refuse_other_origin(name: str, made_of: dict[str, str] | None, now: dict[str, str], remedy: str) -> None:
    """Make sure that a result was made of the cells, models and synthetic cells at hand.

    Args:
        name: Of the result.
        made_of: What tells those that it was made of from others, by their names; None if that was not noted.
        now: The same of those at hand.
        remedy: See `UserError`.

    Raises:
        LineageError: naming what is another one.
    """
    if made_of is None or made_of.get(name) != now.get(name):  # a classifier may have come from elsewhere
        raise LineageError(
            f"{name}: not known of which {' and '.join(what for what in now if what != name)} it was made, as a killed "
            "run, an earlier version or another project left it; make it again",
            remedy,
        )
    if others := [what for what, state in now.items() if made_of.get(what) != state]:
        raise LineageError(f"{name} was made of other {' and '.join(others)} than those at hand; make it again", remedy)


def refuse_other_bound(bound: dict[str, Any], lineage: dict[str, Any]) -> None:
    """Make sure that a variational bound is of the model that synthetic cells with this `lineage` are by.

    Raises:
        LineageError: naming both.
    """
    theirs = (lineage["identity"], lineage["best_epoch"])
    of = (bound.get("identity", theirs[0]), bound.get("best_epoch", theirs[1]))  # which older bounds do not tell
    if of != theirs:
        raise LineageError(
            f"variational_bound is of training {of[0]}, epoch {of[1]}, but the synthetic cells are by {theirs[0]}, "
            f"epoch {theirs[1]}; measure it again",
            Remedy.BOUND,
        )
