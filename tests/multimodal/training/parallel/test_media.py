"""Blank media change nothing, and stand only where another rank's rows have real ones."""

from dataclasses import replace

import pytest
import torch

from multimodal import load
from multimodal.training.parallel.media import agreed_number, with_blank_media
from tests.multimodal.training.fakes import Rows, text_batch


class Others:
    """A group in which another rank has these numbers."""

    size, rank = 2, 0

    def __init__(self, numbers) -> None:
        self.numbers = torch.tensor(numbers)

    def largest(self, tensor: torch.Tensor) -> None:
        tensor.copy_(torch.maximum(tensor, self.numbers.to(tensor.dtype)))


@pytest.fixture(scope="module")
def model():
    return load("tiny").model


@pytest.fixture
def batches():
    rows = Rows(num_rows=4, length=9, seed=3)
    return [text_batch([rows[index], rows[index + 1]]) for index in (0, 2)]


def test_a_blank_picture_and_a_blank_clip_change_no_bit(model, batches):
    filled = with_blank_media(batches, model.config, Others([[1, 1], [1, 1]]))
    with torch.no_grad():
        for before, after in zip(batches, filled, strict=True):
            assert after.images is not None and after.clips is not None
            assert torch.equal(model(after), model(before))


def test_their_gradient_is_zero(model, batches):
    (filled,) = with_blank_media(batches[:1], model.config, Others([[1, 0]]))
    weights = [p for n, p in model.named_parameters() if n.startswith("image_adapter.layers")]
    model.zero_grad()
    for weight in weights:
        weight.requires_grad_(True)
    model(filled).square().sum().backward()
    assert weights and all(not weight.grad.any() for weight in weights)
    model.zero_grad()


def test_only_what_lacks_a_medium_gets_one(model, batches):
    first, second = with_blank_media(batches, model.config, Others([[0, 0], [1, 0]]))
    assert first.images is None and first.clips is None
    assert second.images is not None and second.clips is None
    assert not second.visible.any()
    real = replace(second)
    assert with_blank_media([real], model.config, Others([[1, 0]]))[0].images is real.images


@pytest.mark.parametrize(("mine", "others", "agreed"), [(4, 4, 4), (4, 2, 1), (2, 3, 1)])
def test_as_many_micro_batches_on_all(mine, others, agreed):
    device = torch.device("cpu")
    assert agreed_number(mine, Others([others, -others]), device) == agreed
