"""Batches by total duration, as a pure function of the step (paper section 8.2, training).

Recordings last from a second to a minute, so a fixed number of them in a batch would waste either
memory or time. Here a batch holds as many recordings of like length as stay within a number of
seconds, padding counted. As in `multimodal.data.batching` the stream is cut into windows, each of
a fixed number of samples, that are sorted, cut and shuffled; durations come from the index.

How many batches a window gives depends on its durations, so the window of a step is found by
counting those before it. That is done once, as the run goes on, and the state of a run names the
window that it stands in, so that a resumed run counts nothing again.

Samples of a batch are a multiple of `multiple`, which any number of data ranks that divides it
shares evenly: the batches do not depend on that number.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from multimodal.data.order import Integers, Mixture, hashed

Duration = Callable[[int, int, int], tuple[int, float]]
"""Recordings in the row of the sample at (source, index) and seconds of the longest, given what
the sample draws (`Sample.draw`); from the index alone."""

MAX_DRAWS = 1000
"""Substitutes that are looked at, not read, to find some that are short enough."""


@dataclass(frozen=True, kw_only=True)
class _TimedBatch:
    samples: Integers
    """[samples, 3]."""
    num_recordings: int
    """Most recordings of a row."""
    seconds: float
    """Longest recording that may stand in the batch without making it larger than allowed."""


@dataclass(kw_only=True)
class DurationPlan:
    """Which positions of the stream make up each global batch."""

    mixture: Mixture
    max_batch_seconds: float
    """Seconds of all recordings of a global batch, each counted as long as the longest."""
    duration: Duration
    multiple: int = 8
    """Samples of a batch are a multiple of this."""
    max_batch_size: int | None = None
    """Samples of a batch at most, however short they are."""
    window: int = 4096
    """Samples that are sorted together."""
    once: bool = False
    """One pass, with a last batch that is no multiple (for validation); otherwise without end."""
    _starts: list[int] = field(default_factory=lambda: [0], init=False)
    """First steps of windows that are known, rising."""
    _windows: list[int] = field(default_factory=lambda: [0], init=False)
    """These windows."""
    _latest: tuple[int, list[_TimedBatch]] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for key in ("max_batch_seconds", "multiple", "window"):
            if getattr(self, key) <= 0:
                raise ValueError(f"{key} must be more than 0, not {getattr(self, key)}")
        if self.max_batch_size is not None and self.max_batch_size < self.multiple:
            raise ValueError(
                f"max_batch_size={self.max_batch_size} must be {self.multiple} or more: samples of "
                "a batch are a multiple of that"
            )
        total = sum(self.mixture.sizes)
        self.window = _rounded_up(min(self.window, total), self.multiple)

    @property
    def row_seconds(self) -> float:
        """Most that one row may last, all its recordings together and padding counted."""
        return self.max_batch_seconds / self.multiple

    @cached_property
    def batches_per_epoch(self) -> int:
        """Batches in an epoch: of validation all; of training about one pass.

        A pass of training is counted from its first window, since to count it exactly all
        durations would have to be looked up; the stream has no seams at the ends of epochs.
        """
        total = sum(self.mixture.sizes)
        if self.once:
            return sum(len(self._batches(w)) for w in range(-(-total // self.window)))
        return max(1, round(len(self._batches(0)) * total / self.window))

    def batch(self, step: int) -> Integers:
        """What global batch `step`, counted from the start of the run, is made of.

        Returns:
            [samples, 3]: position in the stream, source, and number in the source.
        """
        return self._find(step).samples

    def substitutes(self, step: int, position: int) -> Iterator[tuple[int, int]]:
        """Source and sample of those that may stand in for one of a batch, without end or few.

        They are drawn from the same source, and none makes the batch longer than allowed.
        """
        batch = self._find(step)
        draw = int(self.mixture.draws(np.array([position]))[0])
        for attempt in range(MAX_DRAWS):
            source, index = self.mixture.substitute(position, attempt=attempt)
            number, seconds = self._duration(source, index, draw)
            if number <= batch.num_recordings and seconds <= batch.seconds:
                yield source, index

    def place(self, step: int) -> dict[str, int]:
        """The window of a step and the first step of that window, for the state of a run."""
        self._find(step)
        entry = bisect_right(self._starts, step) - 1
        return {"window": self._windows[entry], "window_start": self._starts[entry]}

    def go_on(self, state: dict[str, Any]) -> None:
        """Take over from a state where a window starts, so that no other is counted."""
        if state.get("window", 0) > 0:
            self._starts = [0, state["window_start"]]
            self._windows = [0, state["window"]]

    @property
    def settings(self) -> dict[str, float]:
        """What decides the order, beside the mixture."""
        return {
            "max_batch_seconds": self.max_batch_seconds,
            "multiple": self.multiple,
            "max_batch_size": self.max_batch_size or 0,
            "window_samples": self.window,
        }

    def _find(self, step: int) -> _TimedBatch:
        entry = bisect_right(self._starts, step) - 1
        while True:
            start, window = self._starts[entry], self._windows[entry]
            batches = self._batches(window)
            if step < start + len(batches):
                return batches[step - start]
            entry += 1
            if entry == len(self._starts):
                self._starts.append(start + len(batches))
                self._windows.append(window + 1)

    def _batches(self, window: int) -> list[_TimedBatch]:
        if self._latest is None or self._latest[0] != window:
            self._latest = window, self._cut(window)
        return self._latest[1]

    def _cut(self, window: int) -> list[_TimedBatch]:
        """Sort a window and cut it where one row more would be too much."""
        start, stop = window * self.window, (window + 1) * self.window
        if self.once:
            stop = min(stop, sum(self.mixture.sizes))
        positions = np.arange(start, stop)
        samples = np.stack((positions, *self.mixture.locate(positions)), axis=1)  # [samples, 3]
        draws = self.mixture.draws(positions).tolist()
        sizes = [
            self._duration(source, index, draw)
            for (_, source, index), draw in zip(samples.tolist(), draws, strict=True)
        ]
        order = sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True)
        samples, sizes = samples[order], [sizes[i] for i in order]
        batches, first, most, longest = [], 0, 0, 0.0
        for group in range(0, len(sizes), self.multiple):
            here = sizes[group : group + self.multiple]
            most_here, longest_here = max(n for n, _ in here), max(s for _, s in here)
            most, longest = max(most, most_here), max(longest, longest_here)
            if group > first and not self._fits(group + self.multiple - first, most, longest):
                batches.append(self._batch(samples[first:group], sizes[first:group]))
                first, most, longest = group, most_here, longest_here
        batches.append(self._batch(samples[first:], sizes[first:]))
        if self.once:
            return batches
        shuffle = np.argsort(hashed(self.mixture.seed, window, np.arange(len(batches))))
        return [batches[i] for i in shuffle]

    def _fits(self, num_rows: int, num_recordings: int, seconds: float) -> bool:
        if self.max_batch_size is not None and num_rows > self.max_batch_size:
            return False
        return num_rows * num_recordings * seconds <= self.max_batch_seconds

    def _batch(self, samples: Integers, sizes: list[tuple[int, float]]) -> _TimedBatch:
        most = max(number for number, _ in sizes)
        longest = max(seconds for _, seconds in sizes)
        num_rows = _rounded_up(len(samples), self.multiple)
        room = self.max_batch_seconds / (num_rows * most)
        return _TimedBatch(samples=samples, num_recordings=most, seconds=max(longest, room))

    def _duration(self, source: int, index: int, draw: int) -> tuple[int, float]:
        """The size of a row.

        One that is too long by itself counts as the longest that is not: the task refuses it, and
        its place is taken by another.
        """
        number, seconds = self.duration(source, index, draw)
        if number * seconds > self.row_seconds:
            return 1, self.row_seconds
        return number, seconds


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
