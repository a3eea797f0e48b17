"""Nodes of the data_processing pipeline."""

import logging
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.decode import BITS
from malaria_diffusion.cells.fingerprint import fingerprint_cells
from malaria_diffusion.cells.grey import all_grey
from malaria_diffusion.cells.packing import PackingParameters, pack_cells
from malaria_diffusion.cells.sources import ImageSource
from malaria_diffusion.cells.split import SplitParameters, assign_splits
from malaria_diffusion.cells.summary import cells_by_class, counted, repeated_folders, summarise
from malaria_diffusion.figures.dataset import dataset_figure

DARK = 64  # of 255; an image whose range is in use has brighter pixels somewhere

logger = logging.getLogger(__name__)


def prepare_cells(
    raw_cells: ImageSource, workspace: Path, packing: PackingParameters, split: SplitParameters
) -> tuple[Cells, pd.DataFrame]:
    """Pack and split in one node: an archive that cannot be split leaves the earlier cells untouched."""
    packed = pack_cells(raw_cells, packing, workspace / "packing.npy")
    table = assign_splits(packed.table, split)
    logger.info("classes, which are the innermost folders: %s", counted(cells_by_class(table)))
    repeated, parents = repeated_folders(table)
    if repeated:
        logger.warning(
            "every one of the folders %s has a folder %s: the latter are understood as classes, and the former as "
            "nothing at all; lay the images out anew if that is wrong",
            ", ".join(parents),
            ", ".join(repeated),
        )
    if packed.bits > BITS[0]:
        logger.info(
            "16-bit images: none is brighter than %d bits, so 0 to %d became 0 to 255", packed.bits, 2**packed.bits - 1
        )
    if (brightest := int(packed.cells.max())) < DARK:
        logger.warning(
            "no packed image is brighter than %d of 255: are they masks, or 16-bit colour of which fewer bits are in "
            "use? Store them with 8 bits and their full range",
            brightest,
        )
    if split.person_patterns:
        logger.info("packed %d images of %d people", len(table), table["person"].nunique())
    else:
        logger.warning(
            "packed %d images. No people known (split.person_patterns is empty): each image counts as one. If some are "
            "of one person, they train and test alike, and every number flatters",
            len(table),
        )
    if len(packed.rejected):
        reasons = packed.rejected["reason"].str.split(":").str[0].value_counts().to_dict()
        logger.warning("rejected %d files, see rejected_cells: %s", len(packed.rejected), reasons)
    if synthetic := int(table["synthetic"].sum()):
        logger.warning("%d of %d images say that they are synthetic", synthetic, len(table))
    about = summarise(table, packed.rejected, packing, split) | {
        "source": str(raw_cells.location),
        "fingerprint": fingerprint_cells(packed.cells, table),
        "grey": all_grey(packed.cells),
    }
    return Cells(packed.cells, table, about), packed.rejected


def draw_dataset(cells: Cells) -> Figure:
    """Figure 0: people and cells by split and class."""
    return dataset_figure(cells.table, cells.kind)
