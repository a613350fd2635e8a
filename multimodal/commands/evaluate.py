"""`openherd evaluate BENCHMARK --data DIR`: the official metric on the files as published."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from language.errors import InputError
from multimodal.commands.options import add_model_options, load_assistant, new_parser, parse
from multimodal.commands.score import add_judge_options, judge_of

if TYPE_CHECKING:
    from multimodal.evaluation.benchmark import Benchmark, Settings

WORLD = "world"
"""The tiny model's own world, which needs no data."""


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status."""
    parser = new_parser(
        "evaluate",
        "Ask a model every question of a benchmark, and print the official metric with its 95 % "
        "interval. A run that was stopped goes on when the same command is given again; under "
        "torchrun or SLURM the samples are shared by the processes.",
    )
    parser.add_argument(
        "benchmark", type=str, nargs="?", help="its name; 'world' is the tiny model's own"
    )
    parser.add_argument("--list", action="store_true", help="print all benchmarks")
    parser.add_argument("--data", type=str, help="folder of the set as it is published")
    add_model_options(parser)
    parser.add_argument("--out", type=str, help="folder of the run; by default runs/evaluation/...")
    parser.add_argument(
        "--limit",
        type=int,
        default=0,
        help="first samples alone; 0 takes all; of 'world' so many are made of each kind",
    )
    parser.add_argument("--batch_size", type=int, default=16, help="samples side by side")
    parser.add_argument("--split", type=str, default="", help="another part of the set")
    parser.add_argument("--language", type=str, default="", help="code of the spoken language")
    parser.add_argument("--to", type=str, default="", help="code of the translation's language")
    parser.add_argument("--ocr", action="store_true", help="put recognized words into the prompt")
    parser.add_argument("--wordnet", type=str, default="", help="folder of the dictionary")
    parser.add_argument(
        "--reason", action="store_true", help="let the model reason, and read the end of its answer"
    )
    add_judge_options(parser)
    parser.add_argument(
        "--compare",
        type=str,
        nargs=2,
        metavar=("A", "B"),
        help="folders of two runs: what B gains over A, with a paired test",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parse(parser, words)
    for name in ("limit", "batch_size"):
        if options[name] < (name == "batch_size"):
            raise InputError(f"--{name}", f"must be {int(name == 'batch_size')} or more")
    if options.list:
        return _list(as_json=options.json)
    if options.compare:
        return _compare(options)
    if options.benchmark is None:
        raise InputError("evaluate", "name a benchmark, or give --list")
    if options.benchmark == WORLD:
        from multimodal.evaluation.world import evaluate_world

        assistant = load_assistant(options)
        return evaluate_world(assistant, number=options.limit, as_json=options.json)
    return _evaluate(options)


def _evaluate(options: Namespace) -> int:
    from multimodal.evaluation.benchmarks import benchmark
    from multimodal.evaluation.launchers import own_device
    from multimodal.evaluation.runner import run

    chosen = benchmark(options.benchmark)
    if options.data is None:
        raise InputError("--data", f"name the folder of {chosen.title}: {chosen.layout}")
    settings = _settings(options)
    chosen.check(settings)
    judge = judge_of(options, chosen)
    default = Path("runs") / "evaluation" / f"{chosen.name}-{Path(options.model).name}"
    out = Path(options.out) if options.out else default
    options.device = own_device(options.device)
    assistant = load_assistant(options)
    file = run(
        chosen,
        assistant,
        Path(options.data),
        out,
        settings=settings,
        model=_model(options),
        limit=options.limit,
        batch_size=options.batch_size,
        told=_told,
    )
    if file is None:
        print(f"{out}: this process is done, others are not yet", file=sys.stderr)
        return 0
    from multimodal.commands.score import score_file

    return score_file(file, as_json=options.json, judge=judge)


def _settings(options: Namespace) -> "Settings":
    from multimodal.evaluation.benchmark import Settings

    return Settings(**{name: options[name] for name in vars(Settings())})


def _model(options: Namespace) -> dict[str, Any]:
    """What tells one model from another: name, type, and what its files are."""
    from multimodal.evaluation.fingerprint import fingerprint
    from multimodal.locations import find_model

    model = {"name": options.model, "files": fingerprint(find_model(options.model))}
    if options.core is not None:
        model |= {"core": options.core, "core_files": fingerprint(find_model(options.core))}
    return {**model, "dtype": options.dtype}


def _told(done: int, whole: int, seconds: float) -> None:
    minutes, rest = divmod(round(seconds), 60)
    end = "\n" if done == whole else ""
    print(
        f"\r{done:,} of {whole:,}, {minutes}:{rest:02d} left ", end=end, file=sys.stderr, flush=True
    )


def _list(*, as_json: bool) -> int:
    from multimodal.evaluation.benchmarks import NAMES, benchmark

    every = [benchmark(name) for name in NAMES]
    if as_json:
        print(json.dumps([_about(each) for each in every], ensure_ascii=False))
        return 0
    for each in every:
        paper = ", ".join(f"{size} {value:g}" for size, value in each.paper.items())
        print(f"{each.name:<20}{each.title}, {each.split}: {each.metric}")
        print(f"{'':<20}looks for {each.layout}")
        options = ", ".join(f"--{name}" for name in _options(each))
        print(f"{'':<20}takes {options or 'no options'}")
        print(f"{'':<20}paper: {paper or 'no figure'}" + (f"; {each.note}" if each.note else ""))
    print(f"{WORLD:<20}the tiny model's own pictures, clips and recordings; needs no data")
    return 0


def _about(benchmark: "Benchmark") -> dict[str, Any]:
    names = ("name", "title", "kind", "source", "split", "version", "layout", "metric", "note")
    about = {name: getattr(benchmark, name) for name in names}
    return {**about, "options": _options(benchmark), "paper": dict(benchmark.paper)}


def _options(benchmark: "Benchmark") -> list[str]:
    """What may be said about it, without the dashes."""
    judging = benchmark.judging
    return [*benchmark.takes, *([judging.option] if judging is not None else [])]


def _compare(options: Namespace) -> int:
    from multimodal.evaluation.benchmarks import benchmark
    from multimodal.evaluation.comparison import compare
    from multimodal.evaluation.predictions import read_predictions

    first, second = map(Path, options.compare)
    chosen = benchmark(read_predictions(first)[0].benchmark)
    found = compare(chosen, first, second, judge=judge_of(options, chosen))
    if options.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    print(
        f"{found['benchmark']}, {found['metric']}, {found['number']:,} samples\n"
        f"{found['first']:.2f} {first}\n{found['second']:.2f} {second}\n"
        f"difference {found['difference']:+.2f} (95 %: {found['low']:+.2f} to "
        f"{found['high']:+.2f}), p = {found['p']:.3f}; more on {found['samples_with_more']:,} "
        f"samples, less on {found['samples_with_less']:,}"
    )
    return 0
