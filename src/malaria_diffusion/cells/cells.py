"""The cells: images, whose they are and what they are for, and how they came to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.cells.errors import CellsError
from malaria_diffusion.cells.fingerprint import state_of
from malaria_diffusion.cells.split import training_rows

Part = Literal["train", "val", "test", "audit"]


@dataclass(frozen=True, eq=False)
class Cells:
    """Images with a table that says whose each is, and facts that all have in common.

    A part of cells, `cells[rows]`, is a view: pixels are read when they are asked for.

    Attributes:
        images: uint8, (M, 3, S, S), RGB: all of the set, usually a memory map. `pixels` are those of these cells.
        table: A row a cell, of which there are N: label, and of real cells path, name, person, smear, split, audit and
            sha256. Its index is that of the whole set.
        about: What all have in common: see `summary.summarise` of packed cells, `of_model` of generated ones.
        lineage: Of the model that generated them, see `diffusion.model.Lineage`; None of packed cells.
        rows: Where these cells are in the set, (N,); None: they are all of it.

    Raises:
        CellsError: images and rows of the table differ in number.
    """

    images: NDArray[np.uint8]
    table: pd.DataFrame
    about: dict[str, Any]
    lineage: dict[str, Any] | None = None
    rows: NDArray[np.int64] | None = None

    @classmethod
    def of_model(cls, images: NDArray[np.uint8], table: pd.DataFrame, lineage: dict[str, Any]) -> Cells:
        """Generated cells: their images, table and the lineage of their model."""
        about = {"images": "synthetic cells", "classes": lineage["class_names"], "grey": lineage.get("grey", False)}
        return cls(images, table, about, lineage)

    def __post_init__(self) -> None:
        if (rows := len(self.images) if self.rows is None else len(self.rows)) != len(self.table):
            raise CellsError(f"every cell needs one row of the table, found {rows} cells and {len(self.table)} rows")

    def __deepcopy__(self, memo: dict[int, Any]) -> Cells:
        """Itself, as nothing of it is changed; Kedro would copy all pixels for every node."""
        return self

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, chosen: NDArray[np.integer] | NDArray[np.bool_] | pd.Series | Sequence[int] | slice) -> Cells:
        """The cells at these places, or where a mask says so."""
        places = np.arange(len(self))[np.asarray(chosen) if not isinstance(chosen, slice) else chosen]
        return Cells(self.images, self.table.iloc[places], self.about, self.lineage, self.places[places])

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """uint8, (N, 3, S, S); of a part read anew each time."""
        return self.images if self.rows is None else self.images[self.rows]

    @property
    def places(self) -> NDArray[np.int64]:
        """Where these cells are in the set, (N,)."""
        return np.arange(len(self)) if self.rows is None else self.rows

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return int(self.images.shape[-1])

    @cached_property
    def labels(self) -> NDArray[np.str_]:
        """Name of the class of each cell."""
        return self.table["label"].to_numpy(dtype=str)

    @cached_property
    def people(self) -> NDArray[np.str_]:
        """Whose each cell is; of a generated cell, which shows nobody, its place in the set."""
        if "person" in self.table:
            return self.table["person"].to_numpy(dtype=str)
        return self.places.astype(str)

    @property
    def class_names(self) -> list[str]:
        """All classes of the set, sorted: class k of a model is the k-th."""
        return list(self.about["classes"])

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        """Index of the class of each cell in `class_names`."""
        return self.table["label"].map(self.class_names.index).to_numpy(np.int64)

    def part(self, name: Part) -> Cells:
        """The cells of the training people that may be trained on, of the validation or test people, or kept out of
        training to audit it.
        """
        if name == "train":
            return self[training_rows(self.table)]
        return self[self.table["audit"] if name == "audit" else self.table["split"] == name]

    def balanced(self, per_class: int, rng: np.random.Generator) -> Cells:
        """`per_class` random cells of each class, without repetition, in their order."""
        places = [
            rng.permutation(np.flatnonzero(self.labels == label))[:per_class] for label in sorted(set(self.labels))
        ]
        return self[np.sort(np.concatenate(places))]

    @property
    def phantom(self) -> bool:
        """Whether they, or what their model learned from, were drawn by a program."""
        return bool(self.lineage["phantom"]) if self.lineage else self.about["images"] == "phantom cells"

    @property
    def origin(self) -> str:
        """What they are, or what their model learned from: "phantom cells" or "real cells"."""
        return "phantom cells" if self.phantom else "real cells"

    @property
    def grey(self) -> bool:
        """Whether the three channels of every image are equal."""
        return bool(self.about["grey"])

    @property
    def background(self) -> tuple[int, int, int]:
        """RGB of what is around a cell."""
        red, green, blue = self.about["background"]
        return red, green, blue

    @property
    def fingerprint(self) -> str:
        """Of all pixels, names and labels of the set, however it is split."""
        return str(self.about["fingerprint"])

    @property
    def state(self) -> str | None:
        """Fingerprints of the whole set, of its images and its table, so also of how it is split; None before it has
        been saved.
        """
        return state_of(self.about)

    @property
    def kind(self) -> str:
        """What the images are: "real cells", "phantom cells" or "synthetic cells"."""
        return str(self.about["images"])

    @property
    def caption(self) -> str:
        """What the test cells are, in words: "phantom cells of unseen people"."""
        return f"{self.kind} of {self.about['unseen']}"
