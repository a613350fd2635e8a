"""Where somebody speaks: an energy gate that is always there, and Silero's network where installed.

A detector hears a recording piece by piece and decides frame by frame; it may lag behind, so that
it can look ahead, and holds no more of the recording than that. The gate follows the noise below
the speech in each frequency band and wants sounds that rise above it *and change*, as speech does
several times a second: neither hiss nor hum nor a tone, however loud, is speech. Melodies and
chatter pass it; whoever reads the segments decides whether there are words in them.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from language.errors import InputError
from speech.audio import SAMPLE_RATE

DETECTORS = ("auto", "energy", "silero")


@dataclass(frozen=True, kw_only=True)
class VoiceActivityConfig:
    """How speech is told from everything else."""

    detector: Literal["auto", "energy", "silero"] = "auto"
    """The gate, Silero's network, or "auto": the network where it is installed."""
    silence_dbfs: float = -70.0
    """Whatever is fainter is silence to the gate, in dB of a full-scale square wave."""
    onset_db: float = 8.0
    """How far the gate's loudest bands rise above the noise where somebody speaks."""
    offset_db: float = 5.0
    """How far they stay above it around such a place."""
    variability_db: float = 2.0
    """Least standard deviation of a band's level within a second of speech; noise has about 1."""
    probability: float = 0.5
    """From which probability on Silero's network hears speech."""

    def __post_init__(self) -> None:
        if self.detector not in DETECTORS:
            raise ValueError(f"detector must be one of {', '.join(DETECTORS)}: {self.detector!r}")
        if not 0 < self.offset_db <= self.onset_db:
            raise ValueError(
                f"offset_db ({self.offset_db}) must be above 0 and at most onset_db "
                f"({self.onset_db})"
            )
        if self.variability_db < 0:
            raise ValueError(f"variability_db must be 0 or more, not {self.variability_db}")
        if not 0 < self.probability < 1:
            raise ValueError(f"probability must lie between 0 and 1, not {self.probability}")


class VoiceDetector(Protocol):
    """Hears one recording, from its start to its end."""

    frame: int
    """Samples of a frame."""

    def push(self, samples: Tensor) -> list[bool]:
        """Hear further ``samples`` [samples]; whether there is speech in each frame decided now."""
        ...

    def finish(self) -> list[bool]:
        """Whether there is speech in the frames that are left, the last perhaps cut short."""
        ...


def new_detector(config: VoiceActivityConfig) -> VoiceDetector:
    """A detector for one recording.

    Raises:
        InputError: Silero's network is asked for by name, and is not installed.
    """
    if config.detector != "energy":
        try:
            return SileroDetector(config)
        except ImportError as error:
            if config.detector == "silero":
                fault = f"cannot be imported ({error}): pip install silero-vad"
                raise InputError("silero_vad", fault) from None
    return EnergyGate(config)


