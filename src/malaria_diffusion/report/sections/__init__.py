"""Sections of the report on what the validation builds on; other pipelines answer these."""

from malaria_diffusion.report.sections.cells.question import QUESTION as CELLS
from malaria_diffusion.report.sections.diffusion.question import QUESTION as DIFFUSION
from malaria_diffusion.report.sections.split.question import QUESTION as SPLIT
from malaria_diffusion.report.sections.steps.question import QUESTION as STEPS

SECTIONS = (CELLS, DIFFUSION, SPLIT, STEPS)
