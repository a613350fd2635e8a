"""The page of results: every committed record as a table, with its command, machine and date.

``python -m benchmarks.results_page docs/results.md`` writes it. Nothing is measured here: figures
come out of the files that `results/records.json` lists, so the page cannot say what no record does.
"""

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "benchmarks" / "results" / "records.json"
HEAD = """# Results

This page is written by `python -m benchmarks.results_page docs/results.md` from the records that
are committed; a test holds it to them. What is timed on a CPU against other implementations stands
in `benchmarks/README.md`: those tables were printed by their commands and have no record of their
own. Intervals are of 95 %.
"""
WORST = 5
"""Of long lists so many are shown."""
Row = Sequence[object]


def table(head: Row, rows: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def percent(share: float) -> str:
    """A share with one decimal."""
    return f"{share:.1%}"


def interval(figure: dict[str, Any]) -> str:
    """Its ends."""
    return f"{figure['low']:.1%} to {figure['high']:.1%}"


def kinds(figures: list[dict[str, Any]]) -> str:
    """Figures by kind of question, with whichever controls they have."""
    known = ("kind", "several", "number", "right", "low", "high")
    controls = [key for key in figures[0] if key not in known]
    several = {True: "several", False: "one"}
    names = ["kind", *(["frames"] if "several" in figures[0] else [])]
    rows = [
        [
            figure["kind"],
            *([several[figure["several"]]] if "several" in figure else []),
            figure["number"],
            percent(figure["right"]),
            interval(figure),
            *(percent(figure[key]) for key in controls),
        ]
        for figure in figures
    ]
    return table([*names, "asked", "right", "interval", *controls], rows)


def groups(figures: dict[str, list[dict[str, Any]]]) -> str:
    """A table for each measure; of long ones the worst."""
    parts = []
    for name, values in figures.items():
        shown, title = values, name
        if "each" in name:
            shown = sorted(values, key=lambda figure: -figure["value"])[:WORST]
            title = f"{name}: the worst {WORST} of {len(values)}"
        rows = [[v["what"], v["number"], percent(v["value"]), interval(v)] for v in shown]
        parts.append(table([title, "asked", "", "interval"], rows))
    return "\n".join(parts)


def stages(pattern: str) -> str:
    """The last validation of each stage of a training."""
    rows = []
    for file in sorted(ROOT.glob(pattern)):
        with file.open(newline="") as lines:
            validated = [row for row in csv.DictReader(lines) if row.get("val/loss")]
            lines.seek(0)
            measured = [row for row in csv.DictReader(lines) if _validation(row)]
        last = (validated or measured)[-1]
        rows.append([file.stem, last["step"], ", ".join(_validation(last))])
    return table(["stage", "step", "validation"], rows)


def _validation(row: dict[str, str]) -> list[str]:
    found = {name.removeprefix("val/"): v for name, v in row.items() if name.startswith("val/")}
    return [f"{name} {float(value):.3g}" for name, value in found.items() if value]


def steps(record: dict[str, Any]) -> str:
    """Variants of a training step on a GPU."""
    rows = [
        [
            v["name"] if v["name"].startswith(v["medium"]) else f"{v['medium']}: {v['name']}",
            v["layers"],
            v["rows"],
            f"{v['step_s']:.3f} ({low:.3f} to {high:.3f})",
            f"{v['samples_per_s']:.1f}",
            f"{v['memory_gb']:.1f}",
            percent(v["mfu"]),
        ]
        for v in record["variants"]
        for low, high in [v["step_s_least_most"]]
    ]
    head = ["variant", "core blocks", "rows", "step, s (least to most)", "samples/s", "GB", "MFU"]
    return table(head, rows)


def section(record: dict[str, str]) -> str:
    """A record under its heading."""
    if "*" in record["file"]:
        shown, told = stages(record["file"]), record
    else:
        data = json.loads((ROOT / record["file"]).read_text(encoding="utf-8"))
        form: Callable[[Any], str] = kinds if isinstance(data, list) else groups
        form = steps if "variants" in data else form
        shown, told = form(data), {**data, **record} if isinstance(data, dict) else record
    where = ", ".join(told[key] for key in ("machine", "date", "time") if key in told)
    said = f"`{record['command']}`: {where}. Record: `{record['file']}`."
    return f"## {record['title']}\n\n{said}\n\n{record['about']}\n\n{shown}"


def page() -> str:
    """The whole page."""
    records = json.loads(RECORDS.read_text(encoding="utf-8"))
    return "\n".join([HEAD, *map(section, records)])


def main() -> None:
    """Write it, or print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results_page", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", help="where it goes; printed without")
    options = parser.parse_args()
    if options.file is None:
        print(page(), end="")
    else:
        options.file.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
