"""Sample order as a pure function of seed and position: nothing is drawn, nothing is remembered.

A run reads one endless stream of samples. Position `p` of the stream names a source and a sample in
it, found in constant time, so that the state of a run is the number of batches consumed, and any
number of data ranks and workers compute the same order each for itself.

* A shuffle is a pseudo-random permutation of `0 .. size-1` by a Feistel network over the next power
  of four with cycle walking (Black and Rogaway 2002), keyed by seed, source and pass. It needs no
  memory, and unlike a library's `permutation` it cannot change with the library's version.
* A mixture interleaves its sources evenly: after any `p` positions each has had its share of them,
  to within one sample for each source before it. Sources wrap around, each pass in a new order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Keys = NDArray[np.uint64]

NUM_ROUNDS = 8
DRAWS = 2**32 + 1
"""Keeps draws apart from other hashes of a position."""
SHARES = 2**20
"""Weights are rounded to this many parts, so that positions stay exact in 64 bits."""


def hashed(*numbers: int | Integers | Keys) -> Keys:
    """A 64-bit hash of each tuple of numbers, which are broadcast (splitmix64, folded)."""
    state = np.array([0x9E3779B97F4A7C15], dtype=np.uint64)  # no scalar: these warn of overflow
    for number in numbers:
        state = _mixed(state ^ np.asarray(number).astype(np.uint64))
    return state if any(np.ndim(number) for number in numbers) else state[0]


def uniform(*numbers: int) -> float:
    """A number in 0 .. 1, 1 excluded, from the hash of numbers; for one at a time by far faster."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = (state ^ number) & 2**64 - 1
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & 2**64 - 1
        state = (state ^ state >> 27) * 0x94D049BB133111EB & 2**64 - 1
        state ^= state >> 31
    return (state >> 11) / 2**53


def _mixed(values: Keys) -> Keys:
    """The bits of each value, each of which depends on all of them (splitmix64's last steps)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def permuted(positions: Integers, *, size: int, keys: Keys) -> Integers:
    """Where each position of `0 .. size-1` goes, [N], under the permutation that its key names."""
    half = np.uint64(max(3, ((size - 1).bit_length() + 1) // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    values = positions.astype(np.uint64)
    keys = np.broadcast_to(keys, values.shape)
    round_keys = [hashed(keys, number) for number in range(NUM_ROUNDS)]
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        left, right = values[outside] >> half, values[outside] & low
        for key in round_keys:
            left, right = right, left ^ (_mixed(key[outside] ^ right) & low)
        values[outside] = (left << half) | right
        outside = values >= size
    return values.astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Which sample stands at each position of the endless stream."""

    sizes: tuple[int, ...]
    """Samples in each source."""
    weights: tuple[float, ...] | None = None
    """Relative share of each source; by size if None, so that a pass visits each sample once."""
    seed: int = 0
    shuffle: bool = True
    """Whether each pass over a source has its own random order; otherwise as they lie."""

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError("a mixture needs sources, each with at least one sample")
        if self.weights is not None:
            if len(self.weights) != len(self.sizes):
                raise ValueError("weight: give one to every source of the mixture, or to none")
            if min(self.weights) <= 0:
                raise ValueError("weight must be positive; to leave a source out, delete it")

    def locate(self, positions: Integers) -> tuple[Integers, Integers]:
        """Source and sample in it at each position, both [N]."""
        sources, counts = self._interleave(positions)
        sizes = np.asarray(self.sizes)[sources]
        passes, indices = counts // sizes, counts % sizes
        if not self.shuffle:
            return sources, indices
        for source, size in enumerate(self.sizes):
            mine = sources == source
            keys = hashed(self.seed, source, passes[mine])
            indices[mine] = permuted(indices[mine], size=size, keys=keys)
        return sources, indices

    def substitute(self, position: int, *, attempt: int) -> tuple[int, int]:
        """Source and sample that stand in for an unusable one: the same source, another draw."""
        source = int(self._interleave(np.array([position]))[0][0])
        draw = hashed(self.seed, source, position, attempt)
        return source, int(draw % np.uint64(self.sizes[source]))

    def draws(self, positions: Integers) -> Keys:
        """A number for each position, from which whatever else is random there is drawn, [N]."""
        return hashed(self.seed, positions, DRAWS)

    def _interleave(self, positions: Integers) -> tuple[Integers, Integers]:
        """Source at each position, and how many of its samples came before.

        One source after another takes its share of the positions that are left, evenly spread.
        """
        shares = np.asarray(self.sizes)
        if self.weights is not None:
            scaled = np.asarray(self.weights) / sum(self.weights) * SHARES
            shares = np.maximum(1, scaled.round()).astype(np.int64)
        sources = np.full(len(positions), len(shares) - 1)
        counts = positions.astype(np.int64)  # copied: positions among those still left
        left = np.ones(len(positions), dtype=bool)
        for source, share in enumerate(shares[:-1]):
            rest = shares[source:].sum()
            before = counts * share // rest
            takes = left & ((counts + 1) * share // rest > before)
            sources[takes] = source
            counts = np.where(takes, before, np.where(left, counts - before, counts))
            left &= ~takes
        return sources, counts
