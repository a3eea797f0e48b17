"""What a user may set, checked before anything is computed. Imports no torch: a typo is reported in a second."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from malaria_diffusion.compute.config import DeviceName, PrecisionName
from malaria_diffusion.config import Parameters, flat

Decay = Annotated[float, Field(ge=0, lt=1)]


class ScheduleKind(StrEnum):
    """How the variances of the forward process are chosen."""

    LINEAR = "linear"
    COSINE = "cosine"
    LEARNED = "learned"


class Prediction(StrEnum):
    """What the network is trained to predict; the values are diffusers' names."""

    EPSILON = "epsilon"
    X_0 = "sample"
    V = "v_prediction"


class Variance(StrEnum):
    """Variance of the reverse process, an untrained constant for each step (eq. 10)."""

    BETA = "beta"
    BETA_TILDE = "beta_tilde"


class Loss(StrEnum):
    """What training minimises."""

    SIMPLE = "simple"
    BOUND = "bound"
    MIN_SNR = "min_snr"


class ProcessParameters(Parameters):
    """The diffusion process.

    Attributes:
        timesteps: Number of diffusion steps T.
        schedule: "linear" (Ho et al. 2020), "cosine" (Nichol & Dhariwal 2021) or "learned" (trained together with the
            network, starting from the linear one; needs the loss "bound").
        beta_start: First variance of the linear schedule; the cosine one has no ends to choose and leaves it aside.
        beta_end: Last variance of the linear schedule; as beta_start.
        prediction: "epsilon" (the paper), "sample" (x_0) or "v_prediction" (Salimans & Ho 2022).
    """

    timesteps: int = Field(1000, ge=2, le=10_000)
    schedule: ScheduleKind = ScheduleKind.LINEAR
    beta_start: float = Field(0.0001, gt=0, lt=1)
    beta_end: float = Field(0.02, gt=0, lt=1)
    prediction: Prediction = Prediction.V

    @model_validator(mode="after")
    def _increasing(self) -> ProcessParameters:
        if self.beta_start > self.beta_end:
            raise ValueError(f"beta_start ({self.beta_start}) must not exceed beta_end ({self.beta_end})")
        return self


