"""Which frames of a clip are looked at: instants spread evenly over its presentation time.

Time, not frame number, decides (paper section 7: 16 or 64 frames "uniformly sampled"): variable
rates and edit lists shift numbers, but what is on screen at an instant is a fact. Times are integer
ticks and instants exact fractions of them, so that nothing depends on rounding.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """An open clip: when each frame begins to be shown, and how to come by its picture."""

    ticks: np.ndarray
    """`[frames]` int64, ascending, each once: when each frame begins to be shown."""
    seconds_per_tick: Fraction
    pictures: Callable[[np.ndarray], Iterator[tuple[int, Image.Image]]]
    """Yields (index, upright RGB picture) for ascending indices into `ticks`, one by one."""

    def time(self, index: int) -> float:
        """Seconds from the first shown instant to the beginning of a frame."""
        return float((int(self.ticks[index]) - int(self.ticks[0])) * self.seconds_per_tick)


def spread(ticks: np.ndarray, num_frames: int) -> np.ndarray:
    """Indices of the frames that are on screen at `num_frames` instants, ascending, each once.

    The instants are evenly spread from the first frame's beginning to the last one's, both
    included; a single one is the middle. At an instant the frame with the largest tick not beyond
    it is on screen. Where there are no more frames than instants, all of them are taken.

    Args:
        ticks: `[frames]` int64, ascending, each once; at least one.
        num_frames: how many instants, 1 or more.
    """
    if num_frames == 1:
        middle = (int(ticks[0]) + int(ticks[-1])) // 2
        return np.searchsorted(ticks, [middle], side="right") - 1
    if len(ticks) <= num_frames:
        return np.arange(len(ticks))
    first, span = int(ticks[0]), int(ticks[-1]) - int(ticks[0])
    # Ticks are whole, so that those not beyond an instant are those not beyond its floor.
    instants = [first + span * index // (num_frames - 1) for index in range(num_frames)]
    return np.unique(np.searchsorted(ticks, np.array(instants, np.int64), side="right") - 1)
