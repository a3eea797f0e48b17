"""How many synthetic cells the classifier calls what they were meant to be."""

import pandas as pd

from malaria_diffusion.questions.question import Step
from malaria_diffusion.questions.recognition.measure import recognised_as_intended
from malaria_diffusion.statistics.config import ComparisonParameters


def measure_recognition(predictions: pd.DataFrame, parameters: ComparisonParameters) -> pd.DataFrame:
    """Rates of real and synthetic cells, and their difference."""
    compared = predictions[predictions["compared"]]
    real, synthetic = (compared[compared["source"] == source] for source in ("real", "synthetic"))
    return recognised_as_intended(real, synthetic, parameters.confidence)


STEPS = (Step(measure_recognition, ("predictions", "params:validation.comparison"), "recognised"),)