class NetworkParameters(Parameters):
    """A U-Net.

    Attributes:
        patch_size: p: the network sees patches of p x p pixels as channels, at 1/p of the side, and answers likewise
            (pixel-unshuffle). White noise stays white noise, so the diffusion process is the same for every p.
        channels: Channels at each resolution, from S / p down, halving the side each time.
        layers_per_block: Residual layers at each resolution.
        attention_sides: Sides of the network's own maps, S / p and its halvings, at which self-attention is added; the
            middle of the network always has it.
        attention_head_channels: Channels of each head of the attention, at most those of the narrowest resolution; the
            more, the fewer and faster heads.
        scale_shift: Timestep and class scale and shift each residual layer's normalised channels (Dhariwal & Nichol
            2021, section 3.1), instead of shifting them alone.
        norm_groups: Groups of every group normalisation; must divide all channels.
        dropout: Probability in the residual layers.
    """

    # where models are older than a parameter, its default is what they were built with
    patch_size: int = Field(1, ge=1, le=8)
    channels: list[int] = Field([32, 64, 64], min_length=2, max_length=6)
    layers_per_block: int = Field(1, ge=1, le=4)
    attention_sides: list[int] = Field([])
    attention_head_channels: int = Field(8, ge=1)
    scale_shift: bool = False
    norm_groups: int = Field(8, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _divisible(self) -> NetworkParameters:
        for channels in self.channels:
            if channels < 1 or channels % self.norm_groups:
                raise ValueError(f"every one of channels {self.channels} must be a multiple of norm_groups")
        return self


class TrainingParameters(Parameters):
    """How the network is trained.

    Attributes:
        epochs: Passes over the training cells. The only length there is: more epochs continue a finished training.
        batch_size: Cells a step, over all processes.
        accumulation: Parts in which each process takes its share of a batch, to save memory.
        loss: "simple" (eq. 14 without its weight: mean squared error of what is predicted), "bound" (eq. 7: eq. 14 with
            its weight, and L_0) or "min_snr" (Hang et al. 2023).
        label_dropout: Share of the training cells that are shown without their class, so that the network learns to do
            without it too and can be guided (Ho & Salimans 2022). 0: it always needs the class.
        timestep_draw: "independent" (Ho et al. 2020), or "stratified": those of consecutive samples are spread evenly
            over the steps, so that the mean loss varies less (Kingma et al. 2021, appendix I.1).
        log_snr_deviation: None: all timesteps are as likely (the paper). A number: they are drawn so that the log
            signal-to-noise ratio is normal around 0 with this standard deviation, one in ten as before (after Hang et
            al. 2024). The validation loss is of uniform ones always. Not with the loss "bound", which is of all steps.
        optimizer: "adam" (the paper), "adamw", or "muon" (Jordan et al. 2024): the update of a convolution, and of a
            projection in attention, is orthogonalised, and has the size of an Adam update (Liu et al. 2025); all other
            weights are Adam's.
        learning_rate: After warm-up. With "muon", the weights that are Adam's take half of it.
        weight_decay: Of the optimizer: L2 penalty in Adam, decoupled in AdamW and Muon.
        warmup_steps: Steps over which the learning rate grows linearly from zero.
        decay_epochs: None: constant learning rate. A number: it falls along a cosine to zero over so many epochs,
            and `epochs` must not exceed it.
        gradient_clip: Largest norm of the gradient; None: unclipped.
        ema_decay: Decay of the averaged weights, reached gradually: at step s it is at most (1 + s) / (10 + s). Of
            several, averages are kept side by side, and the validation cells choose one whenever images are looked at;
            where nothing chooses, the first is used.
        flips: Flip cells at random, horizontally and vertically.
        quarter_turns: Turn them at random as well: with `flips`, all eight symmetries of a square.
        precision: "auto", "float32" or "bfloat16" (mixed).
        compile: Compile the network: a minute at the start, then faster steps.
        device: "auto", "cpu", "cuda" or "mps".
        seed: Of the weights, the order, and every draw.
        quality_epochs: Epochs between two looks at generated images, at which their kernel distance to the validation
            cells is measured; the weights with the smallest one are exported.
        quality_images: Images generated at each look.
        guide_epochs: Averaged weights (the first of several) after so many epochs are kept beside the finished ones, to
            guide by (Karras et al. 2024): sampling goes away from what so early a network says. None: none are kept.
    """

    epochs: int = Field(100, ge=1)
    batch_size: int = Field(16, ge=1)
    accumulation: int = Field(1, ge=1)
    loss: Loss = Loss.SIMPLE
    label_dropout: float = Field(0.1, ge=0, lt=1)
    timestep_draw: Literal["independent", "stratified"] = "independent"
    log_snr_deviation: float | None = Field(None, gt=0)
    optimizer: Literal["adam", "adamw", "muon"] = "muon"
    learning_rate: float = Field(0.002, gt=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, lt=1)
    warmup_steps: int = Field(200, ge=0)
    decay_epochs: int | None = Field(None, ge=1)
    gradient_clip: float | None = Field(1.0, gt=0)
    ema_decay: Decay | list[Decay] = 0.999
    flips: bool = True
    quarter_turns: bool = False
    precision: PrecisionName = "auto"
    compile: bool = False
    device: DeviceName = "auto"
    seed: int = Field(0, ge=0, lt=2**63)
    quality_epochs: int = Field(1, ge=1)
    quality_images: int = Field(500, ge=2)
    guide_epochs: int | None = Field(None, ge=1)

    @property
    def ema_decays(self) -> list[float]:
        """The decays, also if there is one."""
        return self.ema_decay if isinstance(self.ema_decay, list) else [self.ema_decay]

    @model_validator(mode="after")
    def _distinct_averages(self) -> TrainingParameters:
        if not self.ema_decays or len(set(self.ema_decays)) < len(self.ema_decays):
            raise ValueError(f"ema_decay must be a number or a list of different ones, found {self.ema_decay}")
        return self

    @model_validator(mode="after")
    def _all_steps_of_the_bound(self) -> TrainingParameters:
        if self.loss is Loss.BOUND and self.log_snr_deviation is not None:
            raise ValueError(
                f"log_snr_deviation ({self.log_snr_deviation}) makes some timesteps likelier, and the loss 'bound' is "
                "the sum over all; set it to null"
            )
        return self

    @model_validator(mode="after")
    def _within_decay(self) -> TrainingParameters:
        if self.decay_epochs is not None and self.epochs > self.decay_epochs:
            raise ValueError(
                f"epochs ({self.epochs}) exceeds decay_epochs ({self.decay_epochs}), after which the learning rate is "
                "zero; raise decay_epochs (a training of its own) or set it to null"
            )
        if self.quality_epochs > self.epochs:
            raise ValueError(
                f"quality_epochs ({self.quality_epochs}) exceeds epochs ({self.epochs}), so no epoch would be looked "
                "at and none be the best; lower it"
            )
        if self.guide_epochs is not None and self.guide_epochs > self.epochs:
            raise ValueError(
                f"guide_epochs ({self.guide_epochs}) exceeds epochs ({self.epochs}), so there would be no weights to "
                "guide by; lower it, or set it to null"
            )
        return self


class Solver(StrEnum):
    """How the reverse process is walked."""

    ANCESTRAL = "ancestral"
    DDIM = "ddim"
    DPM_SOLVER = "dpm-solver++"
    SDE_DPM_SOLVER = "sde-dpm-solver++"
    UNIPC = "unipc"


class Clipping(StrEnum):
    """What becomes of implied images x_0 that leave [-1, 1]."""

    NONE = "none"
    STATIC = "static"


class SamplingParameters(Parameters):
    """What is generated.

    Attributes:
        count: Images of each class, or a number for each class by name.
        seed: Image k of a seed is the same in any batch and any number of images before it.
        solver: "ancestral" (the paper's Algorithm 2, T evaluations), "ddim", "dpm-solver++", "unipc" or
            "sde-dpm-solver++" (DPM-Solver++ of the SDE, Lu et al. 2022). "ancestral" and "sde-dpm-solver++" add noise
            at every step, the others none.
        evaluations: Network evaluations an image of the fast solvers, 4 to T; the ancestral sampler always takes T.
        variance: Of the ancestral sampler's steps: "beta" or "beta_tilde" (eq. 9).
        clipping: "static" clips the implied x_0 to [-1, 1] at every step, "none" leaves it.
        guidance: 1 takes what the network says; more goes further, away from what it says without the class
            (classifier-free guidance; 0 is that alone) or, of a model that has one, from what its guide says (see
            `TrainingParameters.guide_epochs`), without the class too if both know how. All but 1 need a network trained
            with label dropout, or a guide.
        batch_size: Images at once; changes nothing but speed and memory.
        precision: "auto", "float32" or "bfloat16".
        device: "auto", "cpu", "cuda" or "mps".
    """

    count: int | dict[str, int] = 64
    seed: int = Field(0, ge=0, lt=2**63)
    solver: Solver = Solver.DPM_SOLVER
    evaluations: int | None = Field(20, ge=4)
    variance: Variance = Variance.BETA_TILDE
    clipping: Clipping = Clipping.STATIC
    guidance: float = Field(1.0, ge=0)
    batch_size: int = Field(25, ge=1)
    precision: PrecisionName = "auto"
    device: DeviceName = "auto"

    @field_validator("count", mode="before")
    @classmethod
    def _join_names(cls, count: Any) -> Any:
        return flat(count) if isinstance(count, dict) else count  # --params cuts the name "P. vivax" at its dot

    @model_validator(mode="after")
    def _consistent(self) -> SamplingParameters:
        numbers = self.count.values() if isinstance(self.count, dict) else [self.count]
        if any(number < 0 for number in numbers) or not sum(numbers):
            raise ValueError(f"count must be at least one image and never negative, found {self.count}")
        if (self.solver is Solver.ANCESTRAL) != (self.evaluations is None):
            raise ValueError(
                "evaluations is null for the ancestral solver, which takes all T steps, and a number for the others; "
                f"found solver={self.solver.value}, evaluations={self.evaluations}"
            )
        return self


class BoundParameters(Parameters):
    """How the variational bound is estimated.

    Attributes:
        images: Images of the test people.
        steps: Steps at which each image is looked at, drawn from as many parts of 2 to T; T - 1 or more: all.
        seed: Of the noise.
    """

    images: int = Field(256, ge=2)
    steps: int = Field(100, ge=1)
    seed: int = Field(0, ge=0, lt=2**63)
