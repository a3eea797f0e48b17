"""The diffusion model as a classifier (Li et al. 2023; Clark & Jaini 2023).

torch is imported where it is used, so that the class may be named without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.lineage import refuse_other_cells
from malaria_diffusion.classifier.data import check_cells
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.errors import UserError
from malaria_diffusion.statistics.comparison import per_class_number
from malaria_diffusion.studies.generative.config import GenerativeParameters
from malaria_diffusion.studies.generative.elimination import Judgement, eliminate
from malaria_diffusion.studies.generative.rule import (
    Level,
    Question,
    Rule,
    check_validation_cells,
    choose_rule,
    fit_stages,
    folds,
)

if TYPE_CHECKING:
    from malaria_diffusion.diffusion.sampling import Denoiser
    from malaria_diffusion.studies.generative.losses import PairedDenoising


class Validated(NamedTuple):
    """Validation people's cells and what was found of them.

    Attributes:
        cells: Which, N.
        losses: (N, K, L, D): under each class, at each level, for each draw of the noise.
    """

    cells: Cells
    losses: NDArray[np.float64]


@dataclass(frozen=True)
class GenerativeClassifier:
    """A cell is of the class under which it is denoised best.

    The log-odds of two classes are a weighted sum of paired differences of their losses. With all levels of noise
    weighted by their share of the log-SNR they would be those of the variational bound (Kingma et al. 2021, eq. 15);
    here a logistic regression on validation people says what each is worth.

    Attributes:
        denoising: Gives the losses.
        rule: What to look at, and what it is worth.
        class_names: In the order of the class indices.
        size: Side of the cells in pixels.
        give_up: See `GenerativeParameters`.
        validated: What the rule was chosen by.
        free: Class indices that stand for "any": that of no class if the model knows one, else all of them.
    """

    denoising: PairedDenoising
    rule: Rule
    class_names: list[str]
    size: int
    give_up: float
    validated: Validated
    free: list[int]

    @classmethod
    def fit(cls, model: DiffusionModel, cells: Cells, parameters: GenerativeParameters) -> Self:
        """Choose the rule by validation people's cells.

        Raises:
            UserError: a model of one class or that trained on other cells than those of this split, or too few
                validation cells.
        """
        check_model(model, cells)
        return cls.of_denoiser(model.denoiser, cells, parameters)

    @classmethod
    def of_denoiser(cls, denoiser: Denoiser, cells: Cells, parameters: GenerativeParameters) -> Self:
        """The same of a network whose training people are known to be none of those who validate or test.

        Raises:
            UserError: too few validation cells.
        """
        from malaria_diffusion.compute.device import Compute
        from malaria_diffusion.studies.generative.losses import PairedDenoising, levels_at

        val = some_of_each(cells.part("val"), parameters.validation_cells, parameters.seed)
        check_validation_cells(val.classes, val.people, cells.class_names)
        compute = Compute.of(parameters.device, parameters.precision)
        denoising = PairedDenoising(denoiser, compute, parameters.batch_size, parameters.seed)
        levels = levels_at(denoiser.diffusion, parameters.log_snrs)
        losses = _all_losses(denoising, val, levels, parameters.draws)
        rule = choose_rule(losses, val.classes, val.people, levels, parameters.looks)
        null = denoiser.null_class
        free = list(range(len(cells.class_names))) if null is None else [null]
        return cls(denoising, rule, cells.class_names, cells.size, parameters.give_up, Validated(val, losses), free)

    def judge(self, pixels: NDArray[np.uint8], keys: NDArray[np.int64]) -> Judgement:
        """Probabilities of the classes.

        Args:
            pixels: uint8, (N, 3, S, S).
            keys: Of each cell's noise, (N,), such as its place in the set.

        Raises:
            UserError: cells of another size.
        """
        self.check_size(pixels)

        def ask(rows: NDArray[np.int64], look: int, asked: NDArray[np.bool_]) -> NDArray[np.float64]:
            return self.denoising.losses(pixels[rows], keys[rows], self._question(look), asked)

        return eliminate(ask, self.rule, len(pixels), len(self.class_names), self.give_up)

    def judge_validated(self, give_up: float | None = None) -> Judgement:
        """The same of the validation cells, whose losses are known; each by weights fitted to other people."""
        limit = self.give_up if give_up is None else give_up
        cells, losses = self.validated
        plan, draws = self.rule.plan, self.rule.draws
        probabilities, evaluations = np.empty(losses.shape[:2]), np.empty(len(losses), np.int64)
        for fitted, judged in folds(cells.people):
            rule = self.rule._replace(stages=fit_stages(losses[fitted], cells.classes[fitted], plan))

            def ask(
                rows: NDArray[np.int64],
                look: int,
                asked: NDArray[np.bool_],
                known: NDArray[np.float64] = losses[judged],
            ) -> NDArray[np.float64]:
                return np.where(asked, known[rows, :, plan[look], draws[look]], np.nan)

            found = eliminate(ask, rule, len(judged), len(self.class_names), limit)
            probabilities[judged], evaluations[judged] = found
        return Judgement(probabilities, evaluations)

    def maps(self, pixels: NDArray[np.uint8], keys: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Where in a cell two classes differ: each pixel's part of their log-odds, (N, S, S).

        The parts of a cell sum to the log-odds of all looks, less the difference of the two biases.

        Args:
            pixels: uint8, (N, 3, S, S).
            keys: See `judge`.
            pairs: Of each cell the class that the map speaks for, and the one against which, (N, 2).
        """
        self.check_size(pixels)
        asked = np.zeros((len(pixels), len(self.class_names)), bool)
        each = np.arange(len(pixels))
        asked[each[:, None], pairs] = True
        levels, weights = sorted(set(self.rule.plan)), self.rule.stages[-1].weights
        total = np.zeros((len(pixels), self.size, self.size))
        for look, level in enumerate(tqdm(self.rule.plan, desc="maps", unit="look")):
            found = self.denoising.maps(pixels, keys, self._question(look), asked)
            worth = weights[levels.index(level)] / self.rule.plan.count(level)
            total += worth * (found[each, pairs[:, 1]] - found[each, pairs[:, 0]])
        return total

    def typicality(self, pixels: NDArray[np.uint8], keys: NDArray[np.int64], draws: int) -> NDArray[np.float64]:
        """Log of the loss at each level when the class is left open, (N, L).

        Of a model that always needs the class it is the loss under the class that denoises the cell best.
        """
        self.check_size(pixels)
        found = np.zeros((len(pixels), len(self.free), len(self.rule.levels)))
        asked = np.ones(found.shape[:2], bool)
        for place, level in enumerate(tqdm(self.rule.levels, desc="losses", unit="level", leave=False)):
            for draw in range(draws):
                question = Question(level.t, draw)
                found[:, :, place] += self.denoising.losses(pixels, keys, question, asked, self.free) / draws
        best = np.log(found).mean(axis=2).argmin(axis=1)
        chosen: NDArray[np.float64] = np.log(found[np.arange(len(pixels)), best])
        return chosen

    def check_size(self, pixels: NDArray[np.uint8]) -> None:
        """Make sure that the model knows cells of this size.

        Raises:
            UserError: it does not.
        """
        check_cells(pixels)
        if pixels.shape[-1] != self.size:
            raise UserError(
                f"cells of {pixels.shape[-1]} px, but the diffusion model is of {self.size} px: pack them with "
                f"data_processing.packing.size {self.size}"
            )

    def _question(self, look: int) -> Question:
        return Question(self.rule.levels[self.rule.plan[look]].t, self.rule.draws[look])


