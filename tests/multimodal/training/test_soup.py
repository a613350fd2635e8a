"""Averages of models against a count by hand; what they share stays."""

import copy

import pytest
import torch

from language.errors import InputError
from multimodal.training.parts import build
from multimodal.training.soup import averaged


@pytest.fixture
def models(parts):
    torch.manual_seed(0)
    first = build(parts)
    others = [copy.deepcopy(first) for _ in range(2)]
    for other in others:
        for parameter in other.image_adapter.parameters():
            parameter.data += torch.randn_like(parameter)
    return [first, *others]


def test_the_mean_of_all(models):
    kept = [copy.deepcopy(model) for model in models]
    mean = averaged(models)
    assert mean is models[0]
    for name, parameter in mean.named_parameters():
        stacked = torch.stack([dict(model.named_parameters())[name] for model in kept])
        torch.testing.assert_close(parameter, stacked.mean(dim=0))
        if not name.startswith("image_adapter."):
            assert torch.equal(parameter, stacked[0])
    for model, before in zip(models[1:], kept[1:], strict=True):
        for (_, ours), (_, theirs) in zip(
            model.named_parameters(), before.named_parameters(), strict=True
        ):
            assert torch.equal(ours, theirs)


def test_one_model_is_its_own_average(models):
    before = {name: p.clone() for name, p in models[1].named_parameters()}
    for name, parameter in averaged([models[1]]).named_parameters():
        assert torch.equal(parameter, before[name])


def test_models_that_do_not_go_together(models):
    with pytest.raises(InputError, match="no model"):
        averaged([])
    with pytest.raises(InputError, match="different configs"):
        models[1].config = models[1].config.without_image_parts()
        averaged(models)
