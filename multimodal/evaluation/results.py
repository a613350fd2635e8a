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
from multimodal.evaluation.benchmark import Benchmark, Judging, Outcome, Settings
from multimodal.evaluation.intervals import Total, interval, value
from multimodal.evaluation.predictions import Prediction, Run
from multimodal.evaluation.verdicts import Verdicts

FILE = "metrics.json"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A metric of some samples."""

    value: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    number: int
    """Samples."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A metric of all samples, and of each group of them."""

    name: str
    """Of the whole: "all", or over what it is a mean."""
    whole: Figure
    groups: dict[str, dict[str, Figure]]
    """By what they are grouped, then by group."""
    most: float
    """Upper end of the metric's scale."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a run came to."""

    benchmark: Benchmark
    """As the run's settings, and a judge, changed it."""
    run: Run
    predictions: Sequence[Prediction]
    outcomes: Sequence[Outcome]
    main: Figures
    further: dict[str, Figures]
    """Of the benchmark's further metrics, by name."""
    unread: int
    """Answers out of which nothing was read; they count as wrong."""
    judge: dict[str, Any] | None
    """Who judged, for the record, with the number of verdicts that could not be read."""


def score(
    benchmark: Benchmark,
    run: Run,
    predictions: Sequence[Prediction],
    *,
    judged: Verdicts | None = None,
) -> Results:
    """Score raw answers.

    Args:
        benchmark: that was run.
        run: with which settings.
        predictions: the answers.
        judged: what somebody said of them, where they were asked.

    Raises:
        InputError: the answers were made for another version of the benchmark, or only a judge can
            tell how they fared.
    """
    if run.version != benchmark.version:
        raise InputError(
            "predictions",
            f"made for version {run.version} of {benchmark.name}; this is {benchmark.version}, "
            "whose figures do not compare",
        )
    benchmark = benchmark.under(run.settings, is_judged=judged is not None)
    judge = None
    if judged is None:
        outcomes = [
            scored(benchmark, each.references, each.answer, run.settings, of=each.key)
            for each in predictions
        ]
    else:
        assert benchmark.judging is not None
        found = [
            _judged(benchmark.judging, each, verdict)
            for each, verdict in zip(predictions, judged.said, strict=True)
        ]
        outcomes = [outcome or benchmark.judging.unread for outcome in found]
        judge = {**judged.about, "unreadable_verdicts": found.count(None)}
    sums = np.array([outcome.sums for outcome in outcomes], dtype=float)
    members: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, each in enumerate(predictions):
        for name, group in each.groups.items():
            members[name][group].append(index)
    strata = strata_of(benchmark, predictions)

    def figures(total: Total, most: float) -> Figures:
        return Figures(
            name=f"mean over each {benchmark.mean_over}" if benchmark.mean_over else "all",
            whole=_figure(sums, total, most=most, strata=strata),
            groups={
                name: {
                    group: _figure(sums[some[group]], total, most=most) for group in sorted(some)
                }
                for name, some in sorted(members.items())
            },
            most=most,
        )

    return Results(
        benchmark=benchmark,
        run=run,
        predictions=predictions,
        outcomes=outcomes,
        main=figures(benchmark.total, 100.0),
        further={each.name: figures(each.total, each.most) for each in benchmark.further},
        unread=sum(not outcome.answer for outcome in outcomes),
        judge=judge,
    )


def scored(
    benchmark: Benchmark, references: Any, answer: str, settings: Settings, *, of: str = ""
) -> Outcome:
    """How one answer fared.

    Raises:
        InputError: the references are another benchmark's, or what the metric needs is missing, a
            judge among it.
    """
    if benchmark.score is None:
        assert benchmark.judging is not None
        option = f"--{benchmark.judging.option}"
        raise InputError(option, f"{benchmark.name} needs one: name it as module:function")
    try:
        return benchmark.score(references, answer, settings)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise InputError("predictions", f"{of}: unfit references ({error})") from None
    except ImportError as error:
        raise InputError(
            benchmark.name, f"{error.name} is not installed: pip install 'openherd[evaluate]'"
        ) from None


def _judged(judging: Judging, prediction: Prediction, verdict: Any) -> Outcome | None:
    try:
        return judging.score(prediction.references, verdict)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError("predictions", f"{prediction.key}: unfit references ({error})") from None


def metrics(results: Results, *, software: dict[str, Any]) -> dict[str, Any]:
    """All that somebody needs to know of a figure before they quote it."""
    benchmark, run = results.benchmark, results.run
    return {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "metric": benchmark.metric,
        **_plain(results.main),
        "mean_over": benchmark.mean_over,
        "further": {name: _plain(figures) for name, figures in results.further.items()},
        "unread_answers": results.unread,
        "version": benchmark.version,
        "split": run.settings.split or benchmark.split,
        "settings": vars(run.settings),
        "prompt": run.prompt,
        "normalizer": benchmark.normalizer,
        "decoding": run.decoding,
        "judge": results.judge or "none",
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


def strata_of(benchmark: Benchmark, predictions: Sequence[Prediction]) -> np.ndarray | None:
    """The group of each sample over whose mean the metric is taken, if it is over any."""
    if not benchmark.mean_over:
        return None
    return np.array([each.groups.get(benchmark.mean_over, "") for each in predictions])


def _figure(
    sums: np.ndarray, total: Total, *, most: float, strata: np.ndarray | None = None
) -> Figure:
    low, high = interval(sums, total, most=most, strata=strata)
    return Figure(value=value(sums, total, strata=strata), low=low, high=high, number=len(sums))


def _plain(figures: Figures) -> dict[str, Any]:
    """A figure and those of its groups, as they are written."""

    def plain(figure: Figure) -> dict[str, float | int]:
        return {
            "value": round(figure.value, 4),
            "low": round(figure.low, 4),
            "high": round(figure.high, 4),
            "number": figure.number,
        }

    groups = {
        name: {group: plain(figure) for group, figure in some.items()}
        for name, some in figures.groups.items()
    }
    return {**plain(figures.whole), "groups": groups}
