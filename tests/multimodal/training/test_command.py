"""`openherd fit` and its kin: what wins over what, one line for what is wrong, exact resuming."""

import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from language.errors import InputError
from multimodal.training.checkpoints import FILE, latest
from multimodal.training.command import main
from tests.multimodal.training.conftest import TOKENIZER

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def config(tmp_path):
    """A YAML of a small run, and what changes it."""
    (tmp_path / "tokenizer").mkdir()
    TOKENIZER.save(tmp_path / "tokenizer")
    settings = {
        "trainer": {
            "default_root_dir": str(tmp_path / "run"),
            "accelerator": "cpu",
            "max_steps": 4,
            "check_val_every_n_epoch": None,
            "val_check_interval": 4,
            "limit_val_batches": 1,
            "gradient_clip_val": 1.0,
        },
        "progress": {"every_n_steps": 1},
        "checkpoints": {"every_n_steps": 2},
        "model": {
            "class_path": "language.pretraining.LanguagePretraining",
            "init_args": {
                "core": {
                    "vocab_size": TOKENIZER.vocab_size,
                    "dim": 16,
                    "num_layers": 1,
                    "num_heads": 2,
                    "num_kv_heads": 1,
                    "ffn_dim": 24,
                },
                "tokenizer": str(tmp_path / "tokenizer"),
                "optimizer": {"learning_rate": 1e-2},
                "schedule": {"shape": "constant"},
            },
        },
        "data": {"class_path": "tests.multimodal.training.fakes.Counting"},
    }
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def metrics(config, run="run"):
    with open(config.parent / run / "metrics.csv") as file:
        return {int(row["step"]): row for row in csv.DictReader(file)}


def rates(config):
    return {step: float(row["train/learning_rate"]) for step, row in metrics(config).items()}


def test_a_run_leaves_its_records_state_and_export(config, capsys):
    assert main(["fit", "--config", str(config)]) == 0
    run = config.parent / "run"
    rows = metrics(config)
    assert list(rows) == [1, 2, 3, 4]
    assert float(rows[4]["train/loss"]) < float(rows[1]["train/loss"])
    assert rows[4]["val/loss"] and not rows[3]["val/loss"]
    for name in ("speed/samples", "speed/tokens", "speed/data_wait", "speed/memory_gb"):
        assert float(rows[4][name]) >= 0
    assert (run / "export" / "model.safetensors").is_file()
    assert latest(run).name == "step-4" and not list(run.rglob("*.tmp"))
    assert list(run.glob("events.out.tfevents*"))
    written = yaml.safe_load((run / "config.yaml").read_text())
    assert written["model"]["init_args"]["optimizer"]["learning_rate"] == 1e-2
    out = capsys.readouterr().out
    assert "step 4/4" in out and "samples/s" in out and "left 0:00:00" in out
    assert "val/loss" in out
    assert main(["validate", "--config", str(config), "--ckpt_path", "last"]) == 0


def test_each_start_of_a_run_is_recorded(config, capsys):
    main(["fit", "--config", str(config)])
    main(["fit", "--config", str(config), "--resume", "--trainer.max_steps", "6"])
    assert "goes on from " in capsys.readouterr().out
    first, second = json.loads((config.parent / "run" / "run.json").read_text())
    assert (first["from_step"], second["from_step"]) == (0, 4)
    assert torch.__version__.startswith(first["versions"]["torch"])
    assert first["parameters"] == second["parameters"]
    for row in first["parameters"].values():
        assert 0 < row["trained"] <= row["all"]


