"""From images to cells that are packed and split."""

import logging
from pathlib import Path

import pandas as pd

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.decode import BITS
from malaria_diffusion.cells.fingerprint import fingerprints_of
from malaria_diffusion.cells.grey import all_grey
from malaria_diffusion.cells.packing import PackingParameters, pack_cells
from malaria_diffusion.cells.sources import ImageSource, open_source
from malaria_diffusion.cells.split import SplitParameters, assign_splits
from malaria_diffusion.cells.summary import cells_by_class, counted, repeated_folders, summarise

DARK = 64  # of 255; an image whose range is in use has brighter pixels somewhere

logger = logging.getLogger(__name__)


def pack(
    images: str | Path,
    folder: str | Path,
    packing: PackingParameters | None = None,
    split: SplitParameters | None = None,
) -> Cells:
    """Pack images into one array, and people into train, val and test.

    Args:
        images: A zip or a folder of class folders.
        folder: Where the array is written, as packing.npy.
        packing: How crops become squares; None: as `PackingParameters` has it.
        split: Who is who, and who is for what; None: as `SplitParameters` has it.

    Raises:
        UserError: no images, or none that can be used or split; files that cannot be used are only left out.
    """
    target = Path(folder) / "packing.npy"
    packing, split = packing or PackingParameters(), split or SplitParameters()
    return prepare_cells(open_source(Path(images)), target, packing, split)[0]


def prepare_cells(
    source: ImageSource, target: Path, packing: PackingParameters, split: SplitParameters
) -> tuple[Cells, pd.DataFrame]:
    """Cells, and the files that were left out and why."""
    packed = pack_cells(source, packing, target)
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
    about = summarise(table, packed.rejected, packing, split) | fingerprints_of(packed.cells, table)
    about |= {"source": str(source.location), "grey": all_grey(packed.cells)}
    return Cells(packed.cells, table, about), packed.rejected
