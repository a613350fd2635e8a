"""What a filter says of one clip."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a clip passes one filter, and why not."""

    filter: str
    """Which filter said so."""
    passed: bool
    score: float
    """What was measured; the filter says in which unit."""
    reason: str = ""
    """Why the clip is refused, in words; empty where it passes."""