def check_model(model: DiffusionModel, cells: Cells) -> None:
    """Make sure that a model can judge the test cells of a split.

    Raises:
        UserError: it knows one class only, or cells of another size.
        LineageError: it trained on other cells than the training cells of this split.
    """
    lineage = model.lineage
    if len(lineage.class_names) < 2:
        raise UserError(
            f"model {lineage.identity} knows one class only, {lineage.class_names[0]!r}, so there is nothing to tell "
            "apart: train on images of two classes or more"
        )
    if lineage.size != cells.size:
        raise UserError(
            f"cells of {cells.size} px, but model {lineage.identity} is of {lineage.size} px: pack them with "
            f"data_processing.packing.size {lineage.size}, or train on these"
        )
    refuse_other_cells(lineage.model_dump(mode="json"), cells.fingerprint, cells.table)


def some_of_each(cells: Cells, number: int, seed: int) -> Cells:
    """At most `number` cells, as many of each class, at random.

    Raises:
        UserError: a class is missing, or there are more classes than cells.
    """
    if missing := sorted(set(cells.class_names) - set(cells.labels)):
        raise UserError(
            f"no cell of class {missing[0]!r} among the {len(cells)} of these people: raise "
            "data_processing.split.val_fraction and test_fraction"
        )
    if number < len(cells.class_names):
        raise UserError(f"{number} cells cannot hold {len(cells.class_names)} classes: raise the numbers in generative")
    return cells.balanced(per_class_number(number, cells.table), np.random.default_rng(seed))


def _all_losses(denoising: PairedDenoising, cells: Cells, levels: list[Level], draws: int) -> NDArray[np.float64]:
    pixels, asked = cells.pixels, np.ones((len(cells), len(cells.class_names)), bool)
    losses = np.empty((*asked.shape, len(levels), draws))
    with tqdm(total=len(levels) * draws, desc="losses of validation cells", unit="look") as bar:
        for place, level in enumerate(levels):
            for draw in range(draws):
                losses[:, :, place, draw] = denoising.losses(pixels, cells.places, Question(level.t, draw), asked)
                bar.update()
    return losses
