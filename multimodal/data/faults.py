"""Samples that cannot be used: named, counted, skipped, until their share passes a limit."""

import logging
from dataclasses import dataclass, field

from language.errors import InputError

log = logging.getLogger(__name__)

NUM_NAMED = 5
"""Samples too long that are named in the log; of the others only the number is kept."""


@dataclass(kw_only=True)
class FaultBudget:
    """Counts of samples read, and when there are too many faults among them."""

    max_share: float = 0.01
    """Share of broken samples beyond which the run stops."""
    min_count: int = 200
    """Samples that the share is taken of at least, so that one early fault does not stop a run."""
    seen: int = field(default=0, init=False)
    """Samples read, sound or not."""
    num_broken: int = field(default=0, init=False)
    num_too_long: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.max_share <= 1:
            raise ValueError(f"max_broken_share must lie in 0..1, not {self.max_share}")

    def sound(self, number: int = 1) -> None:
        """Count samples without fault."""
        self.seen += number

    def too_long(self, fault: str) -> None:
        """Count a sample that was dropped for its length."""
        self.seen += 1
        self.num_too_long += 1
        if self.num_too_long <= NUM_NAMED:
            last = "; further ones are only counted" if self.num_too_long == NUM_NAMED else ""
            log.warning("dropped, too long: %s%s", fault, last)

    def broken(self, fault: str) -> None:
        """Count a broken sample.

        Raises:
            InputError: there are too many.
        """
        self.seen += 1
        self.num_broken += 1
        log.warning("skipped: %s", fault)
        if self.num_broken > self.max_share * max(self.seen, self.min_count):
            raise InputError(
                fault,
                f"and with it {self.num_broken} of {self.seen} samples are broken, more than "
                f"max_broken_share={self.max_share:g} allows",
            )

    def summary(self) -> str:
        """The counts in words."""
        return (
            f"{self.seen:,} samples read, {self.num_broken:,} broken, "
            f"{self.num_too_long:,} too long"
        )
