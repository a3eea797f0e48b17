"""Nodes of the reader study; those that score yield nothing where nobody has answered yet, and nothing is saved."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.observer import observer
from malaria_diffusion.studies.reader.answers import ALL, read_answers
from malaria_diffusion.studies.reader.config import ReaderStudyParameters
from malaria_diffusion.studies.reader.figure import readers_figure
from malaria_diffusion.studies.reader.key import Key, draw_key
from malaria_diffusion.studies.reader.score import score_readers, sentence
from malaria_diffusion.studies.reader.sheet import render_sheet

logger = logging.getLogger(__name__)


def make_sheet(cells: Cells, synthetic_cells: Cells, reader_study: ReaderStudyParameters) -> tuple[Key, str]:
    """Choose unseen and synthetic cells, seal which is which, and show them on a sheet."""
    key = draw_key(cells.part("test"), synthetic_cells, reader_study)
    return key, render_sheet(key, cells, synthetic_cells, reader_study)


def judge_readers(key: Key, answers: Path | None) -> Iterator[pd.DataFrame]:
    """Hold the answers that readers have sent back against the key."""
    found = read_answers(answers, key) if answers else pd.DataFrame()
    if found.empty:
        logger.info("nobody has answered yet: send sheet.html to readers, and put their files into answers beside it")
        return
    for reader, own in found.groupby("reader"):
        if len(own) < len(key.cells):
            logger.warning("%s has left %d of %d cells unanswered", reader, len(key.cells) - len(own), len(key.cells))
    scores = score_readers(found, key)
    logger.info("%s", sentence(scores))
    together = scores[scores["reader"] == ALL]
    values = {
        f"{row['measure']}.{row['group']}": {"value": row["value"], "low": row["low"], "high": row["high"]}
        for row in together.to_dict("records")
    }
    observer().log_metrics({"readers": {"number": found["reader"].nunique()} | values})
    observer().set_tags(readers=sentence(scores))
    yield scores.assign(sheet=key.commitment)


def draw_readers(key: Key, scores: pd.DataFrame | None) -> Iterator[Figure]:
    """Draw how often readers were right."""
    if scores is not None and (scores["sheet"] == key.commitment).all():  # and not of a sheet before
        yield readers_figure(scores, key)
