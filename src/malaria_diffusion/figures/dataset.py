"""Figure 0: what the study has to work with."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.cells.split import SPLITS
from malaria_diffusion.figures.style import new_figure
from malaria_diffusion.statistics.comparison import MOST_CLASSES


def dataset_figure(table: pd.DataFrame, images: str) -> Figure:
    """People by split, cells by split and class, cells a person.

    Args:
        table: `cell_table`.
        images: What the images are, for the title.
    """
    figure = new_figure(9, 3)
    people_axes, cells_axes, per_person_axes = figure.subplots(1, 3)
    people = table.groupby("split")["person"].nunique().reindex(SPLITS)
    bars = people_axes.bar(SPLITS, people, color="#4c78a8")
    people_axes.bar_label(bars)
    people_axes.margins(y=0.15)
    people_axes.set_title("people")
    bottom = pd.Series(0, index=list(SPLITS))
    one_by_one = table["label"].nunique() <= MOST_CLASSES
    for label, part in table.groupby("label" if one_by_one else lambda _: "all classes"):
        count = part["split"].value_counts().reindex(SPLITS, fill_value=0)
        bars = cells_axes.bar(SPLITS, count, bottom=bottom, label=label)
        cells_axes.bar_label(bars, label_type="center", fontsize=8)
        bottom += count
    cells_axes.legend(fontsize=8 if table["label"].nunique() < 5 else 5)
    cells_axes.set_title(f"cells ({int(table['audit'].sum())} of train kept for the audit)", fontsize=9)
    per_person = table["person"].value_counts()
    per_person_axes.hist(per_person, bins=20, range=(0, 1.05 * per_person.max()), color="#4c78a8")
    per_person_axes.set_title("cells a person")
    per_person_axes.set_ylabel("people")
    known = table["person"].nunique()
    figure.suptitle(f"{len(table):,} {images}" + (f" of {known} people" if known < len(table) else ", nobody known"))
    return figure
