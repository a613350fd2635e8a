"""Small tasks of our own, from lm-eval's table of models to its table of scores."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
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


@pytest.mark.parametrize("chat", [False, True])
def test_choices(model: OpenherdLM, requests: Callable[..., list[Any]], chat: bool) -> None:
    """The likeliest choices are right, and any others wrong."""
    likeliest = []
    for question in QUESTIONS:
        text = model.apply_chat_template([{"role": "user", "content": question}])
        pairs = requests(*((text if chat else question, choice) for choice in CHOICES))
        values = [value for value, _ in model.loglikelihood(pairs, disable_tqdm=True)]
        likeliest.append(values.index(max(values)))
    right = evaluated(model, choosing(likeliest), apply_chat_template=chat)
    assert right["acc,none"] == 1
    wrong = [(number + 1) % 3 for number in likeliest[:2]] + likeliest[2:]
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


def test_the_command(llama_directory: Path, tmp_path: Path) -> None:
    """A task in a YAML file and its samples in JSON lines: nothing is fetched."""
    rows = [{"question": q, "label": 0} for q in QUESTIONS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = choosing([0, 0, 0]) | {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
    }
    del task["custom_dataset"]
    (tmp_path / "choosing.yaml").write_text(json.dumps(task))
    words = ["run", "--model", "openherd", "--model_args", f"pretrained={llama_directory}"]
    words += ["--device", "cpu", "--tasks", "choosing", "--include_path", str(tmp_path)]
    words += ["--output_path", str(tmp_path / "out"), "--batch_size", "auto"]
    command = [sys.executable, "-m", "multimodal.evaluation.harness", *words]
    kept = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, check=True, env=os.environ | kept, capture_output=True, timeout=300)
    (file,) = (tmp_path / "out").rglob("results_*.json")
    found = json.loads(file.read_text())
    assert found["config"]["model"] == "openherd"
    assert found["n-samples"]["choosing"]["effective"] == 3
    assert 0 <= found["results"]["choosing"]["acc,none"] <= 1
