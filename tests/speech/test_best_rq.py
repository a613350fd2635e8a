"""BEST-RQ against its definition, written out here; masks, frozen parts, and what is reported."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speech.best_rq import BestRq, BestRqConfig, RandomProjectionQuantizer, draw_mask
from speech.code_statistics import CodeStatistics, perplexities
from speech.frames import Frames
from speech.multi_softmax import multi_softmax_loss


class PlainEncoder(nn.Module):
    """Any encoder will do: this one joins `stride` feature frames, and has no more than that."""

    def __init__(self, *, feature_dim: int = 6, stride: int = 1, dim: int = 8) -> None:
        super().__init__()
        self.feature_dim, self.stride, self.dim = feature_dim, stride, dim
        self.frame_seconds = 0.04
        self.layer = nn.Linear(stride * feature_dim, dim)

    def features(self, waveforms: Tensor, lengths: Tensor) -> Frames:
        values = waveforms.unflatten(1, (-1, self.feature_dim))
        return Frames(values=values, lengths=lengths // self.feature_dim)

    def forward(self, features: Frames) -> Frames:
        values = F.pad(features.values, (0, 0, 0, -features.values.shape[1] % self.stride))
        values = self.layer(values.unflatten(1, (-1, self.stride)).flatten(2)).tanh()
        return Frames(values=values, lengths=-(-features.lengths // self.stride))


SMALL: dict[str, Any] = {"codebook_size": 11, "codebook_dim": 4, "num_codebooks": 3}


def objective(*, stride: int = 1, **changes: Any) -> BestRq:
    torch.manual_seed(0)
    return BestRq(PlainEncoder(stride=stride), BestRqConfig(**SMALL | changes))


def some_features(lengths: list[int], *, padding: float = 0.0, extra: int = 0) -> Frames:
    generator = torch.Generator().manual_seed(3)
    values = torch.full((len(lengths), max(lengths) + extra, 6), padding)
    for row, length in enumerate(lengths):
        values[row, :length] = torch.randn(length, 6, generator=generator)
    return Frames(values=values, lengths=torch.tensor(lengths))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def brute_force(model: BestRq, features: Frames, mask: Tensor, noise: Tensor) -> tuple[Any, ...]:
    """BEST-RQ by its definition: a frame, a codebook, a vector at a time."""
    stride, config, ids, losses = model.encoder.stride, model.config, [], []
    noise = iter(noise)
    for row, length in enumerate(features.lengths.tolist()):
        seen = features.values[row, :length].clone()
        for frame in mask[row].nonzero()[:, 0].tolist():
            for place in range(frame * stride, (frame + 1) * stride):
                seen[place] = config.noise_std * next(noise)
        output = model.encoder(Frames(values=seen[None], lengths=torch.tensor([length])))
        for frame in mask[row].nonzero()[:, 0].tolist():
            stacked = torch.cat(list(features.values[row, frame * stride : (frame + 1) * stride]))
            if config.normalize_frames:
                stacked = stacked - stacked.mean()
            for book in range(config.num_codebooks):
                vector = model.quantizer.projections[book].T @ stacked
                cosines = [
                    F.cosine_similarity(vector, c, 0) for c in model.quantizer.codebooks[book]
                ]
                ids.append(max(range(len(cosines)), key=lambda code: float(cosines[code])))
                logits = output.values[0, frame] @ model.heads[book]
                losses.append(-logits.log_softmax(0)[ids[-1]] / config.num_codebooks)
    return torch.tensor(ids).view(-1, config.num_codebooks), sum(losses)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("changes", [{}, {"num_codebooks": 1, "normalize_frames": False}])
@pytest.mark.parametrize("chunk_frames", [1, 7, 512])
def test_codes_loss_and_gradient_are_those_of_the_definition(stride, changes, chunk_frames):
    model = objective(stride=stride, chunk_frames=chunk_frames, mask_probability=0.01, **changes)
    features = some_features([40, 23, 31])
    mask = model.draw_mask(features, generator=seeded())
    assert 0 < mask.sum() < mask.numel()
    output = model(features, generator=seeded(1), mask=mask)
    noise = torch.randn(int(mask.sum()) * stride, 6, generator=seeded(1))
    ids, loss = brute_force(model, features, mask, noise)

    stacked = features.values[:, : mask.shape[1] * stride].unflatten(1, (-1, stride)).flatten(2)
    assert torch.equal(model.quantizer(stacked[mask]), ids)
    assert output.count == len(ids) == mask.sum()
    torch.testing.assert_close(output.loss, loss)
    found = torch.autograd.grad(output.loss / output.count, list(model.parameters()))
    expected = torch.autograd.grad(loss / len(ids), list(model.parameters()))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)

    counts = torch.stack([ids.eq(code).sum(0) for code in range(11)], dim=1)
    assert torch.equal(output.statistics.codes, counts)
    assert output.statistics.frames == (features.lengths // stride).sum()


def test_loss_in_parts_is_the_whole_loss():
    generator = seeded()
    hidden = torch.randn(10, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    heads = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(7, (10, 3), generator=generator)
    logits = torch.einsum("nd,bdv->nbv", hidden, heads)
    whole = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    for chunk_frames in (1, 4, 10, 64):
        loss, predictions = multi_softmax_loss(hidden, heads, targets, chunk_frames=chunk_frames)
        torch.testing.assert_close(loss, whole)
        assert torch.equal(predictions, logits.argmax(-1))
        found = torch.autograd.grad(2.5 * loss, [hidden, heads])
        expected = torch.autograd.grad(2.5 * whole, [hidden, heads], retain_graph=True)
        torch.testing.assert_close(found, expected)
    with torch.no_grad():
        assert not multi_softmax_loss(hidden, heads, targets, chunk_frames=4)[0].requires_grad
    none, _ = multi_softmax_loss(hidden[:0], heads, targets[:0], chunk_frames=4)
    none.backward()
    assert none == 0 and not heads.grad.any()


def test_a_second_gradient_is_refused():
    hidden, heads = torch.ones(2, 3, requires_grad=True), torch.ones(1, 3, 4)
    loss, _ = multi_softmax_loss(hidden, heads, torch.zeros(2, 1, dtype=int), chunk_frames=2)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        loss.backward()


@pytest.mark.parametrize("frame_seconds", [0.01, 0.02, 0.04, 0.08])
def test_masks_are_spans_that_begin_with_the_given_probability(frame_seconds):
    """The draws again, one place at a time."""
    config = BestRqConfig()
    lengths = torch.tensor([50, 0, 1, 200, 3])
    mask = draw_mask(lengths, config=config, frame_seconds=frame_seconds, generator=seeded(5))
    assert mask.shape == (5, 200)
    covered = round(frame_seconds / 0.01)  # mel frames
    span, probability = 32 // covered, 1 - (1 - 0.025) ** covered
    generator = seeded(5)
    draws = torch.rand(5, 200 + span - 1, generator=generator)
    spare = torch.rand(5, generator=generator)
    for row, length in enumerate(lengths.tolist()):
        masked = set()
        for place in range(length + span - 1):
            if draws[row, place] < probability:
                masked |= set(range(place - span + 1, place + 1)) & set(range(length))
        if length and not masked:
            last = int(spare[row] * (length + span - 1))
            masked = set(range(last - span + 1, last + 1)) & set(range(length))
            assert masked
        assert set(mask[row].nonzero()[:, 0].tolist()) == masked


def test_masked_share_is_the_papers_at_every_frame():
    config = BestRqConfig()
    assert config.mask_share == pytest.approx(0.555, abs=1e-3)
    generator, lengths = seeded(), torch.tensor([1500, 250, 100]).repeat(100)
    total = torch.zeros(300, 1500)
    for _ in range(10):
        total += draw_mask(lengths, config=config, frame_seconds=0.04, generator=generator)
    share = float(total.sum() / (10 * lengths.sum()))
    assert share == pytest.approx(0.555, abs=0.01)
    for length in (1500, 250, 100):  # the first frames and the last as often as any
        rows = total[lengths == length, :length] / 10
        assert float(rows[:, :8].mean()) == pytest.approx(0.555, abs=0.03)
        assert float(rows[:, -8:].mean()) == pytest.approx(0.555, abs=0.03)


def test_every_recording_has_spans_of_its_own():
    lengths = torch.full((8,), 60)
    mask = draw_mask(lengths, config=BestRqConfig(), frame_seconds=0.04, generator=seeded())
    assert len({tuple(row) for row in mask.tolist()}) == 8
    for row in mask.int().tolist():
        runs = "".join(map(str, row)).split("0")
        inner = [run for run in runs[1:-1] if run]  # those at the ends may be cut
        assert all(len(run) >= 8 for run in inner)


def test_every_recording_is_scored_and_padding_never():
    config = BestRqConfig(mask_probability=1e-6)  # hardly a span is drawn
    lengths = torch.tensor([1, 2, 30, 0, 7])
    for seed in range(50):
        mask = draw_mask(lengths, config=config, frame_seconds=0.04, generator=seeded(seed))
        assert mask.sum(1)[lengths > 0].min() > 0
        assert not (mask & (torch.arange(30) >= lengths[:, None])).any()
    heavy = BestRqConfig(mask_probability=0.999)
    mask = draw_mask(lengths, config=heavy, frame_seconds=0.04, generator=seeded())
    assert torch.equal(mask.sum(1), lengths)


@pytest.mark.parametrize("stride", [1, 2])
def test_padding_changes_nothing(stride):
    model = objective(stride=stride)
    lengths = [41, 24, 31]
    results = []
    for padding, extra in [(0.0, 0), (0.0, 13), (9.0, 5)]:
        features = some_features(lengths, padding=padding, extra=extra)
        model.zero_grad()
        output = model(features, generator=seeded())
        output.loss.backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        results.append((output.loss.detach(), output.count, output.statistics.packed(), gradients))
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])


def test_a_recording_without_a_whole_frame_is_no_trouble():
    model = objective(stride=2)
    output = model(some_features([1, 12, 1]), generator=seeded())
    assert output.count > 0 and output.statistics.frames == 6
    output = model(some_features([1]), generator=seeded())
    output.loss.backward()
    assert output.count == 0 and output.loss == 0 and not model.heads.grad.any()


def test_codes_are_those_of_float32_under_any_cast_or_autocast():
    config = BestRqConfig(num_codebooks=2, codebook_size=512)
    quantizer = RandomProjectionQuantizer(40, config)
    frames = torch.randn(300, 40, generator=seeded())
    codes, state = quantizer(frames), copy.deepcopy(quantizer.state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer(frames), codes)
    for cast in (quantizer.half, quantizer.bfloat16, quantizer.double):
        cast()
        assert torch.equal(quantizer(frames), codes)
    assert all(torch.equal(value, state[name]) for name, value in quantizer.state_dict().items())
    outer = nn.Sequential(quantizer, nn.Linear(2, 2)).bfloat16()
    assert outer[1].weight.dtype == torch.bfloat16 and quantizer.codebooks.dtype == torch.float32
    with torch.device("meta"):
        built = RandomProjectionQuantizer(40, config)
    built.to_empty(device="cpu").load_state_dict(state)
    assert torch.equal(built(frames), codes)
    assert not torch.equal(RandomProjectionQuantizer(40, BestRqConfig(seed=1)).codebooks, codes)


def test_codes_stand_apart_from_loudness_and_level():
    quantizer = RandomProjectionQuantizer(40, BestRqConfig(num_codebooks=4, codebook_size=512))
    frames = torch.randn(200, 40, generator=seeded())
    same = quantizer(3 * frames + 5) == quantizer(frames)
    assert same.float().mean() > 0.99  # but for rounding
    assert torch.allclose(quantizer.codebooks.norm(dim=-1), torch.ones(4, 512))


def test_autocast_changes_the_loss_little_and_the_targets_not():
    model = objective(codebook_size=64)
    features = some_features([50, 40])
    plain = model(features, generator=seeded())
    plain.loss.backward()
    gradient = model.heads.grad.clone()
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(features, generator=seeded())
    rough.loss.backward()
    assert torch.equal(rough.statistics.codes, plain.statistics.codes)
    assert float(rough.loss) == pytest.approx(float(plain.loss), rel=1e-2)
    assert model.heads.grad.dtype == torch.float32 and rough.loss.dtype == torch.float32
    assert F.cosine_similarity(model.heads.grad.flatten(), gradient.flatten(), 0) > 0.999


def test_frozen_parts_stay_and_the_rest_learns():
    model = objective()
    before = copy.deepcopy(model.state_dict())
    features = some_features([60, 45, 52])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    losses = []
    for _ in range(60):
        output = model(features, generator=seeded())
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
        losses.append(float(output.loss / output.count))
    assert losses[0] == pytest.approx(math.log(11), abs=0.1) and losses[-1] < losses[0] - 0.2
    after = model.state_dict()
    for name, value in before.items():
        assert torch.equal(after[name], value) == name.startswith("quantizer."), name
    again = objective(seed=9)
    assert not torch.equal(again.quantizer.codebooks, model.quantizer.codebooks)
    again.load_state_dict(after)
    assert torch.equal(again.quantizer.codebooks, before["quantizer.codebooks"])
    assert torch.equal(again.quantizer.projections, before["quantizer.projections"])


def test_statistics_by_hand():
    codes = torch.tensor([[0, 1], [0, 2], [0, 1], [0, 3]])
    guesses = torch.tensor([[0, 1], [1, 1], [0, 1], [0, 1]])
    frames = torch.tensor(8)
    found = CodeStatistics.of(codes, guesses, codebook_size=4, num_frames=frames)
    assert found.mask_share == 0.5
    assert found.accuracy.tolist() == [0.75, 0.5]
    assert found.usage.tolist() == [0.25, 0.75]
    entropy = 0.5 * math.log(2) + 0.5 * math.log(4)
    assert perplexities(found.codes).tolist() == pytest.approx([1, math.exp(entropy)])
    metrics = (found + found).metrics()
    assert metrics["accuracy"] == 0.625 and metrics["mask_share"] == 0.5
    assert metrics["perplexity_min"] == pytest.approx(1) and metrics["accuracy_01"] == 0.5
    assert (found + found).codes[0, 0] == 8


def test_a_collapse_is_told():
    generator = seeded()
    diverse = torch.randint(4, 1024, (2000, 2), generator=generator)
    few = torch.randint(4, (2000, 2), generator=generator)

    def said(codes: Tensor, guesses: Tensor, judge_guesses: bool = True) -> str | None:
        found = CodeStatistics.of(
            codes, guesses, codebook_size=1024, num_frames=torch.tensor(len(codes))
        )
        return found.collapse(share=0.005, judge_guesses=judge_guesses)

    assert said(diverse, diverse) is None
    assert said(few[:50], few[:50]) is None  # too few to tell
    assert "codes have collapsed" in said(few, diverse) and "2 of 2" in said(few, diverse)
    assert "guesses" in said(diverse, few) and said(diverse, few, judge_guesses=False) is None


@pytest.mark.parametrize("changes", [{"mask_probability": 0.0}, {"num_codebooks": 0}])
def test_impossible_settings_are_refused(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=name):
        BestRqConfig(**changes)
