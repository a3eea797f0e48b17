"""The report: one HTML file that needs nothing else."""

from malaria_diffusion.report.card import evaluated_card
from malaria_diffusion.report.claims import fit_of
from malaria_diffusion.report.headlines import headlines
from malaria_diffusion.report.render import FIGURES, render_report
from malaria_diffusion.report.results import Results

__all__ = ["FIGURES", "Results", "evaluated_card", "fit_of", "headlines", "render_report"]
