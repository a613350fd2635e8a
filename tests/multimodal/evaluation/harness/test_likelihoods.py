"""Likelihoods of continuations are transformers', whatever is read beside them."""

import pytest
import torch

from language.checkpoint import load_llama
from multimodal.evaluation.harness.likelihoods import continuation_likelihoods


@pytest.fixture(scope="module")
def core(published):
    return load_llama(published)


def pairs(number: int, vocabulary: int):
    generator = torch.Generator().manual_seed(4)
    made = []
    for _ in range(number):
        sizes = torch.randint(1, 20, (2,), generator=generator).tolist()
        ids = torch.randint(0, vocabulary, (sum(sizes),), generator=generator).tolist()
        made.append((ids[: sizes[0]], ids[sizes[0] :]))
    return made


@torch.no_grad()
def one_by_one(model, context, after) -> tuple[float, bool]:
    logits = model(torch.tensor([[*context, *after]])).logits[0].log_softmax(dim=-1)
    places = range(len(context) - 1, len(context) + len(after) - 1)
    total = sum(float(logits[p, t]) for p, t in zip(places, after, strict=True))
    return total, all(int(logits[p].argmax()) == t for p, t in zip(places, after, strict=True))


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_they_are_transformers_in_any_batch(core, theirs, batch_size):
    some = pairs(17, core.config.vocab_size)
    greedy = list(some[3][0])  # one whose continuation is the likeliest
    for _ in range(4):
        with torch.no_grad():
            greedy.append(int(theirs(torch.tensor([greedy])).logits[0, -1].argmax()))
    some.append((greedy[:-4], greedy[-4:]))
    found = continuation_likelihoods(core, some, batch_size=batch_size, max_length=64)
    assert found[-1][1] and not all(is_greedy for _, is_greedy in found)
    for (share, is_greedy), (context, after) in zip(found, some, strict=True):
        wanted = one_by_one(theirs, context, after)
        assert share == pytest.approx(wanted[0], abs=1e-3) and is_greedy == wanted[1]


def test_a_context_that_is_too_long_is_cut_on_its_left(core):
    ids = list(range(40))
    (whole,) = continuation_likelihoods(core, [(ids[20:36], ids[36:])], batch_size=1, max_length=64)
    (cut,) = continuation_likelihoods(core, [(ids[:36], ids[36:])], batch_size=1, max_length=19)
    assert cut == pytest.approx(whole)
    for bad in (([], [1]), ([1], []), ([1], list(range(20)))):
        with pytest.raises(ValueError, match="token"):
            continuation_likelihoods(core, [bad], batch_size=1, max_length=19)
