"""A long recording cut into stretches of speech below a limit, while it streams by.

Pauses end a segment and what lies between segments holds no speech; nothing that a detector heard
is left out, save sounds too short to be speech. A speaker who goes on beyond the limit is cut at
the quietest point of the segment's second half. Six hours need the memory of one segment and of
the seconds that the detector looks ahead.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from speech.audio import SAMPLE_RATE
from speech.voice_activity import VoiceActivityConfig, VoiceDetector, new_detector

SLICE = SAMPLE_RATE // 100
"""Samples of the slices whose levels are compared."""


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig:
    """How speech is divided; times are in seconds."""

    voice_activity: VoiceActivityConfig = VoiceActivityConfig()
    min_silence: float = 0.3
    """Shorter pauses are part of a segment."""
    min_speech: float = 0.1
    """A segment with less speech than this is noise and dropped."""
    padding: float = 0.1
    """Kept before and after the speech, as far as the recording and the neighbours leave it."""
    max_seconds: float = 30.0
    """Longest segment, padding included."""
    rise_db: float = 6.0
    """The speech of a segment begins and ends where its level is so far above its quietest."""
    range_db: float = 15.0
    """Unless it is less than this below its loudest there: then the level does not tell."""

    def __post_init__(self) -> None:
        for name in ("min_silence", "min_speech", "padding"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more seconds, not {getattr(self, name)}")
        if not max(1.0, 8 * self.padding) <= self.max_seconds < math.inf:
            raise ValueError(
                f"max_seconds ({self.max_seconds}) must be at least 1 and 8 times padding "
                f"({self.padding})"
            )


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of a recording in which somebody speaks."""

    start: float
    """Where its samples begin, in seconds of the recording."""
    end: float
    """Where they end."""
    speech_start: float
    """Where the speech begins: without padding and quiet edges, what a subtitle shows."""
    speech_end: float
    samples: Tensor
    """[samples], float32 at 16 kHz."""


def speech_segments(
    chunks: Iterable[Tensor],
    config: SegmentationConfig,
    *,
    detector: VoiceDetector | None = None,
) -> Iterator[Segment]:
    """Cut a recording into segments, in order and apart, each as soon as it is sure.

    Where the recording is divided into chunks makes no difference.

    Args:
        chunks: of the recording, each [samples], float32 at 16 kHz.
        config: how to cut.
        detector: hears the speech, and nothing before; by default the one that ``config`` names.

    Raises:
        InputError: the detector that the config names is not installed.
        ValueError: a sample is not finite.
    """
    detector = detector or new_detector(config.voice_activity)
    cutter = _Cutter(config, frame=detector.frame)
    for chunk in chunks:
        assert chunk.ndim == 1, "one recording, one channel"
        for piece in chunk.split(SAMPLE_RATE):
            if not piece.isfinite().all():
                raise ValueError("the recording has samples that are not finite")
            cutter.tape.append(piece)
            for is_speech in detector.push(piece):
                yield from cutter.push(is_speech)
    for is_speech in detector.finish():
        yield from cutter.push(is_speech)
    yield from cutter.close()


class _Tape:
    """The samples of a recording that may still be wanted."""

    def __init__(self) -> None:
        self.start = self.end = 0
        self._pieces: deque[Tensor] = deque()

    def append(self, samples: Tensor) -> None:
        self._pieces.append(samples)
        self.end += len(samples)

    def forget(self, end: int) -> None:
        """Let go of pieces that lie before sample ``end``."""
        while self._pieces and self.start + len(self._pieces[0]) <= end:
            self.start += len(self._pieces.popleft())

    def read(self, start: int, end: int) -> Tensor:
        """A copy of the samples from ``start`` to ``end``."""
        assert self.start <= start <= end <= self.end, "forgotten, or not there yet"
        wanted, place = [], self.start
        for piece in self._pieces:
            wanted.append(piece[max(0, start - place) : max(0, end - place)])
            place += len(piece)
        return torch.cat(wanted)


