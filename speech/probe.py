"""How much of what is said each layer of an encoder tells: a linear layer on its frozen frames.

Masked accuracy has misled people: runs that guess a third of all codes and whose features serve
nothing. So a few labelled minutes are set aside, and at times each layer is asked for the
characters by one linear layer, trained by CTC for a fixed number of steps on features that are
computed once. Its error on held-out recordings says which layer serves best, and whether the
pre-training goes anywhere at all.

The run that is probed does not notice: neither gradients, modes nor random numbers change.

Letters: L layers, R recordings, T frames, D width, C characters, the blank among them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speech.frames import Frames
from speech.recordings import SpeechBatch

BLANK = 0


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """How layers are probed."""

    minutes: float = 3.0
    """Labelled speech to use, of what there is."""
    held_out: int = 4
    """Every so many-th recording is tested on, and the others are trained on."""
    num_steps: int = 500
    batch_size: int = 8
    """Recordings of a step."""
    learning_rate: float = 1.0
    """Of Adam at the first step, divided by the layers' width; it falls to 0 linearly."""
    every_n_steps: int = 0
    """Steps of the run between probes, made at the next validation; 0: at each validation."""

    def __post_init__(self) -> None:
        if self.minutes <= 0 or self.held_out < 2:
            raise ValueError(
                f"probe: minutes ({self.minutes}) must be above 0, held_out ({self.held_out}) "
                "2 or more"
            )
        if min(self.num_steps, self.batch_size) < 1 or self.learning_rate <= 0:
            raise ValueError("probe: num_steps, batch_size and learning_rate must be above 0")


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What each layer tells, the first layer first."""

    error_rates: tuple[float, ...]
    """Characters inserted, deleted and replaced, by characters there are, where held out."""
    losses: tuple[float, ...]
    """CTC loss a character, on the same."""

    @property
    def best_layer(self) -> int:
        """The layer with the lowest error (of equals, the lowest loss), counted from 1."""
        found = list(zip(self.error_rates, self.losses, strict=True))
        return 1 + found.index(min(found))

    def metrics(self) -> dict[str, float]:
        """What is logged, by name."""
        rates = {f"cer_layer_{i:02}": rate for i, rate in enumerate(self.error_rates, start=1)}
        return {**rates, "cer": min(self.error_rates), "best_layer": float(self.best_layer)}

    def __str__(self) -> str:
        """A line for people."""
        rates = " ".join(f"{100 * rate:.1f}" for rate in self.error_rates)
        return (
            f"probe: character errors by layer {rates} %; "
            f"layer {self.best_layer} of {len(self.error_rates)} serves best"
        )


class LinearProbe(nn.Module):
    """For each layer a linear map from its standardised frames to characters."""

    mean: Tensor
    scale: Tensor

    def __init__(self, num_layers: int, dim: int, alphabet: str) -> None:
        """It starts at 0, so that nothing is drawn."""
        super().__init__()
        self.alphabet = alphabet
        self.weight = nn.Parameter(torch.zeros(num_layers, dim, 1 + len(alphabet)))
        self.bias = nn.Parameter(torch.zeros(num_layers, 1, 1 + len(alphabet)))
        self.register_buffer("mean", torch.zeros(num_layers, 1, dim))
        self.register_buffer("scale", torch.ones(num_layers, 1, dim))

    @torch.no_grad()
    def standardise(self, features: Sequence[Tensor]) -> None:
        """Take mean and deviation of each layer from these recordings, [L, T, D] each."""
        frames = sum(feature.shape[1] for feature in features)
        mean = torch.stack([feature.sum(1, keepdim=True) for feature in features]).sum(0) / frames
        squares = [(feature - mean).square().sum(1, keepdim=True) for feature in features]
        self.mean.copy_(mean)
        self.scale.copy_((torch.stack(squares).sum(0) / frames).sqrt() + 1e-5)

    def forward(self, features: Tensor) -> Tensor:
        """Logarithms of the characters' probabilities, [L, R, T, C], from [L, R, T, D]."""
        num_layers, recordings, frames, _ = features.shape
        flat = (features.flatten(1, 2) - self.mean) / self.scale  # [L, R * T, D]
        logits = torch.baddbmm(self.bias, flat, self.weight)
        return logits.log_softmax(-1).view(num_layers, recordings, frames, -1)

    def losses(self, features: Tensor, lengths: Tensor, texts: Sequence[str]) -> Tensor:
        """CTC loss of each layer summed over recordings, [L]; a text too long for its frames is 0.

        Args:
            features: [L, R, T, D].
            lengths: frames of each recording, [R].
            texts: of characters of the alphabet.
        """
        log_probs = self(features)
        num_layers, recordings = log_probs.shape[:2]
        numbers = {character: number for number, character in enumerate(self.alphabet, start=1)}
        targets = torch.tensor([numbers[c] for text in texts for c in text]).repeat(num_layers)
        sizes = torch.tensor([len(text) for text in texts]).repeat(num_layers)
        losses = F.ctc_loss(
            log_probs.flatten(0, 1).transpose(0, 1),
            targets.to(log_probs.device),
            lengths.cpu().repeat(num_layers),
            sizes,
            blank=BLANK,
            reduction="none",
            zero_infinity=True,
        )
        return losses.view(num_layers, recordings).sum(1)

    @torch.no_grad()
    def decode(self, features: Tensor, lengths: Tensor) -> list[list[str]]:
        """The likeliest character of each frame, repeats and blanks taken out; by layer.

        Args:
            features: [L, R, T, D].
            lengths: frames of each recording, [R].
        """
        best = self(features).argmax(-1).cpu()  # [L, R, T]
        texts: list[list[str]] = []
        for layer in best:
            texts.append([])
            for row, length in zip(layer, lengths.tolist(), strict=True):
                symbols = torch.unique_consecutive(row[:length])
                texts[-1].append(
                    "".join(self.alphabet[s - 1] for s in symbols.tolist() if s != BLANK)
                )
        return texts