class EnergyGate:
    """Levels of eight bands against the noise within some seconds; see the module's docstring."""

    frame = 256
    window = 512
    block = 64
    """Frames that are decided together."""
    context = 250
    """Frames before and after a block from which its noise is estimated."""
    depth = 30.0
    """Decibels below a frame's loudest band from which on levels do not count."""
    edges = (100, 300, 500, 800, 1200, 1800, 2700, 4000, 7600)
    """Of the bands, in Hz: hum below and the converter's edge above stay out."""

    def __init__(self, config: VoiceActivityConfig) -> None:
        """Nothing heard yet."""
        self._config = config
        self._hann = torch.hann_window(self.window)
        bins = torch.arange(self.window // 2 + 1) * SAMPLE_RATE / self.window
        edges = torch.tensor(self.edges)
        inside = (bins >= edges[:-1, None]) & (bins < edges[1:, None])
        # The mean square of each band: two sides of the spectrum, Parseval, the window's own power.
        self._bands = inside.T * 2 / (self.window * self._hann.square().sum())
        # A frame stands in the middle of its window.
        self._samples = torch.zeros((self.window - self.frame) // 2)
        self._powers = torch.zeros(0, len(self.edges) - 1)
        self._num_samples = self._num_decided = self._num_forgotten = 0

    def push(self, samples: Tensor) -> list[bool]:
        """See :meth:`VoiceDetector.push`."""
        self._num_samples += len(samples)
        self._samples = torch.cat([self._samples, samples])
        if len(self._samples) >= self.window:
            windows = self._samples.unfold(0, self.window, self.frame)
            spectra = torch.fft.rfft(windows * self._hann).abs().square()
            self._powers = torch.cat([self._powers, spectra @ self._bands])
            self._samples = self._samples[len(windows) * self.frame :].clone()
        return self._decide(self._num_forgotten + len(self._powers) - self.context)

    def finish(self) -> list[bool]:
        """See :meth:`VoiceDetector.finish`."""
        num_samples, num_frames = self._num_samples, -(-self._num_samples // self.frame)
        flags = self.push(torch.zeros(num_frames * self.frame - num_samples + self.window))
        self._powers = self._powers[: num_frames - self._num_forgotten]
        flags += self._decide(num_frames)
        return flags + self._decide_block(num_frames - self._num_decided)

    def _decide(self, end: int) -> list[bool]:
        """Decisions on the whole blocks before frame ``end``."""
        flags = []
        while self._num_decided + self.block <= end:
            flags += self._decide_block(self.block)
        return flags

    def _decide_block(self, size: int) -> list[bool]:
        """Decisions on the next ``size`` frames, from the context about them and no more."""
        start = self._num_decided - self._num_forgotten
        powers = self._powers[: start + size + self.context]
        flags = self._speech(powers)[start : start + size].tolist() if size else []
        self._num_decided += size
        passed = max(0, start + size - self.context)
        self._powers = self._powers[passed:]
        self._num_forgotten += passed
        return flags

    def _speech(self, powers: Tensor) -> Tensor:
        """Which frames hold speech, [frames] bool, by their bands' ``powers`` [frames, bands]."""
        config = self._config
        powers = _around(powers, 1)
        levels = 10 * powers.clamp(min=1e-12).log10()
        total = 10 * powers.sum(dim=-1).clamp(min=1e-12).log10()
        noise = levels.quantile(0.1, dim=0).clamp(min=config.silence_dbfs - 10)
        levels = levels.maximum(noise)
        excess = (levels - noise).topk(3).values.mean(dim=-1)
        heard = (excess > config.offset_db) & (total > config.silence_dbfs)
        active = _runs_with(heard, heard & (excess > config.onset_db))
        # How much it changes: a sound's first and last frames do whatever it is and do not count,
        # nor does what is far below the loudest band, such as a tone's onset all over the spectrum.
        levels = levels.maximum(levels.amax(dim=-1, keepdim=True) - self.depth)
        inner = (_around(active[:, None].float(), 3) > 0.99).float()
        count = _around(inner, 31)
        mean = _around(levels * inner, 31) / count
        square = _around(levels.square() * inner, 31) / count
        deviation = (square - mean.square()).clamp(min=0).sqrt().mean(dim=-1)
        return active & (deviation > config.variability_db)  # no inner frame: 0 / 0, and no speech


def _around(values: Tensor, reach: int) -> Tensor:
    """Mean over each frame and ``reach`` more on both sides, [frames, dim]; zeros beyond."""
    return F.avg_pool1d(values.T, 2 * reach + 1, stride=1, padding=reach).T


def _runs_with(runs: Tensor, marks: Tensor) -> Tensor:
    """Those runs of true frames in which at least one is marked, all [frames] bool."""
    starts = runs.clone()
    starts[1:] &= ~runs[:-1]
    run = starts.cumsum(0) * runs
    marked = torch.zeros(len(runs) + 1, dtype=torch.bool)
    marked[run[marks]] = True
    return runs & marked[run]


class SileroDetector:
    """Silero's network (MIT), whose package ships its weights; 32 ms a frame."""

    frame = 512

    def __init__(self, config: VoiceActivityConfig) -> None:
        """Load the network: its state belongs to one recording.

        Raises:
            ImportError: the package is not installed, or does not work here.
        """
        num_threads = torch.get_num_threads()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from silero_vad import load_silero_vad

            torch.set_num_threads(num_threads)  # which the import sets to 1 for the whole process
            self._model: Any = load_silero_vad()
        self._probability = config.probability
        self._samples = torch.zeros(0)

    @torch.inference_mode()
    def push(self, samples: Tensor) -> list[bool]:
        """See :meth:`VoiceDetector.push`."""
        samples = torch.cat([self._samples, samples])
        whole = len(samples) // self.frame * self.frame
        self._samples = samples[whole:].clone()
        return self._hear(samples[:whole].split(self.frame) if whole else ())

    @torch.inference_mode()
    def finish(self) -> list[bool]:
        """See :meth:`VoiceDetector.finish`."""
        rest = self._samples
        return self._hear([F.pad(rest, (0, self.frame - len(rest)))] if len(rest) else ())

    def _hear(self, frames: Sequence[Tensor]) -> list[bool]:
        return [float(self._model(frame, SAMPLE_RATE)) >= self._probability for frame in frames]
