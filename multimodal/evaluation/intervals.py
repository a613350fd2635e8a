"""How sure a figure is: intervals, and whether two models differ on the same samples.

Samples are drawn anew, with replacement, and the metric is computed of each draw (Efron 1979). It
works for every metric whose samples add up, error rates and BLEU among them. But where all samples
are alike, all draws are: ten right answers of ten say nothing of the eleventh, and yet would give
an interval without width. So two kinds of figures have theirs in other ways:

- of scores that are right or wrong, the exact interval of Clopper and Pearson (1934), which holds
  the truth in 95 of 100 sets or more, also near 0 and 100 %;
- where no draw differs, what n samples may hide: with as much confidence, no more than
  1 - 0.025^(1/n) of all samples are of another kind, and these may score anything on the scale.
"""

from collections.abc import Callable

import numpy as np

DRAWS = 1000
"""Resampled sets."""
SEED = 0
_CELLS = 4_000_000
"""Most numbers that are held at once."""
_HALVINGS = 50
"""After so many, a bound is known to 1e-15."""

Total = Callable[[np.ndarray], np.ndarray]
"""The metric of added-up sums, [..., sums] to [...]."""


def value(sums: np.ndarray, total: Total, *, strata: np.ndarray | None = None) -> float:
    """The metric of all samples, or the mean of it over strata.

    Args:
        sums: of each sample, [samples, sums].
        total: the metric.
        strata: which one each sample is of, [samples]; None takes them for one.
    """
    return float(np.mean([total(part.sum(axis=0)) for part in _parted(sums, strata)]))


def interval(
    sums: np.ndarray,
    total: Total,
    *,
    level: float = 0.95,
    most: float = 100.0,
    strata: np.ndarray | None = None,
) -> tuple[float, float]:
    """Interval of `value`.

    Args:
        sums: of each sample, [samples, sums].
        total: the metric.
        level: how often the truth is to lie within.
        most: upper end of the metric's scale; the lower one is 0.
        strata: which one each sample is of, [samples]. Each is drawn from by itself.
    """
    parts, found = _parted(sums, strata), value(sums, total, strata=strata)
    alone = total(sums)
    if len(parts) == 1 and np.isin(alone, (0, most)).all() and np.isclose(alone.mean(), found):
        low, high = _exact(int((alone == most).sum()), len(alone), level)
        return most * low, most * high
    drawn = _draws(parts, total)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    if np.ptp(drawn) < 1e-9:
        hidden = _hidden(parts, level)
        low, high = (1 - hidden) * found, (1 - hidden) * found + hidden * most
    return float(low), float(high)


def paired(
    first: np.ndarray,
    second: np.ndarray,
    total: Total,
    *,
    most: float = 100.0,
    strata: np.ndarray | None = None,
) -> tuple[float, float, float, float]:
    """What a second model gains over a first on the same samples.

    Both see the same draws, so that what is hard for both cancels out (Koehn 2004). The p-value is
    two-sided: twice the share of draws without a difference, or with one of the other sign, the
    samples as they are counted as one draw more. So it is never 0, and agrees with the interval;
    and it is never below that of a sign test in which all samples agree, 2 * 0.5^n.

    Args:
        first: sums of each sample, [samples, sums].
        second: of the same samples.
        total: the metric.
        most: upper end of its scale.
        strata: which one each sample is of, as for `interval`.

    Returns:
        Difference, its 95 % interval, and p.
    """
    both, width = np.concatenate([first, second], axis=1), first.shape[1]

    def gain(sums: np.ndarray) -> np.ndarray:
        return total(sums[..., width:]) - total(sums[..., :width])

    parts, found = _parted(both, strata), value(both, gain, strata=strata)
    drawn = _draws(parts, gain)
    low, high = np.quantile(drawn, [0.025, 0.975])
    if np.ptp(drawn) < 1e-9:
        hidden = _hidden(parts, 0.95)
        low, high = ((1 - hidden) * found + sign * hidden * most for sign in (-1, 1))
    rarer = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = max(2 * (1 + rarer) / (1 + len(drawn)), 2 * 0.5 ** len(both))
    return found, float(low), float(high), float(min(1.0, p))


def _parted(sums: np.ndarray, strata: np.ndarray | None) -> list[np.ndarray]:
    if strata is None:
        return [sums]
    return [sums[strata == each] for each in np.unique(strata)]


def _exact(right: int, number: int, level: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share, 0 to 1."""
    tail = (1 - level) / 2
    return _least(right, number, tail), 1 - _least(number - right, number, tail)


def _least(right: int, number: int, tail: float) -> float:
    """The share of which so many right ones, or more, come up with probability ``tail``."""
    if right == 0:
        return 0.0
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, number + 1)))])  # their logs
    counts = np.arange(right, number + 1)
    ways = factorials[number] - factorials[counts] - factorials[number - counts]
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        chance = np.exp(ways + counts * np.log(share) + (number - counts) * np.log1p(-share)).sum()
        low, high = (share, high) if chance < tail else (low, share)
    return low


def _hidden(parts: list[np.ndarray], level: float) -> float:
    """The largest share of samples that may be unlike all that were seen; its mean over strata."""
    tail = (1 - level) / 2
    return float(np.mean([1 - tail ** (1 / len(part)) for part in parts]))


def _draws(parts: list[np.ndarray], total: Total) -> np.ndarray:
    """The metric of each resampled set, [DRAWS]; its mean where there are several strata."""
    rng = np.random.default_rng(SEED)
    return np.mean([total(_drawn(part, rng)) for part in parts], axis=0)


def _drawn(sums: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sums of each resampled set, [DRAWS, sums]."""
    number = len(sums)
    at_once = max(1, _CELLS // max(number, 1))
    parts = []
    for start in range(0, DRAWS, at_once):
        size = min(at_once, DRAWS - start)
        counts = np.zeros((size, number), dtype=np.float32)
        for row in range(size):  # how often each sample is drawn
            counts[row] = np.bincount(rng.integers(0, number, number), minlength=number)
        parts.append(counts @ sums)
    return np.concatenate(parts)
