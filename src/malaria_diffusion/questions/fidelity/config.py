"""What a user may set of fidelity."""

from __future__ import annotations

from malaria_diffusion.config import Parameters


class FidelityParameters(Parameters):
    """In which public space, beside the study's own, synthetic cells are compared with real ones.

    Attributes:
        inception_weights: Path of the weights of Inception-v3 that FID and KID are defined by, see
            `questions.fidelity.inception.URL`. None: these two are not measured. It takes about a quarter of a second
            an image on a processor's core.
    """

    inception_weights: str | None = None
