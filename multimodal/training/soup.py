"""The average of several trained models (paper section 7.5; model soups, arXiv 2203.05482).

Fine-tunings of one start lie close enough for their mean to be a good model, and often a better one
than each.
"""

from collections.abc import Sequence

import torch

from language.errors import InputError
from multimodal.model import MultimodalLlama


@torch.no_grad()
def averaged(models: Sequence[MultimodalLlama]) -> MultimodalLlama:
    """Put the mean of all weights into the first model, which is returned.

    What is the same in all of them, such as the frozen core, stays as it is to the bit.

    Raises:
        InputError: there is none, or they are not of one shape.
    """
    if not models:
        raise InputError("soup", "no model to average")
    first, *others = models
    if any(other.config != first.config for other in others):
        raise InputError("soup", "the models have different configs")
    weights = [dict(other.named_parameters()) for other in others]
    for name, parameter in first.named_parameters():
        same = [other[name] for other in weights]
        if all(torch.equal(parameter, each) for each in same):
            continue
        total = sum((each.double() for each in same), parameter.double())
        parameter.copy_(total / len(models))
    return first
