"""Two ways of doing one thing, timed in turn: a machine whose speed drifts is fair to both."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times faster ours was, pair by pair."""

    name: str
    against: str
    ours_ms: float
    theirs_ms: float
    low: float
    median: float
    high: float
    target: float
    """What the project promises."""

    def row(self) -> str:
        """One row of a Markdown table."""
        verdict = "met" if self.median >= self.target else "MISSED"
        return (
            f"| {self.name} | {self.against} | {self.ours_ms:.1f} | {self.theirs_ms:.1f} "
            f"| **{self.median:.2f}x** ({self.low:.2f} to {self.high:.2f}) "
            f"| {self.target:.1f}x {verdict} |"
        )


HEADER = (
    "| what | against | ours, ms | theirs, ms | ratio: median (least to most) | target |\n"
    "|---|---|---|---|---|---|"
)


def compare(
    name: str,
    *,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    against: str,
    target: float,
    pairs: int = 7,
    warm_up: int = 1,
) -> Ratio:
    """Run both in turn, ``pairs`` times after ``warm_up`` uncounted pairs."""
    times: list[tuple[float, float]] = []
    for index in range(warm_up + pairs):
        pair = tuple(_milliseconds(run) for run in (ours, theirs))
        if index >= warm_up:
            times.append((pair[0], pair[1]))
    ratios = [slow / fast for fast, slow in times]
    return Ratio(
        name=name,
        against=against,
        ours_ms=statistics.median(fast for fast, _ in times),
        theirs_ms=statistics.median(slow for _, slow in times),
        low=min(ratios),
        median=statistics.median(ratios),
        high=max(ratios),
        target=target,
    )


def _milliseconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def machine() -> str:
    """What the figures were taken on."""
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{platform.machine()}, {os.cpu_count()} cores ({torch.get_num_threads()} threads used), "
        f"{accelerator}, Python {platform.python_version()}, torch {torch.__version__}"
    )
