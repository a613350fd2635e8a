"""Batches of similar samples, as a pure function of the step (paper section 7.4, batching).

Samples that need as many tiles and nearly as many tokens share a batch, so that little is padded.
To keep the order a pure function, this is done inside a window: the next `window` batches' worth of
the stream are sorted by cost, cut into batches, and the batches shuffled. Sorting looks at sizes
from the index alone, never at the samples.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import numpy as np

from multimodal.data.order import Integers, Mixture, hashed

Cost = Callable[[int, int], float]
"""What the sample at (source, index) costs; only the order of costs matters."""


class Plan(Protocol):
    """Which samples each global batch is made of."""

    mixture: Mixture
    once: bool
    """One pass, for validation; otherwise without end."""

    @property
    def batches_per_epoch(self) -> int:
        """Batches in an epoch."""

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the order, beside the mixture."""

    def batch(self, step: int) -> Integers:
        """Position, source, and number in the source of each sample, [samples, 3]."""

    def substitutes(self, step: int, position: int) -> Iterator[tuple[int, int]]:
        """Source and number of samples that may stand in for one of a batch."""

    def place(self, step: int) -> dict[str, int]:
        """What the state of a run after this step holds, to go on from there without counting."""

    def go_on(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


@dataclass(kw_only=True)
class BatchPlan:
    """Which positions of the stream make up each global batch."""

    mixture: Mixture
    batch_size: int
    """Samples of a global batch, over all data ranks."""
    cost: Cost
    window: int = 64
    """Batches that are sorted together; 1 leaves the order as it is."""
    once: bool = False
    """One pass, the last batch short (for validation); otherwise full batches without end."""
    _latest: tuple[tuple[int, int], list[Integers]] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for key in ("batch_size", "window"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be 1 or more, not {getattr(self, key)}")

    @property
    def batches_per_epoch(self) -> int:
        """Batches in an epoch: one pass over as many samples as all sources have together."""
        total = sum(self.mixture.sizes)
        if self.once:
            return -(-total // self.batch_size)
        return max(1, total // self.batch_size)

    def batch(self, step: int) -> Integers:
        """What global batch `step`, counted from the start of the run, is made of.

        Returns:
            [samples, 3]: position in the stream, source, and number in the source.
        """
        epoch, step = divmod(step, self.batches_per_epoch)
        window, slot = divmod(step, self.window)
        if self._latest is None or self._latest[0] != (epoch, window):
            self._latest = (epoch, window), self._batches(epoch, window)
        return self._latest[1][slot]

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the order, beside the mixture."""
        return {"batch_size": self.batch_size}

    def substitutes(self, step: int, position: int) -> Iterator[tuple[int, int]]:
        """Others of the same source, without end."""
        for attempt in count():
            yield self.mixture.substitute(position, attempt=attempt)

    def place(self, step: int) -> dict[str, int]:
        """Nothing: the window of a step is known from its number."""
        return {}

    def go_on(self, state: dict[str, Any]) -> None:
        """Nothing to take over."""

    def _batches(self, epoch: int, window: int) -> list[Integers]:
        num_batches = min(self.window, self.batches_per_epoch - window * self.window)
        start = (epoch * self.batches_per_epoch + window * self.window) * self.batch_size
        stop = start + num_batches * self.batch_size
        if self.once:
            stop = min(stop, sum(self.mixture.sizes))
        positions = np.arange(start, stop)
        samples = np.stack((positions, *self.mixture.locate(positions)), axis=1)  # [samples, 3]
        if self.window > 1:
            costs = [self.cost(source, index) for _, source, index in samples.tolist()]
            samples = samples[np.argsort(costs, kind="stable")]
        batches = np.split(samples, range(self.batch_size, len(samples), self.batch_size))
        if self.once:
            return batches
        order = np.argsort(hashed(self.mixture.seed, epoch, window, np.arange(num_batches)))
        return [batches[i] for i in order]
