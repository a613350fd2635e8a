"""The loader: workers decode, batches come in an order that only the seed decides.

A worker makes whole batches: it is told a step, works out which samples belong to it
(`multimodal.data.batching`), takes its data rank's share of them, and decodes. Nothing passes
between workers, so their number changes nothing, and to resume is to count from another step.

An unusable sample is replaced by another of its source, drawn by a hash of its position in the
stream: the same one whichever rank or worker meets it. Where batches are bounded in seconds and no
other sample is short enough, the batch has one row less.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from language.errors import InputError
from multimodal.batch import Batch, Recordings
from multimodal.data.batching import Plan
from multimodal.data.faults import FaultBudget
from multimodal.data.samples import Sample, Source
from multimodal.data.tasks import Task
from multimodal.processor import TooLongError
from speech.recordings import SpeechBatch

MAX_ATTEMPTS = 100
"""Substitutes that are tried for one sample."""

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Report:
    """What a worker found while it made a batch."""

    num_sound: int = 0
    place: dict[str, int] = field(default_factory=dict)
    """Where the plan stands; see `Plan.place`."""
    broken: list[str] = field(default_factory=list)
    too_long: list[str] = field(default_factory=list)
    failure: InputError | None = None
    """Why there is no batch, if there is none; torch would not carry it out of a worker whole."""


class Batches(Dataset[tuple[Any, Report]]):
    """This data rank's part of each global batch, by step."""

    def __init__(
        self, plan: Plan, sources: Sequence[Source], task: Task, *, rank: int, num_ranks: int
    ) -> None:
        """Make batches of ``task`` from ``sources`` as ``plan`` says."""
        self.plan, self.sources, self.task = plan, sources, task
        self.rank, self.num_ranks = rank, num_ranks

    def __getitem__(self, step: int) -> tuple[Any, Report]:
        samples = self.plan.batch(step)
        mine = samples[self.rank :: self.num_ranks]
        is_filler = len(mine) == 0  # a last, short batch: every rank must take part in each step
        if is_filler:
            mine = samples[:1]
        report = Report(place=self.plan.place(step))
        try:
            found = [self._row(report, step, *sample) for sample in mine.tolist()]
            rows = [row for row in found if row is not None]
            if not rows:
                raise InputError(
                    self.sources[int(mine[0, 1])].name,
                    "all samples of a batch are unusable, and no other is as short; the last: "
                    f"{(report.broken or report.too_long)[-1]}",
                )
        except InputError as error:
            report.failure = error
            return None, report
        if is_filler:
            rows = list(map(self.task.without_loss, rows))
        return self.task.collate(rows), report

    def _row(self, report: Report, step: int, position: int, source: int, index: int) -> Any:
        """The row of a sample, or of the first of its substitutes that can be used, or None."""
        substitutes = self.plan.substitutes(step, position)
        for _ in range(MAX_ATTEMPTS):
            try:
                sample = self.sources[source].read(index)
                if isinstance(sample, Sample):
                    draw = self.plan.mixture.draws(np.array([position]))[0]
                    sample = replace(sample, draw=int(draw))
                row = self.task.encode(sample)
                report.num_sound += 1
                return row
            except TooLongError as error:
                report.too_long.append(str(error))
            except InputError as error:
                report.broken.append(str(error))
            except (OSError, RecursionError, ValueError) as error:  # foreseen nowhere else
                name = f"{self.sources[source].name}: sample {index}"
                report.broken.append(str(InputError(name, f"{type(error).__name__}: {error}")))
            following = next(substitutes, None)
            if following is None:
                return None
            source, index = following
        raise InputError(
            self.sources[source].name,
            f"{MAX_ATTEMPTS} samples in a row are unusable; the last: "
            f"{(report.broken or report.too_long)[-1]}",
        )


