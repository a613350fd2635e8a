"""How sure a figure is: bootstrap intervals, and whether two models differ on the same samples.

Samples are drawn anew, with replacement, and the metric is computed of each draw (Efron 1979). It
works for every metric whose samples add up, error rates and BLEU among them.
"""

from collections.abc import Callable

import numpy as np

DRAWS = 1000
"""Resampled sets."""
SEED = 0
_CELLS = 4_000_000
"""Most numbers that are held at once."""

Total = Callable[[np.ndarray], np.ndarray]


def interval(sums: np.ndarray, total: Total, *, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of a metric.

    Args:
        sums: of each sample, [samples, sums].
        total: the metric of added-up sums, [..., sums] to [...].
        level: share of the draws that lie within.
    """
    found = total(_drawn(sums))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired(
    first: np.ndarray, second: np.ndarray, total: Total
) -> tuple[float, float, float, float]:
    """What a second model gains over a first on the same samples.

    Both see the same draws, so that what is hard for both cancels out (Koehn 2004). The p-value is
    two-sided: twice the share of draws without a difference, or with one of the other sign, the
    samples as they are counted as one draw more. So it is never 0, and agrees with the interval.

    Args:
        first: sums of each sample, [samples, sums].
        second: of the same samples.
        total: the metric.

    Returns:
        Difference, its 95 % interval, and p.
    """
    both = _drawn(np.concatenate([first, second], axis=1))
    width = first.shape[1]
    drawn = total(both[:, width:]) - total(both[:, :width])
    found = float(total(second.sum(axis=0)) - total(first.sum(axis=0)))
    low, high = np.quantile(drawn, [0.025, 0.975])
    rarer = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, 2 * (1 + rarer) / (1 + len(drawn)))
    return found, float(low), float(high), float(p)


def _drawn(sums: np.ndarray) -> np.ndarray:
    """Sums of each resampled set, [DRAWS, sums]."""
    number = len(sums)
    rng = np.random.default_rng(SEED)
    at_once = max(1, _CELLS // max(number, 1))
    parts = []
    for start in range(0, DRAWS, at_once):
        size = min(at_once, DRAWS - start)
        counts = np.zeros((size, number), dtype=np.float32)
        for row in range(size):  # how often each sample is drawn
            counts[row] = np.bincount(rng.integers(0, number, number), minlength=number)
        parts.append(counts @ sums)
    return np.concatenate(parts)
