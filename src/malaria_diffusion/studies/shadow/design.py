"""Which cells each shadow model is trained on, so that every cell is in for half of them and out for half.

Shadows come in pairs (an audit that holds out 50 % once): the cells of each person and class are halved at random, one
half trains the first of the pair and the other half the second. Had all halves to balance each other, how often a cell
is in the others would give away whether it is in the target; of a pair only the other one does, and is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.errors import Remedy, UserError
from malaria_diffusion.questions.privacy.membership import FEWEST, FEWEST_PEOPLE
from malaria_diffusion.studies.config import ShadowParameters


class Design(NamedTuple):
    """What trains which shadow, and which cells are attacked.

    Attributes:
        pool: Training and audit cells, (N,): what shadows are trained on.
        inside: Which of them train which shadow, bool, (N, K); shadows 2j and 2j + 1 halve the pool.
        stratum: Person and class of each, as a number, (N,).
        matched_by: "person and label", or "label" where names tell no people.
        attacked: Places in the pool of the cells that are attacked, rising, (A,): audit cells first, at most half.
    """

    pool: Cells
    inside: NDArray[np.bool_]
    stratum: NDArray[np.int64]
    matched_by: str
    attacked: NDArray[np.int64]


def design(cells: Cells, parameters: ShadowParameters) -> Design:
    """Halve the cells once for each pair of shadows.

    Args:
        cells: Of a study, with their split.
        parameters: How many shadows and attacked cells, and the seed.

    Raises:
        UserError: fewer than 20 members and 20 non-members for each shadow, or fewer than 10 people.
    """
    pool = cells[np.sort(np.concatenate([cells.part("train").places, cells.part("audit").places]))]
    stratum, matched_by = strata_of(pool.table)
    people = len(set(pool.people.tolist()))
    # of a stratum of one nothing can be told
    if (paired := int((np.bincount(stratum)[stratum] > 1).sum())) < 2 * FEWEST or people < FEWEST_PEOPLE:
        raise UserError(
            f"{paired} cells of {people} training people can be halved by {matched_by}, shadow models need "
            f"{2 * FEWEST} of {FEWEST_PEOPLE} people at least; pack more cells, or lower "
            "data_processing.split.val_fraction and test_fraction",
            Remedy.DATA,
        )
    rng = np.random.default_rng(parameters.seed)
    halves = [halve(stratum, rng) for _ in range(parameters.models // 2)]
    inside = np.stack([side for half in halves for side in (half, ~half)], axis=1)
    audit = pool.table["audit"].to_numpy(dtype=bool)
    of_audit, others = (rng.permutation(np.flatnonzero(mask)) for mask in (audit, ~audit))
    of_audit = of_audit[: parameters.cells // 2]
    attacked = np.sort(np.concatenate([of_audit, others[: parameters.cells - len(of_audit)]]))
    return Design(pool, inside, stratum, matched_by, attacked)


def strata_of(table: pd.DataFrame) -> tuple[NDArray[np.int64], str]:
    """Person and class of each cell as a number, and their names; the class alone if most would stand alone."""
    for columns in (["person", "label"], ["label"]):
        stratum = np.asarray(table.groupby(columns).ngroup(), dtype=np.int64)
        if (np.bincount(stratum)[stratum] > 1).mean() >= 0.5:
            break
    return stratum, " and ".join(columns)


def halve(stratum: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A random half of each stratum, (N,); which half of an odd one is larger is chance."""
    order = rng.permutation(len(stratum))
    rank = pd.Series(stratum[order]).groupby(stratum[order]).cumcount().to_numpy()
    inside = np.empty(len(stratum), dtype=bool)
    inside[order] = rank % 2 == rng.integers(2, size=int(stratum.max()) + 1)[stratum[order]]
    return inside