class Loader:
    """Batches from some step on, with the state to go on from there.

    The state counts batches that were handed out, not those that workers made ahead of time.
    """

    def __init__(
        self,
        batches: Batches,
        *,
        num_workers: int = 0,
        prefetch: int = 2,
        pin_memory: bool = False,
        start_method: str | None = None,
        budget: FaultBudget,
    ) -> None:
        """Load ``batches``.

        Args:
            batches: what to load.
            num_workers: processes that decode; 0 decodes in this one.
            prefetch: batches that each worker makes ahead.
            pin_memory: whether batches are page-locked, for a GPU.
            start_method: of the worker processes: fork, spawn or forkserver.
            budget: counts faults, and stops the run when there are too many.
        """
        self.batches = batches
        self.budget = budget
        self.step = 0
        """Batches handed out since the start of the run."""
        self._place: dict[str, int] = {}
        self._padding = {"tokens": (0, 0), "tiles": (0, 0), "seconds": (0, 0)}
        self._steps = _Steps(len(self))
        self._loader = DataLoader(
            batches,
            batch_size=None,
            sampler=self._steps,
            num_workers=num_workers,
            prefetch_factor=prefetch if num_workers else None,
            persistent_workers=num_workers > 0,
            pin_memory=pin_memory,
            multiprocessing_context=start_method if num_workers else None,
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.batches.plan.batches_per_epoch

    def __iter__(self) -> Iterator[Any]:
        """As many batches as an epoch has, from the present step on."""
        if self.batches.plan.once:
            self.step = 0
        self._steps.start = self.step
        for batch, report in self._loader:
            self._count(report)
            self._measure(batch)
            self._place = report.place
            self.step += 1
            yield batch

    def samples(self, step: int) -> list[str]:
        """What the global batch of a step is made of: a source and a number in it each."""
        sources = self.batches.sources
        return [
            f"{sources[source].name}:{index}"
            for _, source, index in self.batches.plan.batch(step).tolist()
        ]

    def metrics(self) -> dict[str, float]:
        """Faults so far, and shares of padding since the last call."""
        found = {
            "data/broken": float(self.budget.num_broken),
            "data/too_long": float(self.budget.num_too_long),
        }
        for kind, (real, room) in self._padding.items():
            if room:
                found[f"data/padded_{kind}"] = 1 - real / room
        self._padding = dict.fromkeys(self._padding, (0, 0))
        return found

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands: a few numbers, the same on every rank."""
        plan = self.batches.plan
        return {
            "step": self.step,
            **self._place,
            **plan.settings,
            "seed": plan.mixture.seed,
            "num_samples": sum(plan.mixture.sizes),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the batch after those that had been handed out."""
        plan = self.batches.plan
        now = self.state_dict()
        for key in (*plan.settings, "seed", "num_samples"):
            if state.get(key) != now[key]:
                log.warning(
                    "the run to resume had data %s=%s, now it is %s: the order of samples changes",
                    key, state.get(key), now[key],
                )  # fmt: skip
        self.step = state["step"]
        self._place = {key: state[key] for key in plan.place(0) if key in state}
        plan.go_on(state)

    def _count(self, report: Report) -> None:
        self.budget.sound(report.num_sound)
        for fault in report.too_long:
            self.budget.too_long(fault)
        for fault in report.broken:
            self.budget.broken(fault)
        if report.failure is not None:
            raise report.failure

    def _measure(self, batch: Any) -> None:
        recordings = batch.recordings if isinstance(batch, Batch) else batch
        if isinstance(recordings, Recordings | SpeechBatch):
            self._add("seconds", int(recordings.lengths.sum()), recordings.waveforms.numel())
        if not isinstance(batch, Batch):
            return
        self._add("tokens", int(batch.lengths.sum()), batch.tokens.numel())
        if batch.images is not None:
            tiles = batch.images.arrangements.prod(dim=1)
            per_row = torch.zeros(len(batch.tokens), dtype=torch.int64)
            per_row.index_add_(0, batch.images.rows, tiles)
            self._add("tiles", int(tiles.sum()), len(per_row) * int(per_row.max()))

    def _add(self, kind: str, real: int, room: int) -> None:
        before = self._padding[kind]
        self._padding[kind] = before[0] + real, before[1] + room


class _Steps(Sampler[int]):
    """Numbers of the steps to come."""

    def __init__(self, count: int) -> None:
        self.start, self.count = 0, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.start + self.count))
