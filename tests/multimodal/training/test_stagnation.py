"""The learning rate drops where the loss stagnates, and nowhere else."""

from types import SimpleNamespace

import pytest
import torch

from multimodal.training.stagnation import DropOnStagnation


class Rates(SimpleNamespace):
    """What the callback sees of a training."""

    rate_scale, global_step = 1.0, 0

    def scale_rates(self, scale):
        self.rate_scale = scale


def scales(losses, callback, training=None):
    """The rate's scale after each loss."""
    training = training or Rates()
    found = []
    for loss in losses:
        training.step_loss = torch.tensor(float(loss))
        callback.on_step(None, training)
        found.append(training.rate_scale)
    return found


def test_drops_after_patience_without_a_better_window():
    callback = DropOnStagnation(factor=0.5, window=2, patience=2, margin=0.0)
    # window means: 4, 3 | 3.5 (worse), 3 (equal): drop | 2.9 better, 3, 2.95: drop
    losses = [4, 4, 3, 3, 4, 3, 3, 3, 2.9, 2.9, 3, 3, 2.9, 3]
    found = scales(losses, callback)
    assert found == [1.0] * 7 + [0.5] * 6 + [0.25]


def test_a_falling_loss_drops_nothing():
    falling = [0.99**step for step in range(200)]
    callback = DropOnStagnation(window=5, patience=1, margin=0.001)
    assert set(scales(falling, callback)) == {1.0}


def test_what_falls_by_less_than_the_margin_stagnates():
    callback = DropOnStagnation(factor=0.5, window=1, patience=1, margin=0.1)
    assert scales([1.0, 0.95, 0.8], callback) == [1.0, 0.5, 0.5]


@pytest.mark.parametrize("cut", range(1, 12))
def test_goes_on_from_its_state(cut):
    losses = [4, 4, 3, 3, 4, 3, 3, 3, 2.9, 2.9, 3, 3, 2.9, 3]
    settings = {"factor": 0.5, "window": 2, "patience": 2, "margin": 0.0}
    whole = scales(losses, DropOnStagnation(**settings))
    first = DropOnStagnation(**settings)
    scales(losses[:cut], first)
    second = DropOnStagnation(**settings)
    second.load_state_dict(first.state_dict())
    training = Rates()
    second.on_begin(None, training)
    assert scales(losses[cut:], second, training) == whole[cut:]


@pytest.mark.parametrize("settings", [{"factor": 1.5}, {"window": 0}, {"patience": 0}])
def test_senseless_settings_are_refused(settings):
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        DropOnStagnation(**settings)
