"""`openherd score predictions.jsonl`: score kept answers again, without a model."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from language.errors import InputError
from multimodal.commands.options import new_parser, parse

if TYPE_CHECKING:
    from multimodal.evaluation.benchmark import Benchmark
    from multimodal.evaluation.judges import Judge
    from multimodal.evaluation.results import Figure, Figures, Results


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status."""
    parser = new_parser(
        "score",
        "Score the kept answers of an evaluation again: no model is loaded, no data read. Writes "
        "metrics.json and report.html beside them. A judge is asked for what it has not said yet.",
    )
    parser.add_argument("predictions", type=str, help="predictions.jsonl, or its folder")
    add_judge_options(parser)
    parser.add_argument("--json", action="store_true", help="print metrics.json")
    options = parse(parser, words)
    from multimodal.evaluation.benchmarks import benchmark
    from multimodal.evaluation.predictions import read_predictions

    file = Path(options.predictions)
    run, _ = read_predictions(file)
    judge = judge_of(options, benchmark(run.benchmark))
    return score_file(file, as_json=options.json, judge=judge)


def add_judge_options(parser: ArgumentParser) -> None:
    """Add who is asked about answers."""
    parser.add_argument(
        "--judge",
        type=str,
        default="",
        help="judges open answers: address of an endpoint as OpenAI's is, or module:function; the "
        "endpoint's key is read from OPENHERD_JUDGE_KEY",
    )
    parser.add_argument(
        "--judge_model", type=str, default="", help="model that the endpoint is to run"
    )
    parser.add_argument(
        "--classifier", type=str, default="", help="module:function that says which texts are toxic"
    )


def judge_of(options: Namespace, chosen: "Benchmark") -> "Judge | None":
    """Who the options name, if anybody.

    Raises:
        InputError: the benchmark does not ask such a one, or cannot do without one.
    """
    from multimodal.evaluation.judges import judge

    judging = chosen.judging
    for option in ("judge", "classifier"):
        if options[option] and (judging is None or judging.option != option):
            raise InputError(f"--{option}", f"{chosen.name} does not take it")
    if judging is not None and options[judging.option]:
        return judge(options[judging.option], judging=judging, model=options.judge_model)
    if options.judge_model:
        raise InputError("--judge_model", "is of an endpoint: name it with --judge")
    if judging is not None and chosen.score is None:
        raise InputError(f"--{judging.option}", f"{chosen.name} needs one: name module:function")
    return None


def score_file(file: Path, *, as_json: bool, judge: "Judge | None" = None) -> int:
    """Score a file, write what came of it beside it, and print it."""
    from multimodal.evaluation.benchmarks import benchmark
    from multimodal.evaluation.predictions import read_predictions
    from multimodal.evaluation.report import write_report
    from multimodal.evaluation.results import metrics, score, write_metrics
    from multimodal.evaluation.verdicts import verdicts
    from multimodal.software import software

    run, predictions = read_predictions(file)
    chosen = benchmark(run.benchmark)
    judged = verdicts(file, predictions, judging=chosen.judging, judge=judge, told=_told)
    results = score(chosen, run, predictions, judged=judged)
    content = metrics(results, software=software())
    folder = file if file.is_dir() else file.parent
    write_metrics(folder, content)
    report = write_report(folder, results, content)
    if as_json:
        print(json.dumps(content, ensure_ascii=False))
        return 0
    print(f"{chosen.title}, {content['split']}: {content['metric']}")
    _print(results.main)
    for name, figures in results.further.items():
        print(name)
        _print(figures)
    for remark in _remarks(content, results):
        print(remark)
    print(f"in {folder}: predictions.jsonl, metrics.json, {report.name}")
    return 0


def _told(done: int, owed: int) -> None:
    end = "\n" if done == owed else ""
    print(f"\r{done:,} of {owed:,} verdicts ", end=end, file=sys.stderr, flush=True)


def _print(figures: "Figures") -> None:
    print(_line(figures.name, figures.whole))
    for name, groups in figures.groups.items():
        for group, figure in groups.items():
            print(_line(f"{name}: {group}", figure))


def _line(name: str, figure: "Figure") -> str:
    return (
        f"{name:<28}{figure.value:6.2f}  (95 %: {figure.low:.2f} to {figure.high:.2f}), "
        f"{figure.number:,} samples"
    )


def _remarks(content: dict[str, Any], results: "Results") -> list[str]:
    paper = ", ".join(f"{size} {value:g}" for size, value in content["paper"].items())
    lines = [f"paper: {paper}"] if paper else []
    lines += [content["note"]] if content["note"] else []
    if results.unread:
        lines.append(f"{results.unread:,} answers had nothing in them that could be read")
    if results.judge:
        unread = results.judge["unreadable_verdicts"]
        lines.append(f"judge: {results.judge['name']}; {unread:,} verdicts could not be read")
    return lines