def test_command_line_over_yaml_over_state(config):
    """The rate of each run is its own, whatever the state says that it goes on from."""
    main(["fit", "--config", str(config)])
    assert set(rates(config).values()) == {1e-2}
    resume = ["fit", "--config", str(config), "--ckpt_path", "last"]
    settings = yaml.safe_load(config.read_text())
    settings["model"]["init_args"]["optimizer"]["learning_rate"] = 3e-3
    config.write_text(yaml.safe_dump(settings))
    main([*resume, "--trainer.max_steps", "6"])
    assert [rates(config)[step] for step in (4, 5, 6)] == [1e-2, 3e-3, 3e-3]
    line = ["--model.init_args.optimizer.learning_rate", "2e-3", "--trainer.max_steps=8"]
    main([*resume, *line, "--model.init_args.optimizer.weight_decay=0.5"])
    assert [rates(config)[step] for step in (6, 7, 8)] == [3e-3, 2e-3, 2e-3]
    state = torch.load(latest(config.parent / "run") / FILE, weights_only=True)
    groups = state["optimizer_states"][0]["param_groups"]
    assert sorted({group["weight_decay"] for group in groups}) == [0.0, 0.5]


def test_the_line_wins_wherever_it_stands(config, capsys):
    for words in (
        ["--trainer.max_steps", "7", "--config", str(config)],
        ["--config", str(config), "--trainer.max_steps", "7"],
        [f"--config={config}", "--trainer.max_steps=7"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(["fit", *words, "--print_config"])
        assert not stop.value.code
        printed = yaml.safe_load(capsys.readouterr().out)
        assert printed["trainer"]["max_steps"] == 7
        assert printed["model"]["init_args"]["core"]["norm_eps"] == 1e-5
        assert printed["data"]["init_args"]["batch_size"] == 4


def test_what_is_printed_can_be_run(config, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(config), "--print_config"])
    config.write_text(capsys.readouterr().out)
    assert main(["fit", "--config", str(config), "--trainer.max_steps", "1"]) == 0


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"trainer": {"max_step": 3}}, "max_step"),
        ({"modle": {"init_args": {}, "a": 1}}, "modle"),
        ({"model": {"init_args": {"optimiser": {"eps": 1}}}}, "optimiser"),
        ({"model": {"init_args": {"optimizer": {"learning_rate": "fast"}}}}, "learning_rate"),
        ({"model": {"init_args": {"optimizer": {"learning_rate": -1}}}}, "learning_rate"),
        ({"model": {"init_args": {"schedule": {"shape": "sinus"}}}}, "shape"),
        ({"model": {"class_path": "language.pretraining.NoSuchTraining"}}, "NoSuchTraining"),
        ({"model": {"init_args": {"core": {"num_heads": 3}}}}, "num_heads"),
        ({"model": {"init_args": {"tokenizer": "nowhere"}}}, "nowhere"),
        ({"trainer": {"max_steps": -1, "max_epochs": 1}}, "trainer.max_steps"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(config, change, fault):
    def merge(below, above):
        for key, value in above.items():
            if isinstance(value, dict) and isinstance(below.get(key), dict):
                merge(below[key], value)
            else:
                below[key] = value

    settings = yaml.safe_load(config.read_text())
    merge(settings, change)
    config.write_text(yaml.safe_dump(settings))
    with pytest.raises(InputError) as error:
        main(["fit", "--config", str(config)])
    assert fault in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "words, fault",
    [
        (["--trainer.max_step", "3"], "max_step"),
        (["--config"], "give a file"),
        (["--config", "image/no-such"], "no such config; there are image/"),
        (["--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt: no such state"),
    ],
)
def test_wrong_words_are_said_in_one_line(config, words, fault):
    with pytest.raises(InputError) as error:
        main(["fit", "--config", str(config), *words])
    assert fault in str(error.value) and "\n" not in str(error.value)


def test_last_without_a_state_is_the_beginning(config):
    assert main(["fit", "--config", str(config), "--ckpt_path", "last"]) == 0
    assert list(metrics(config)) == [1, 2, 3, 4]


@pytest.mark.parametrize(("verb", "name"), [("validate", "val/loss"), ("test", "test/loss")])
def test_measuring_prints_what_it_found(config, capsys, verb, name):
    assert main([verb, "--config", str(config)]) == 0
    said = re.search(rf"{name} (\d+\.\d{{4}})", capsys.readouterr().out)
    assert said
    rows = csv.DictReader((config.parent / "run" / "metrics.csv").open())
    assert float(said[1]) == pytest.approx(float(next(rows)[name]), abs=1e-4)


def struck(
    words: list[str], signum: signal.Signals, *, step: int
) -> subprocess.CompletedProcess[bytes]:
    """The end of a run that a signal strikes at a step."""
    code = (
        "import os, signal, sys\n"
        "from multimodal.training import command\n"
        "from multimodal.training.progress import Progress\n"
        "report = Progress._report\n"
        "def report_and_strike(self, trainer, training):\n"
        "    report(self, trainer, training)\n"
        f"    if trainer.global_step == {step}: os.kill(os.getpid(), {int(signum)})\n"
        "Progress._report = report_and_strike\n"
        "command.main(sys.argv[1:])\n"
    )
    return subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True)


