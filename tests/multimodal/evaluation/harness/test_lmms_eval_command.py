"""lmms-eval's own command finds our model by its entry point, and scores what it says."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("lmms_eval.evaluator", exc_type=ImportError)
pytest.importorskip("filelock._api", reason="lmms-eval 0.7.3 needs filelock 3")

from multimodal.assistant import load

pytestmark = pytest.mark.harness

ROOT = Path(__file__).parents[4]
TASK = """\
task: looking
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: generate_until
doc_to_visual: !function looking_functions.visual
doc_to_text: !function looking_functions.text
doc_to_target: answer
process_results: !function looking_functions.results
generation_kwargs: {max_new_tokens: 16}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
FUNCTIONS = """\
from PIL import Image

def visual(doc):
    return [Image.new("RGB", (64, 64), tuple(doc["colour"]))]

def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]

def results(doc, results):
    return {"exact_match": float(results[0] == doc["answer"])}
"""


def test_the_command(tmp_path: Path) -> None:
    """Three of four answers are given as right."""
    assistant = load("tiny", device="cpu")
    assistant.configure(temperature=0.0, max_new_tokens=16, max_loop=0)
    colours = [(250, 0, 0), (0, 0, 250), (0, 250, 0), (250, 250, 0)]
    rows = []
    for colour in colours:
        question = "What is on the left?"
        answer = assistant.ask(Image.new("RGB", (64, 64), colour), question)
        rows.append({"colour": colour, "question": question, "answer": answer.strip()})
    rows[3]["answer"] = "something else"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = tmp_path / "tasks" / "looking"
    tasks.mkdir(parents=True)
    (tasks / "looking.yaml").write_text(TASK.replace("FILE", str(tmp_path / "rows.jsonl")))
    (tasks / "looking_functions.py").write_text(FUNCTIONS)
    about = tmp_path / "site" / "plugged-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 0\n")
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [f"{name} = {place}" for name, place in entries["lmms_eval.models"].items()]
    (about / "entry_points.txt").write_text("\n".join(["[lmms_eval.models]", *lines]) + "\n")
    words = ["--model", "openherd", "--model_args", "pretrained=tiny", "--device", "cpu"]
    words += ["--tasks", "looking", "--include_path", str(tasks.parent), "--batch_size", "2"]
    words += ["--output_path", str(tmp_path / "out")]
    path = os.pathsep.join([str(ROOT), *sys.path, str(tmp_path / "site")])
    kept = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
    command = [sys.executable, "-m", "lmms_eval", *words]
    run = subprocess.run(command, env=os.environ | kept, capture_output=True, timeout=300)
    assert run.returncode == 0, run.stderr.decode()
    (file,) = (tmp_path / "out").rglob("*_results.json")
    assert json.loads(file.read_text())["results"]["looking"]["exact_match,none"] == 0.75