def probe_layers(
    encoder: nn.Module, waveforms: Sequence[Tensor], texts: Sequence[str], config: ProbeConfig
) -> ProbeResult:
    """Train a linear probe on each layer, and test it on recordings held out.

    Args:
        encoder: anything with the members of a speech encoder; computes where its weights are.
        waveforms: recordings [samples] at 16 kHz.
        texts: what is said in each.
        config: how it is trained.

    Raises:
        ValueError: too few recordings to hold any out.
    """
    texts = [plain(text) for text in texts]
    kept = [index for index, text in enumerate(texts) if text]
    device = next(encoder.parameters()).device
    with torch.inference_mode(False), torch.autocast(device.type, enabled=False):
        with undisturbed(encoder), torch.no_grad():
            features = _features(encoder, [waveforms[i] for i in kept], config.batch_size, device)
        labelled = [
            (feature, texts[i])
            for feature, i in zip(features, kept, strict=True)
            if feature.shape[1] > 0
        ]
        held_out = labelled[config.held_out - 1 :: config.held_out]
        trained = [
            pair for number, pair in enumerate(labelled, start=1) if number % config.held_out
        ]
        if not held_out:
            raise ValueError(
                f"a probe needs {config.held_out} labelled recordings or more, not {len(labelled)}"
            )
        alphabet = "".join(sorted(set("".join(text for _, text in labelled))))
        num_layers, _, dim = features[0].shape
        probe = LinearProbe(num_layers, dim, alphabet)
        probe.standardise([feature for feature, _ in trained])
        probe.to(device)
        with torch.enable_grad():
            _train(probe, trained, config)
        return _test(probe, held_out, config.batch_size)


def plain(text: str) -> str:
    """A transcript as probes want it: lower case, one space between words."""
    return " ".join(text.lower().split())


def edit_distance(said: Sequence[object], wanted: Sequence[object]) -> int:
    """Least number of characters, or of tokens, to insert, delete or replace (Levenshtein)."""
    row = list(range(len(wanted) + 1))
    for number, symbol in enumerate(said, start=1):
        above, row[0] = row[0], number
        for place, other in enumerate(wanted, start=1):
            kept = above + (symbol != other)
            above, row[place] = row[place], min(kept, row[place] + 1, row[place - 1] + 1)
    return row[-1]


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Eval mode; afterwards every part is in the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _features(
    encoder: Any, waveforms: Sequence[Tensor], batch_size: int, device: torch.device
) -> list[Tensor]:
    """Each recording's frames after every layer, [L, T, D], float32 on the CPU."""
    found: list[Tensor] = []
    for start in range(0, len(waveforms), batch_size):
        # copies, since what was made in inference mode cannot be trained on
        batch = SpeechBatch.of([w.float().clone() for w in waveforms[start : start + batch_size]])
        batch = batch.to(device)
        layers: list[Frames] = encoder.layer_outputs(
            encoder.features(batch.waveforms, batch.lengths)
        )
        for row, length in enumerate(layers[0].lengths.tolist()):
            found.append(
                torch.stack([layer.values[row, :length].float() for layer in layers]).cpu()
            )
    return found


def _batch(
    labelled: Sequence[tuple[Tensor, str]], device: torch.device
) -> tuple[Tensor, Tensor, list[str]]:
    """Features [L, R, T, D], lengths [R] and texts of some recordings."""
    by_frame = [feature.transpose(0, 1) for feature, _ in labelled]  # [T, L, D]
    padded = nn.utils.rnn.pad_sequence(by_frame, batch_first=True)  # [R, T, L, D]
    lengths = torch.tensor([len(frames) for frames in by_frame])
    return padded.permute(2, 0, 1, 3).to(device), lengths, [text for _, text in labelled]


def _train(probe: LinearProbe, labelled: Sequence[tuple[Tensor, str]], config: ProbeConfig) -> None:
    device, rate = probe.weight.device, config.learning_rate / probe.weight.shape[1]
    optimizer = torch.optim.Adam(probe.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(0)
    order: list[int] = []
    for step in range(config.num_steps):
        while len(order) < config.batch_size:
            order += torch.randperm(len(labelled), generator=generator).tolist()
        chosen, order = order[: config.batch_size], order[config.batch_size :]
        features, lengths, texts = _batch([labelled[index] for index in chosen], device)
        # layers share no weight: each has its own loss, whatever the others do
        losses = probe.losses(features, lengths, texts)
        loss = losses.sum() / sum(len(text) for text in texts)
        optimizer.param_groups[0]["lr"] = rate * (1 - step / config.num_steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def _test(
    probe: LinearProbe, labelled: Sequence[tuple[Tensor, str]], batch_size: int
) -> ProbeResult:
    num_layers = len(probe.weight)
    errors, losses = [0] * num_layers, torch.zeros(num_layers)
    for start in range(0, len(labelled), batch_size):
        features, lengths, texts = _batch(labelled[start : start + batch_size], probe.weight.device)
        losses += probe.losses(features, lengths, texts).cpu()
        for layer, said in enumerate(probe.decode(features, lengths)):
            errors[layer] += sum(map(edit_distance, said, texts))
    total = sum(len(text) for _, text in labelled)
    return ProbeResult(
        error_rates=tuple(count / total for count in errors),
        losses=tuple((losses / total).tolist()),
    )
