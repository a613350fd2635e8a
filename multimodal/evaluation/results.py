"""From predictions to figures: the metric with its interval, by groups, and what it rests on."""

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from language.errors import InputError
from multimodal.evaluation.benchmark import Benchmark, Outcome, Settings
from multimodal.evaluation.intervals import interval, paired
from multimodal.evaluation.predictions import Prediction, Run, read_predictions

FILE = "metrics.json"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A metric of some samples."""

    value: float
    low: float
    """Lower end of the 95 % interval, by bootstrap."""
    high: float
    number: int
    """Samples."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a run came to."""

    run: Run
    predictions: Sequence[Prediction]
    outcomes: Sequence[Outcome]
    whole: Figure
    groups: dict[str, dict[str, Figure]]
    """By what they are grouped, then by group."""
    unread: int
    """Answers out of which nothing was read; they count as wrong."""


def score(benchmark: Benchmark, run: Run, predictions: Sequence[Prediction]) -> Results:
    """Score raw answers.

    Raises:
        InputError: they were made for another version of the benchmark.
    """
    if run.version != benchmark.version:
        raise InputError(
            "predictions",
            f"made for version {run.version} of {benchmark.name}; this is {benchmark.version}, "
            "whose figures do not compare",
        )
    outcomes = [
        scored(benchmark, each.references, each.answer, run.settings, of=each.key)
        for each in predictions
    ]
    sums = np.array([outcome.sums for outcome in outcomes], dtype=float)
    members: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, each in enumerate(predictions):
        for name, group in each.groups.items():
            members[name][group].append(index)
    return Results(
        run=run,
        predictions=predictions,
        outcomes=outcomes,
        whole=_figure(benchmark, sums),
        groups={
            name: {group: _figure(benchmark, sums[members[name][group]]) for group in sorted(some)}
            for name, some in sorted(members.items())
        },
        unread=sum(not outcome.answer for outcome in outcomes),
    )


def scored(
    benchmark: Benchmark, references: Any, answer: str, settings: Settings, *, of: str = ""
) -> Outcome:
    """How one answer fared.

    Raises:
        InputError: the references are another benchmark's, or what the metric needs is missing.
    """
    try:
        return benchmark.score(references, answer, settings)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise InputError("predictions", f"{of}: unfit references ({error})") from None
    except ImportError as error:
        raise InputError(
            benchmark.name, f"{error.name} is not installed: pip install 'openherd[evaluate]'"
        ) from None


def metrics(benchmark: Benchmark, results: Results, *, software: dict[str, Any]) -> dict[str, Any]:
    """All that somebody needs to know of a figure before they quote it."""
    run = results.run
    return {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "metric": benchmark.metric,
        **_plain(results.whole),
        "groups": {
            name: {group: _plain(figure) for group, figure in some.items()}
            for name, some in results.groups.items()
        },
        "unread_answers": results.unread,
        "version": benchmark.version,
        "split": run.settings.split or benchmark.split,
        "settings": vars(run.settings),
        "prompt": run.prompt,
        "normalizer": benchmark.normalizer,
        "decoding": run.decoding,
        "judge": "none",
        "model": run.model,
        "software": software,
        "paper": dict(benchmark.paper),
        "source": benchmark.source,
        "note": benchmark.note,
    }


def write_metrics(folder: Path, content: dict[str, Any]) -> Path:
    """Write ``metrics.json``."""
    return written(folder / FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def written(file: Path, text: str) -> Path:
    """Write a file beside the predictions, all or none.

    Raises:
        InputError: the folder cannot be written.
    """
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(file, f"cannot be written ({error.strerror})") from None
    return file


def compare(benchmark: Benchmark, first: Path, second: Path) -> dict[str, Any]:
    """What a second run gains over a first, on the samples of both.

    Raises:
        InputError: they answered other questions.
    """
    (run, before), (other, after) = read_predictions(first), read_predictions(second)
    for name in ("benchmark", "version", "settings"):
        if getattr(run, name) != getattr(other, name):
            raise InputError(second, f"another {name} than {first}'s: {getattr(other, name)!s:.80}")
    keys = [each.key for each in before]
    if sorted(keys) != sorted(each.key for each in after):
        raise InputError(second, f"answers other samples than {first}")
    by_key = {each.key: each for each in after}
    results = [score(benchmark, run, before), score(benchmark, other, [by_key[k] for k in keys])]
    sums = [np.array([o.sums for o in each.outcomes], dtype=float) for each in results]
    difference, low, high, p = paired(sums[0], sums[1], benchmark.total)
    better = int((sums[1][:, 0] > sums[0][:, 0]).sum()), int((sums[1][:, 0] < sums[0][:, 0]).sum())
    return {
        "benchmark": benchmark.name,
        "metric": benchmark.metric,
        "first": results[0].whole.value,
        "second": results[1].whole.value,
        "difference": difference,
        "low": low,
        "high": high,
        "p": p,
        "number": len(keys),
        "samples_with_more": better[0],
        "samples_with_less": better[1],
    }


def _figure(benchmark: Benchmark, sums: np.ndarray) -> Figure:
    low, high = interval(sums, benchmark.total)
    value = float(benchmark.total(sums.sum(axis=0)))
    return Figure(value=value, low=low, high=high, number=len(sums))


def _plain(figure: Figure) -> dict[str, float | int]:
    return {
        "value": round(figure.value, 4),
        "low": round(figure.low, 4),
        "high": round(figure.high, 4),
        "number": figure.number,
    }