def test_told_to_stop_is_not_done(config):
    """Its status is not that of a run that came to its end, and nothing is exported as its end."""
    words = ["fit", "--config", str(config), "--trainer.max_steps", "8"]
    stopped = struck([*words, "--trainer.val_check_interval", "8"], signal.SIGTERM, step=3)
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr.decode()
    assert not (config.parent / "run" / "export").exists()


def test_a_signal_that_a_worker_of_the_data_got_first(monkeypatch):
    """As torch tells it; any other fault stays one."""
    said = "DataLoader worker (pid 7) is killed by signal: Terminated. "

    def fail(_):
        raise RuntimeError(said)

    monkeypatch.setattr("multimodal.training.command.run", fail)
    with pytest.raises(SystemExit) as stopped:
        main(["fit"])
    assert stopped.value.code == 128 + signal.SIGTERM
    said = "DataLoader worker (pid 7) is killed by signal: Killed. "
    with pytest.raises(RuntimeError, match="Killed"):
        main(["fit"])


def test_killed_and_resumed_is_as_if_nothing_had_happened(config):
    """Killed without warning after step 5; the last state is that of step 4."""
    whole = config.parent / "whole"
    words = ["fit", "--config", str(config), "--trainer.max_steps", "8"]
    words += ["--trainer.accumulate_grad_batches", "3", "--model.init_args.schedule.shape=cosine"]
    averaging = "[{class_path: multimodal.training.averaging.CheckpointAveraging, "
    averaging += "init_args: {every_n_steps: 3}}, "
    averaging += "{class_path: multimodal.training.stagnation.DropOnStagnation, "
    averaging += "init_args: {window: 1, patience: 1, margin: 0.1}}]"
    words += ["--trainer.callbacks", averaging]
    main([*words, "--trainer.default_root_dir", str(whole)])
    killed = struck(words, signal.SIGKILL, step=5)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    state = torch.load(latest(config.parent / "run") / FILE, weights_only=True)
    assert state["global_step"] == 4
    main([*words, "--resume"])
    ours, theirs = metrics(config), metrics(config, "whole")
    for name in ("train/loss", "train/gradient_norm", "train/learning_rate"):
        assert [row[name] for row in ours.values()] == [row[name] for row in theirs.values()]
    resumed = config.parent / "run"
    first, second = (torch.load(latest(run) / FILE, weights_only=True) for run in (resumed, whole))
    for name, value in second["state_dict"].items():
        assert torch.equal(value, first["state_dict"][name]), name
    weights = Path("export", "model.safetensors")
    assert (resumed / weights).read_bytes() == (whole / weights).read_bytes()


def test_killed_between_the_last_state_and_the_last_export(config):
    words = ["fit", "--config", str(config)]
    main(words)
    weights = config.parent / "run" / "export" / "model.safetensors"
    exported = weights.read_bytes()
    weights.unlink()
    main([*words, "--ckpt_path", "last"])
    assert weights.read_bytes() == exported