class _Cutter:
    """Turns decisions on frames into segments; all places are counted in samples."""

    def __init__(self, config: SegmentationConfig, *, frame: int) -> None:
        self.tape = _Tape()
        self._frame = frame
        self._rise_db, self._range_db = config.rise_db, config.range_db
        self._min_silence, self._min_speech, self._padding, self._longest = (
            round(seconds * SAMPLE_RATE)
            for seconds in (
                config.min_silence,
                config.min_speech,
                config.padding,
                config.max_seconds,
            )
        )
        self._position = 0  # of the next frame
        self._given = 0  # where the last segment ended
        self._begin: int | None = None  # of the segment being gathered, padding included
        self._speech_begin = self._speech_end = 0  # of the speech in it
        self._num_speech = 0  # samples of speech since the last pause

    def push(self, is_speech: bool) -> Iterator[Segment]:
        """Take the decision on the next frame; gives a segment that is now complete, if any."""
        start, end = self._position, self._position + self._frame
        self._position = end
        if is_speech:
            if start - self._speech_end >= max(self._min_silence, 1):
                yield from self.close(following=start)
            if self._begin is None:
                self._begin, self._speech_begin = max(start - self._padding, self._given), start
            self._speech_end = end
            self._num_speech += self._frame
            # More than once where a short pause, which is kept, came before this frame.
            while end + self._padding - self._begin > self._longest:
                yield self._cut(self._begin)
        elif end - self._speech_end >= max(self._min_silence, 2 * self._padding):
            yield from self.close()
        self.tape.forget(end - self._padding if self._begin is None else self._begin)

    def close(self, *, following: int | None = None) -> Iterator[Segment]:
        """End the segment being gathered, before the speech at ``following`` if any."""
        if self._begin is not None and self._num_speech >= self._min_speech:
            end = min(self._speech_end + self._padding, self.tape.end)
            if following is not None:
                end = min(end, (self._speech_end + following) // 2)
            yield self._segment(self._begin, end)
        self._begin, self._num_speech = None, 0

    def _cut(self, begin: int) -> Segment:
        """Divide the segment that has grown too long where it is quietest."""
        first = begin + self._longest // 2
        last = min(self._speech_end - max(self._padding, self._frame), begin + self._longest)
        slices = self.tape.read(first, last).unfold(0, SLICE, SLICE).square().sum(dim=-1)
        around = slices.unfold(0, 5, 1).sum(dim=-1)
        latest = len(around) - 1 - int(around.flip(0).argmin())
        place = first + (2 * latest + 5) * SLICE // 2
        segment = self._segment(begin, place)
        self._begin = self._speech_begin = place
        return segment

    def _segment(self, begin: int, end: int) -> Segment:
        self._given = end
        samples, last = self.tape.read(begin, end), min(self._speech_end, end)
        speech = samples[self._speech_begin - begin : last - begin]
        before, after = quiet_edges(speech, rise_db=self._rise_db, range_db=self._range_db)
        return Segment(
            start=begin / SAMPLE_RATE,
            end=end / SAMPLE_RATE,
            speech_start=(self._speech_begin + before) / SAMPLE_RATE,
            speech_end=(last - after) / SAMPLE_RATE,
            samples=samples,
        )


def quiet_edges(speech: Tensor, *, rise_db: float, range_db: float) -> tuple[int, int]:
    """Samples at the start and at the end that are no louder than the pauses within.

    A recording's own noise stands out of the silence around it, and a detector lags: neither is
    what a subtitle should show.

    Args:
        speech: [samples], as a detector delimits it.
        rise_db: see :class:`SegmentationConfig`.
        range_db: the same.
    """
    if len(speech) < 8 * SLICE:
        return 0, 0
    slices = speech[: len(speech) // SLICE * SLICE].view(-1, SLICE).square().mean(dim=-1)
    power = F.avg_pool1d(slices[None], 5, stride=1, padding=2, count_include_pad=False)[0]
    levels = 10 * torch.log10(power + 1e-12)
    quietest, loudest = torch.quantile(levels, torch.tensor([0.05, 0.95]))
    loud = (levels > min(quietest + rise_db, loudest - range_db)).nonzero()[:, 0]
    return SLICE * int(loud[0]), SLICE * (len(levels) - 1 - int(loud[-1]))
