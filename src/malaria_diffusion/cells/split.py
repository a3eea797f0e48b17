"""Who is in which photograph, and which people train, validate and test.

A split by person keeps every cell of a person on one side: cells of one person share stain, slide and camera,
and a classifier that has seen some of them recognises the rest for the wrong reasons.
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal

import pandas as pd
from pydantic import Field, field_validator

from malaria_diffusion.cells.errors import CellsError
from malaria_diffusion.cells.fingerprint import fingerprint_names
from malaria_diffusion.config import Parameters

Strategy = Literal["person", "cell"]

SPLITS = ("train", "val", "test")


class SplitParameters(Parameters):
    """How people are recognised and divided.

    Attributes:
        strategy: "person" (honest) or "cell" (every image for itself, as much of the literature does).
        person_patterns: Regular expressions tried in turn on the file name; group 1 of the first that matches is
            the person. An empty list says that the names tell no people: every image is then a person of its own.
        smear_pattern: Regular expression whose group 1 is the slide; None if names tell none.
        val_fraction: Share of people (or cells) for validation.
        test_fraction: Share of people (or cells) for the test.
        audit_fraction: Share of the training people's cells that nothing is ever trained on.
        seed: Another seed gives another split.
    """

    strategy: Strategy = "person"
    person_patterns: list[str] = Field([r"^C\d+(P\d+)", r"^(.+?)_IMG_"])
    smear_pattern: str | None = r"^(.+?)_IMG_"
    val_fraction: float = Field(0.15, gt=0, lt=0.5)
    test_fraction: float = Field(0.2, gt=0, lt=0.5)
    audit_fraction: float = Field(0.05, ge=0, lt=0.5)
    seed: int = Field(7, ge=0)

    @field_validator("person_patterns", "smear_pattern")
    @classmethod
    def _one_group(cls, value: list[str] | str | None) -> list[str] | str | None:
        for pattern in [value] if isinstance(value, str) else value or []:
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
            if groups != 1:
                raise ValueError(f"{pattern!r} has {groups} groups, expected one: the part that names it")
        return value


def person_of(name: str, patterns: list[str]) -> str:
    """The person in a file name: group 1 of the first pattern that matches; the name itself without patterns.

    Raises:
        CellsError: there are patterns and none matches.
    """
    for pattern in patterns:
        if (match := re.search(pattern, name)) and match.group(1):
            return match.group(1)
    if patterns:
        raise CellsError(
            f"{name}: no person found in the file name by split.person_patterns {patterns}; expected one to match "
            "every name. Correct them, or set [] if the names tell no people"
        )
    return name


def keyed_uniform(seed: int, purpose: str, key: str) -> float:
    """A number in [0, 1) that depends on its arguments alone (BLAKE2b), whatever else is in the archive."""
    digest = hashlib.blake2b(f"{seed}\0{purpose}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def cell_names(table: pd.DataFrame) -> pd.Series:
    """What tells each cell from every other: its label/name, or its path where cells of several folders share that.

    Args:
        table: Columns path, name and label, of all cells: the folders train, val and test may hold equal names.
    """
    short = table["label"] + "/" + table["name"]
    stems, places = short.map(_without_suffix), table["path"].map(_without_suffix)
    return short.where(places.groupby(stems).transform("nunique") == 1, table["path"])


def assign_splits(table: pd.DataFrame, parameters: SplitParameters) -> pd.DataFrame:
    """Add the columns person, smear, split ("train", "val", "test") and audit (bool).

    Each person draws a keyed number, which the fractions cut. The draw depends on nobody else, so a person's split is
    the same in any archive of any size; it is therefore the same in every stratum, of people who carry the same
    classes, whose shares follow the fractions as closely as chance has it. `check_splits` refuses a split that lacks
    a class.

    Args:
        table: Columns path, name and label.
        parameters: See `SplitParameters`.

    Raises:
        CellsError: a name tells no person, or a split lacks a class.
    """
    names = table["name"]
    # without the file type, so that one cell in two of them is one
    cell_keys = cell_names(table).map(_without_suffix).tolist()
    people = [person_of(name, parameters.person_patterns) for name in names]
    if not parameters.person_patterns:
        people = cell_keys
    units = people if parameters.strategy == "person" else cell_keys

    def split_of(unit: str) -> str:
        draw = keyed_uniform(parameters.seed, "split", unit)
        if draw < parameters.test_fraction:
            return "test"
        return "val" if draw < parameters.test_fraction + parameters.val_fraction else "train"

    by_unit = {unit: split_of(unit) for unit in set(units)}
    result = table.assign(
        person=people,
        smear=[_smear_of(name, parameters.smear_pattern) for name in names],
        split=[by_unit[unit] for unit in units],
    )
    drawn = [keyed_uniform(parameters.seed, "audit", key) < parameters.audit_fraction for key in cell_keys]
    result["audit"] = (result["split"] == "train").to_numpy() & drawn
    check_splits(result)
    return result


def training_rows(table: pd.DataFrame) -> pd.Series:
    """Boolean mask of the cells anything may be trained on: the training split without the audit cells."""
    return (table["split"] == "train") & ~table["audit"]


def training_cells_fingerprint(table: pd.DataFrame) -> str:
    """Fingerprint of which cells are trained on."""
    return fingerprint_names(cell_names(table)[training_rows(table)])


def strata(table: pd.DataFrame) -> pd.Series:
    """Per person the classes they carry, as "A+B"."""
    return table.groupby("person")["label"].agg(lambda labels: "+".join(sorted(set(labels))))


def check_splits(table: pd.DataFrame) -> None:
    """Every split must have every class, from two people at least.

    Raises:
        CellsError: naming the split, the class and the numbers.
    """
    people = table["person"].nunique()
    for split in SPLITS:
        part = table[(table["split"] == split) & ~table["audit"]]
        for label in sorted(table["label"].unique()):
            found = part.loc[part["label"] == label, "person"].nunique()
            if found < 2:
                raise CellsError(
                    f"too few people for a split: class {label!r} has {found} person(s) in {split!r}, expected at "
                    f"least two; there are {people} people in all. Give more people, larger split.val_fraction and "
                    "split.test_fraction, or another split.seed"
                )


def _without_suffix(name: str) -> str:
    return name.rsplit(".", 1)[0]


def _smear_of(name: str, pattern: str | None) -> str:
    match = re.search(pattern, name) if pattern else None
    return (match and match.group(1)) or ""
