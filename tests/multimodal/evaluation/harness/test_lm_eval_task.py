"""Small tasks of our own, from lm-eval's table of models to its table of scores."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("lm_eval")

import datasets
import lm_eval
from lm_eval.tasks import TaskManager

from multimodal.evaluation.harness.lm_eval_model import OpenherdLM

pytestmark = pytest.mark.harness

QUESTIONS = ["Which colour is the cup?", "How many dogs are there?", "What stands left?"]
CHOICES = [" red", " three small dogs", " a cup"]


def choosing(labels: list[int]) -> dict[str, Any]:
    rows = [{"question": q, "label": n} for q, n in zip(QUESTIONS, labels, strict=True)]
    return {
        "task": "choosing",
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(rows)},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": CHOICES,
        "doc_to_target": "label",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }


def evaluated(model: OpenherdLM, task: dict[str, Any], **more: Any) -> dict[str, Any]:
    own = TaskManager(include_defaults=False)
    found = lm_eval.simple_evaluate(
        model=model, tasks=[task], task_manager=own, bootstrap_iters=0, random_seed=None, **more
    )
    return found["results"][task["task"]]


@pytest.fixture(scope="module")
def model(llama_directory: Path) -> OpenherdLM:
    return OpenherdLM(str(llama_directory), device="cpu", batch_size=2)


def likeliest(model: OpenherdLM, prompts: list[str]) -> list[int]:
    """The likeliest choice after each prompt."""
    asked = [SimpleNamespace(args=(p, choice)) for p in prompts for choice in CHOICES]
    values = [value for value, _ in model.loglikelihood(asked, disable_tqdm=True)]
    rows = [values[start : start + 3] for start in range(0, len(values), 3)]
    return [row.index(max(row)) for row in rows]


@pytest.mark.parametrize("chat", [False, True])
def test_choices(model: OpenherdLM, chat: bool) -> None:
    """The likeliest choices are right, and any others wrong."""
    dialogs = [model.apply_chat_template([{"role": "user", "content": q}]) for q in QUESTIONS]
    labels = likeliest(model, dialogs if chat else QUESTIONS)
    right = evaluated(model, choosing(labels), apply_chat_template=chat)
    assert right["acc,none"] == 1
    wrong = [(number + 1) % 3 for number in labels[:2]] + labels[2:]
    scored = evaluated(model, choosing(wrong), apply_chat_template=chat)
    assert scored["acc,none"] == pytest.approx(1 / 3)


def test_answers_and_perplexity(model: OpenherdLM, requests: Callable[..., list[Any]]) -> None:
    asked = {"until": ["."], "max_gen_toks": 5}
    (said,) = model.generate_until(requests((QUESTIONS[0], asked)), disable_tqdm=True)
    rows = [{"question": QUESTIONS[0], "answer": said}, {"question": QUESTIONS[1], "answer": "?!"}]
    shared = {
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(rows)},
        "test_split": "test",
        "doc_to_target": "answer",
    }
    answering = {
        **shared,
        "task": "answering",
        "output_type": "generate_until",
        "doc_to_text": "question",
        "generation_kwargs": asked,
        "metric_list": [{"metric": "exact_match"}],
    }
    assert evaluated(model, answering)["exact_match,none"] == 0.5
    reading = {
        **shared,
        "task": "reading",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "question",
        "metric_list": [{"metric": "bits_per_byte"}],
    }
    total = sum(model.loglikelihood_rolling(requests(*((row["question"],) for row in rows))))
    num_bytes = sum(len(row["question"].encode()) for row in rows)
    found = evaluated(model, reading)["bits_per_byte,none"]
    assert found == pytest.approx(-total / num_bytes / 0.6931471805599453)


@pytest.mark.parametrize("num_processes", [1, 2])
def test_the_command(
    model: OpenherdLM, llama_directory: Path, tmp_path: Path, num_processes: int
) -> None:
    """A task in a YAML file and its samples in JSON lines: nothing is fetched."""
    labels = likeliest(model, QUESTIONS)
    labels[2] = (labels[2] + 1) % 3
    task = choosing(labels) | {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
    }
    rows = task.pop("custom_dataset")()["test"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "choosing.yaml").write_text(json.dumps(task))
    words = ["run", "--model", "openherd", "--model_args", f"pretrained={llama_directory}"]
    words += ["--device", "cpu", "--tasks", "choosing", "--include_path", str(tmp_path)]
    words += ["--output_path", str(tmp_path / "out"), "--batch_size", "auto"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    start = [sys.executable, *(launcher if num_processes > 1 else [])]
    run = subprocess.run(
        [*start, "-m", "multimodal.evaluation.harness", *words],
        env=os.environ | {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr.decode()
    (file,) = (tmp_path / "out").rglob("results_*.json")
    found = json.loads(file.read_text())
    assert found["config"]["model"] == "openherd"
    assert found["n-samples"]["choosing"]["effective"] == 3
    assert found["results"]["choosing"]["acc,none"] == pytest.approx(2 / 3)
