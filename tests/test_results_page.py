"""The page of results is what its command writes, and no record is left out."""

import json
from pathlib import Path

from benchmarks.results_page import RECORDS, ROOT, page

LISTED = [record["file"] for record in json.loads(RECORDS.read_text())]


def test_the_page_is_what_the_command_writes():
    told = "python -m benchmarks.results_page docs/results.md"
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == page(), told


def test_every_record_is_on_it():
    kept = {*(ROOT / "benchmarks" / "results").glob("*.json")} - {RECORDS}
    kept |= {*(ROOT / "multimodal" / "_tiny").glob("*figures.json")}
    kept |= {*(ROOT / "multimodal" / "_tiny" / "training").iterdir()}
    assert {path for name in LISTED for path in ROOT.glob(name)} == kept


def test_figures_are_those_of_the_records():
    figures = json.loads((ROOT / "multimodal" / "_tiny" / "figures.json").read_text())
    caption = next(figure for figure in figures if figure["kind"] == "caption")
    shown = [line for line in page().splitlines() if line.startswith("| caption |")]
    assert shown and f"| {caption['number']} | {100 * caption['right']:.1f}% |" in shown[0]
    assert Path(ROOT / "README.md").read_text().count(f"{100 * caption['right']:.1f} %")
