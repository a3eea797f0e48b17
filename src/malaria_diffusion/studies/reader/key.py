"""The key of a sheet: which cells it shows, in which order, and how answers will be judged."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.errors import UserError
from malaria_diffusion.statistics.comparison import spread_rows
from malaria_diffusion.studies.reader.config import ReaderStudyParameters

Kind = Literal["real", "synthetic"]
MOST_CLASSES = 9  # that have a digit on the keyboard


class SealedCell(BaseModel, extra="forbid", frozen=True):
    """One cell of the sheet.

    Attributes:
        id: What the sheet calls it.
        kind: What it is.
        label: The class that the data, or whoever asked the model, say it has.
        unit: What is independent of all others: the person of a real cell, a synthetic one itself.
        row: Where it is in its set.
    """

    id: str
    kind: Kind
    label: str
    unit: str
    row: int


class Key(BaseModel, extra="forbid", frozen=True):
    """What readers must not see, and what may not be chosen after they have answered.

    Attributes:
        secret: Makes the commitment one that nobody can guess the key by.
        seed: See `ReaderStudyParameters`.
        margin: See there.
        confidence: See there.
        images: What the real cells are.
        cells_fingerprint: Of the set that they are of.
        model: Identity of the model that made the synthetic ones.
        classes: That a reader chooses among.
        cells: In the order of the sheet.
    """

    secret: str
    seed: int
    margin: float
    confidence: float
    images: str
    cells_fingerprint: str
    model: str
    classes: list[str]
    cells: list[SealedCell]

    @property
    def commitment(self) -> str:
        """SHA-256 of all of it, which the sheet and every file of answers carry: another key has another one."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()


def draw_key(unseen: Cells, synthetic: Cells, parameters: ReaderStudyParameters) -> Key:
    """Choose real and synthetic cells, as many of each class, and put them in random order.

    Real cells are spread over as many people as there are: nobody has two of a class before everybody has one.

    Args:
        unseen: Cells of the test people.
        synthetic: Of a model of the same classes.
        parameters: See there.

    Raises:
        UserError: there are fewer cells of a class than asked for, or more classes than digits.
    """
    classes = unseen.class_names
    if len(classes) > MOST_CLASSES:
        raise UserError(f"{len(classes)} classes: a reader chooses by one digit among {MOST_CLASSES} at most")
    number = parameters.cells // len(classes)
    if not number:
        raise UserError(
            f"reader_study.cells is {parameters.cells}, fewer than the {len(classes)} classes: ask for more"
        )
    rng = np.random.default_rng(parameters.seed)
    secret = rng.bytes(32).hex()
    sides: dict[Kind, Cells] = {"real": unseen, "synthetic": synthetic}
    chosen = [
        (kind, label, side.people[place], side.places[place])
        for kind, side in sides.items()
        for label in classes
        for place in _spread(side, kind, label, number, rng)
    ]
    return Key(
        secret=secret,
        seed=parameters.seed,
        margin=parameters.margin,
        confidence=parameters.confidence,
        images=unseen.kind,
        cells_fingerprint=unseen.fingerprint,
        model=str((synthetic.lineage or {})["identity"]),
        classes=classes,
        cells=[
            SealedCell(id=_name(secret, place), kind=kind, label=label, unit=f"{kind} {unit}", row=int(row))
            for place, (kind, label, unit, row) in enumerate(chosen[drawn] for drawn in rng.permutation(len(chosen)))
        ],
    )


def _spread(side: Cells, kind: Kind, label: str, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of `number` cells of a class, of as many people as there are."""
    places = rng.permutation(np.flatnonzero(side.labels == label))
    if len(places) < number:
        remedy = {"real": "give more people to the test", "synthetic": "sample more with diffusion.sampling.count"}
        raise UserError(
            f"reader_study.cells asks for {number} {kind} cells of class {label!r}, found {len(places)}: ask for "
            f"fewer, or {remedy[kind]}"
        )
    return spread_rows(places, side.people[places], number)


def _name(secret: str, place: int) -> str:
    """Of the cell at this place of the sheet, whatever it is."""
    return hashlib.blake2b(f"{secret}\0{place}".encode(), digest_size=8).hexdigest()
