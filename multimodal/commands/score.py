"""`openherd score predictions.jsonl`: score kept answers again, without a model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.commands.options import new_parser, parse

if TYPE_CHECKING:
    from multimodal.evaluation.results import Figure, Results


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status."""
    parser = new_parser(
        "score",
        "Score the kept answers of an evaluation again: no model is loaded, no data read. Writes "
        "metrics.json and report.html beside them.",
    )
    parser.add_argument("predictions", type=str, help="predictions.jsonl, or its folder")
    parser.add_argument("--json", action="store_true", help="print metrics.json")
    options = parse(parser, words)
    return score_file(Path(options.predictions), as_json=options.json)


def score_file(file: Path, *, as_json: bool, data: Path | None = None) -> int:
    """Score a file, write what came of it beside it, and print it."""
    from multimodal.evaluation.benchmarks import benchmark
    from multimodal.evaluation.predictions import read_predictions
    from multimodal.evaluation.report import write_report
    from multimodal.evaluation.results import metrics, score, write_metrics
    from multimodal.software import software

    run, predictions = read_predictions(file)
    chosen = benchmark(run.benchmark)
    results = score(chosen, run, predictions)
    content = metrics(chosen, results, software=software())
    folder = file if file.is_dir() else file.parent
    write_metrics(folder, content)
    report = write_report(folder, chosen, results, content)
    if as_json:
        print(json.dumps(content, ensure_ascii=False))
        return 0
    print(f"{chosen.title}, {content['split']}: {chosen.metric}")
    print(_line("all", results.whole))
    for name, groups in results.groups.items():
        for group, figure in groups.items():
            print(_line(f"{name}: {group}", figure))
    print("\n".join(_remarks(content, results)))
    print(f"in {folder}: predictions.jsonl, metrics.json, {report.name}")
    return 0


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
    return lines
