"""Two runs of one benchmark, sample by sample: what the second model gains over the first."""

from pathlib import Path
from typing import Any

import numpy as np

from language.errors import InputError
from multimodal.evaluation.benchmark import Benchmark
from multimodal.evaluation.intervals import paired
from multimodal.evaluation.judges import Judge
from multimodal.evaluation.predictions import read_predictions
from multimodal.evaluation.results import score, strata_of
from multimodal.evaluation.verdicts import verdicts


def compare(
    benchmark: Benchmark, first: Path, second: Path, *, judge: Judge | None = None
) -> dict[str, Any]:
    """What a second run gains over a first, on the samples of both.

    Args:
        benchmark: that was run.
        first: folder of a run.
        second: folder of another.
        judge: is asked about the answers of both; None scores them without one.

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
    results = []
    for folder, ran, some in (
        (first, run, before),
        (second, other, [by_key[key] for key in keys]),
    ):
        said = verdicts(folder, some, judging=benchmark.judging, judge=judge)
        results.append(score(benchmark, ran, some, judged=said))
    sums = [np.array([o.sums for o in each.outcomes], dtype=float) for each in results]
    strata = strata_of(benchmark, before)
    difference, low, high, p = paired(sums[0], sums[1], benchmark.total, strata=strata)
    better = int((sums[1][:, 0] > sums[0][:, 0]).sum()), int((sums[1][:, 0] < sums[0][:, 0]).sum())
    return {
        "benchmark": benchmark.name,
        "metric": results[0].benchmark.metric,
        "judge": results[0].judge or "none",
        "first": results[0].main.whole.value,
        "second": results[1].main.whole.value,
        "difference": difference,
        "low": low,
        "high": high,
        "p": p,
        "number": len(keys),
        "samples_with_more": better[0],
        "samples_with_less": better[1],
    }
