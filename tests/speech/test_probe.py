"""Linear probes: they find the layer that tells most, and leave the run as it was."""

import copy
import random

import pytest
import torch
from torch import Tensor, nn

from speech.frames import Frames
from speech.probe import (
    LinearProbe,
    ProbeConfig,
    ProbeResult,
    edit_distance,
    plain,
    probe_layers,
)

DIM, LETTERS = 12, "abcde "
SOUNDS = torch.randn(len(LETTERS), DIM, generator=torch.Generator().manual_seed(1))


class ThreeLayers(nn.Module):
    """The second layer's frames tell the letters; the first's are noise; the third's are faint."""

    feature_dim, stride, dim, num_layers = DIM, 1, DIM, 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(0.5)

    def features(self, waveforms: Tensor, lengths: Tensor) -> Frames:
        return Frames(values=waveforms.unflatten(1, (-1, DIM)), lengths=lengths // DIM)

    def layer_outputs(self, features: Frames) -> list[Frames]:
        values = self.dropout(features.values) * self.weight
        noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(values.shape[1]))
        layers = (noise, 100 * values + 7, values + 2.5 * noise)
        return [Frames(values=layer, lengths=features.lengths) for layer in layers]


def recordings(number: int) -> tuple[list[Tensor], list[str]]:
    """Each letter sounds for two or three frames, with a little noise, and silence between."""
    chance, waveforms, texts = random.Random(0), [], []
    generator = torch.Generator().manual_seed(0)
    for _ in range(number):
        text = plain("".join(chance.choice(LETTERS) for _ in range(chance.randint(4, 9)))) or "a"
        frames = []
        for letter in text:
            sound = SOUNDS[LETTERS.index(letter)]
            frames += [sound] * chance.randint(2, 3) + [torch.zeros(DIM)]
        values = torch.stack(frames)
        values = values + 0.1 * torch.randn(values.shape, generator=generator)
        waveforms.append(values.flatten())
        texts.append(text)
    return waveforms, texts


CONFIG = ProbeConfig(num_steps=100)


def test_the_layer_that_tells_most_is_named():
    result = probe_layers(ThreeLayers(), *recordings(48), CONFIG)
    noise, clear, faint = result.error_rates
    assert clear < 0.02 < faint < noise and noise > 0.7
    assert result.best_layer == 2
    metrics = result.metrics()
    assert metrics["cer_layer_02"] == metrics["cer"] == clear and metrics["best_layer"] == 2
    assert "layer 2 of 3" in str(result)


def test_a_layer_is_judged_as_if_it_were_alone():
    """Layers share nothing: probing one by itself gives what it has among others."""

    class OneLayer(ThreeLayers):
        def layer_outputs(self, features: Frames) -> list[Frames]:
            return super().layer_outputs(features)[2:]

    together = probe_layers(ThreeLayers(), *recordings(24), ProbeConfig(num_steps=40))
    alone = probe_layers(OneLayer(), *recordings(24), ProbeConfig(num_steps=40))
    assert alone.losses[0] == pytest.approx(together.losses[2], rel=1e-4)


def test_the_run_does_not_notice_and_the_result_is_the_same_again():
    encoder = ThreeLayers().train()
    encoder.weight.grad = torch.tensor(3.0)
    encoder.dropout.eval()  # a part may be frozen in a mode of its own
    before, random_state = copy.deepcopy(encoder.state_dict()), torch.get_rng_state()
    config = ProbeConfig(num_steps=10)
    first = probe_layers(encoder, *recordings(12), config)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert encoder.weight.grad == 3 and encoder.training and not encoder.dropout.training
    assert encoder.state_dict() == before
    torch.manual_seed(99)
    with torch.inference_mode():  # as in a validation
        waveforms, texts = recordings(12)
        again = probe_layers(encoder, waveforms, texts, config)
    assert again == first


def test_recordings_without_sound_or_text_are_left_out():
    waveforms, texts = recordings(9)
    config = ProbeConfig(num_steps=5)
    clean = probe_layers(ThreeLayers(), waveforms, texts, config).losses[1]
    waveforms[4:4] = [torch.zeros(0), waveforms[0]]
    texts[4:4] = ["abc", " \n "]
    again = probe_layers(ThreeLayers(), waveforms, texts, config).losses[1]
    assert again == pytest.approx(clean, rel=1e-5)
    with pytest.raises(ValueError, match="4 labelled recordings or more, not 3"):
        probe_layers(ThreeLayers(), waveforms[:3], texts[:3], CONFIG)


def test_decoding_drops_repeats_and_blanks():
    probe = LinearProbe(1, 4, "xyz")
    probe.weight.data[0] = torch.eye(4)
    path = torch.tensor([0, 1, 1, 0, 1, 2, 2, 3, 0, 3])
    features = torch.eye(4)[path][None, None]  # [1, 1, frames, 4]
    assert probe.decode(features, torch.tensor([9])) == [["xxyz"]]
    assert probe.decode(features, torch.tensor([10])) == [["xxyzz"]]


def test_losses_are_ctc_over_each_layers_own_frames():
    """CTC by its definition: all paths that give the text."""
    torch.manual_seed(0)
    probe = LinearProbe(2, 3, "xy")
    probe.weight.data.normal_()
    features, text, length = torch.randn(2, 1, 5, 3), "xy", 4
    found = probe.losses(features, torch.tensor([length]), [text])
    paths = torch.cartesian_prod(*[torch.arange(3)] * length)
    for layer in range(2):
        logs = (features[layer, 0] @ probe.weight[layer]).log_softmax(-1)
        total = torch.zeros(())
        for path in paths:
            symbols = torch.unique_consecutive(path)
            if symbols[symbols > 0].tolist() == [1, 2]:
                total = total + logs[torch.arange(length), path].sum().exp()
        assert float(found[layer].detach()) == pytest.approx(-float(total.log().detach()), rel=1e-4)


def test_standardised_frames_have_mean_zero_and_deviation_one():
    probe = LinearProbe(2, 3, "x")
    parts = [5 + 3 * torch.randn(2, frames, 3) for frames in (7, 20)]
    probe.standardise(parts)
    whole = (torch.cat(parts, dim=1) - probe.mean) / probe.scale
    assert torch.allclose(whole.mean(1), torch.zeros(2, 3), atol=1e-5)
    assert torch.allclose(whole.std(1, correction=0), torch.ones(2, 3), atol=1e-4)


def test_edit_distance_by_recursion():
    def least(said: str, wanted: str) -> int:
        if not said or not wanted:
            return len(said) + len(wanted)
        kept = least(said[:-1], wanted[:-1]) + (said[-1] != wanted[-1])
        return min(kept, least(said[:-1], wanted) + 1, least(said, wanted[:-1]) + 1)

    chance = random.Random(0)
    for _ in range(60):
        said, wanted = ("".join(chance.choices("ab", k=chance.randint(0, 5))) for _ in range(2))
        assert edit_distance(said, wanted) == least(said, wanted)


def test_of_equal_errors_the_lower_loss_is_best():
    assert ProbeResult(error_rates=(1.0, 1.0, 1.0), losses=(3.0, 2.5, 2.9)).best_layer == 2


@pytest.mark.parametrize("changes", [{"minutes": 0}, {"held_out": 1}, {"num_steps": 0}])
def test_impossible_settings_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        ProbeConfig(**changes)
