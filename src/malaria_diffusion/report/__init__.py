"""The report: one HTML file that needs nothing else."""

from malaria_diffusion.report.card import evaluated_card
from malaria_diffusion.report.contents import figure_names, headlines, result_names
from malaria_diffusion.report.render import render_report
from malaria_diffusion.report.summary import summary_of

__all__ = ["evaluated_card", "figure_names", "headlines", "render_report", "result_names", "summary_of"]
