"""Steps that are left out: none changes a weight, and a run of them ends."""

from types import SimpleNamespace

import pytest
import torch

from language.errors import InputError
from multimodal.training.faulty_steps import FaultySteps
from tests.multimodal.training.fakes import Counting, Recorder


class Poisoned(Counting):
    """Pictures, of which those of some batches are no numbers."""

    def __init__(self, *steps: int) -> None:
        super().__init__(pictures=True)
        self.steps = steps

    def train_dataloader(self):
        batches = list(super().train_dataloader())
        for step in self.steps:
            batches[step].images.tiles[:] = torch.nan
        return torch.utils.data.DataLoader(batches, batch_size=None)


class Weights(Recorder):
    """Notes the weights after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[list[torch.Tensor]] = []

    def on_train_batch_end(self, trainer, pl_module, *rest) -> None:
        super().on_train_batch_end(trainer, pl_module, *rest)
        self.weights.append([p.detach().clone() for _, p in pl_module.trainable()])


def test_a_step_without_numbers_changes_nothing(adapt, capsys):
    weights = Weights()
    module, recorder = adapt(
        data=Poisoned(2, 5), callbacks=[weights, FaultySteps()], trainer={"max_steps": 8}
    )
    changed = [
        any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
        for before, after in zip(weights.weights, weights.weights[1:], strict=False)
    ]
    assert changed == [True, False, True, True, False, True, True]
    assert all(torch.isfinite(p).all() for _, p in module.trainable())
    said = capsys.readouterr().out
    assert "step 2 left out: loss nan, gradient norm nan" in said
    assert "2 steps were left out" in said


def test_too_many_in_a_row_end_the_run(adapt):
    with pytest.raises(InputError, match="3 steps one after another were left out"):
        adapt(data=Poisoned(1, 3, 4, 5), callbacks=[FaultySteps(most_in_a_row=2)])


def test_a_gradient_far_from_the_usual_is_left_out():
    guard = FaultySteps(spike=10.0)
    guard._trainer = SimpleNamespace(global_step=7, datamodule=None)
    one = torch.tensor(1.0)
    assert not guard.is_faulty(one, torch.tensor(1e6))  # nothing is usual yet
    for size in range(1, 31):
        assert not guard.is_faulty(one, torch.tensor(float(size)))
    assert guard.is_faulty(one, torch.tensor(200.0))
    again = FaultySteps(spike=10.0)
    again._trainer = guard._trainer
    again.load_state_dict(guard.state_dict())
    assert again.is_faulty(one, torch.tensor(200.0)) and again.total == 2
    assert not again.is_faulty(one, torch.tensor(140.0)) and again.in_a_row == 0
    with pytest.raises(ValueError, match="above 1"):
        FaultySteps(spike=0.5)
