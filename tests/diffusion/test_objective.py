"""What is trained: the loss of samples as a function of all weights."""

import numpy as np
import pytest
import torch

from malaria_diffusion.compute.randomness import Purpose, draw_samples
from malaria_diffusion.diffusion.config import Loss, ScheduleKind
from malaria_diffusion.diffusion.process.loss import prior_term, training_loss
from malaria_diffusion.diffusion.process.schedule import schedule_from_parameters
from malaria_diffusion.diffusion.training.data import Batch, read_batch
from malaria_diffusion.diffusion.training.objective import Objective
from malaria_diffusion.errors import UserError

SCHEDULES_AND_LOSSES = [
    ("linear", "simple"),
    ("cosine", "simple"),
    ("linear", "min_snr"),
    ("linear", "bound"),
    ("learned", "bound"),
]


@pytest.fixture
def build(process, network_parameters, parameters):
    def build_with(schedule="linear", loss="simple", label_dropout=0.0, precision=torch.float32, prediction="epsilon"):
        torch.manual_seed(0)
        return Objective(
            process.model_validate(process.model_dump() | {"schedule": schedule, "prediction": prediction}),
            network_parameters,
            parameters.model_copy(update={"loss": Loss(loss), "label_dropout": label_dropout}),
            8,
            2,
            precision,
        ).eval()

    return build_with


@pytest.fixture
def batch(data):
    draw = draw_samples(0, Purpose.SAMPLE, range(6), 20, (3, 8, 8))
    return read_batch(data, np.arange(6), draw._replace(t=torch.tensor([0, 1, 5, 10, 18, 19])))


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize(("schedule", "loss"), SCHEDULES_AND_LOSSES)
@torch.no_grad()
def test_loss_is_that_of_the_networks_answer_at_x_t(build, batch, schedule, loss, prediction):
    objective = build(schedule, loss, prediction=prediction)
    diffusion = objective.diffusion
    x_0 = batch.images.float() / 127.5 - 1
    bars = diffusion.schedule.alpha_bars.float()[batch.t].view(-1, 1, 1, 1)
    x_t = bars.sqrt() * x_0 + (1 - bars).sqrt() * batch.epsilon
    output = objective.network(x_t, batch.t, class_labels=batch.labels).sample
    expected = training_loss(diffusion, output, x_0, x_t, batch.t, batch.epsilon, Loss(loss))
    if loss == "bound":
        expected = expected + prior_term(diffusion, x_0)
    assert torch.allclose(objective(batch), expected, rtol=1e-3)


def test_loss_of_a_sample_does_not_depend_on_its_batch(build, batch):
    objective = build("learned", "bound")
    alone = torch.cat([objective(Batch(*(part[row : row + 1] for part in batch))) for row in range(6)])
    assert torch.allclose(objective(batch), alone, rtol=1e-4)


def test_loss_depends_on_the_class(build, batch):
    objective = build(label_dropout=0.1)
    losses = [objective(batch._replace(labels=torch.full_like(batch.labels, label))) for label in range(3)]
    for index, loss in enumerate(losses):
        assert all((loss - other).abs().max() > 1e-5 for other in losses[:index])


def test_only_with_label_dropout_there_is_a_class_that_stands_for_none(build):
    without, with_one = build(), build(label_dropout=0.1)
    assert (without.null_class, with_one.null_class) == (None, 2)
    assert [objective.network.class_embedding.num_embeddings for objective in (without, with_one)] == [2, 3]


@pytest.mark.parametrize(("schedule", "loss"), SCHEDULES_AND_LOSSES)
def test_every_weight_has_a_gradient(build, batch, schedule, loss):
    objective = build(schedule, loss, prediction="v_prediction")
    objective(batch).mean().backward()
    without = [name for name, weight in objective.named_parameters() if weight.grad is None]
    assert without == []
    assert all(weight.grad.isfinite().all() for weight in objective.parameters())
    schedule_weights = [weight for name, weight in objective.named_parameters() if name.startswith("schedule.")]
    assert len(schedule_weights) == (3 if schedule == "learned" else 0)
    assert all(weight.grad.abs().max() > 0 for weight in schedule_weights)


def test_a_schedule_is_felt_at_its_first_its_last_and_every_other_step(build, batch):
    """The network's terms alone leave the end, and the first step, to chance: L_0 and L_T hold them."""
    for t, felt in ((0, "first"), (5, "logits"), (19, "log_range")):
        objective = build("learned", "bound")
        objective(batch._replace(t=torch.full_like(batch.t, t))).mean().backward()
        assert getattr(objective.schedule, felt).grad.abs().max() > 1e-6


@pytest.mark.parametrize("loss", ["simple", "min_snr"])
def test_a_learned_schedule_needs_the_bound(build, loss):
    with pytest.raises(UserError, match=rf"process\.schedule 'learned' needs .*training\.loss 'bound', found '{loss}'"):
        build("learned", loss)


@pytest.mark.parametrize("schedule", ScheduleKind)
def test_a_process_begins_as_the_parameters_say(build, process, schedule):
    objective = build(schedule, "bound")
    expected = schedule_from_parameters(process.model_copy(update={"schedule": schedule})).alpha_bars
    assert torch.allclose(objective.diffusion.schedule.alpha_bars, expected, rtol=1e-5)


def test_a_learned_process_follows_its_weights_at_once(build):
    objective = build("learned", "bound")
    before = objective.diffusion.schedule.alpha_bars
    with torch.no_grad():
        objective.schedule.first.add_(1)
    assert (objective.diffusion.schedule.alpha_bars < before).all()


def test_only_weights_that_are_trained_are_state(build):
    fixed, learned = build(), build("learned", "bound")
    assert {name.split(".")[0] for name in fixed.state_dict()} == {"network"}
    assert learned.state_dict().keys() - fixed.state_dict().keys() == {
        f"schedule.{name}" for name in ("first", "log_range", "logits")
    }
    assert fixed.state_dict().keys() == dict(fixed.named_parameters()).keys()


@torch.no_grad()
def test_in_mixed_precision_the_loss_is_still_computed_in_float32(build, batch):
    exact, mixed = build()(batch), build(precision=torch.bfloat16)(batch)
    assert mixed.dtype == torch.float32
    assert not torch.equal(exact, mixed)
    assert torch.allclose(exact, mixed, rtol=0.05)
