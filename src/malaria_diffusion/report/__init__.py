"""The report: one HTML file that needs nothing else."""

from malaria_diffusion.report.headlines import headlines
from malaria_diffusion.report.render import FIGURES, render_report
from malaria_diffusion.report.results import Results

__all__ = ["FIGURES", "Results", "headlines", "render_report"]
