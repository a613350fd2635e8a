"""A run that is killed again and again ends as one that was not: weights, losses, samples.

Two processes, stages of one pipeline, are killed with signal 9 at random moments, every third time
while a state is being saved, and each time started again by the same command.
"""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.multimodal.training.test_from_shards import config, shards  # noqa: F401  # fixtures

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
KILLS, STEPS = 20, 400
PATIENCE = 90.0
"""Seconds within which all processes must have ended once one is dead."""

COMMAND = """
import hashlib, sys, time
from pathlib import Path
from language.next_token import NextTokenTraining
from multimodal import cli

train = NextTokenTraining.training_step
def noted(self, batch, batch_idx):
    time.sleep(0.01)
    content = hashlib.sha256(batch.tokens.numpy().tobytes())
    if batch.images is not None:
        content.update(batch.images.tiles.numpy().tobytes())
    name = f"read-{self.trainer.global_rank}"
    with open(Path(self.trainer.default_root_dir, name), "a") as file:
        file.write(f"{self.global_step} {content.hexdigest()}\\n")
    return train(self, batch, batch_idx)

if __name__ == "__main__":
    NextTokenTraining.training_step = noted
    sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def run(tmp_path: Path, config: Path):  # noqa: F811
    """Starts the command; gives the process, the leader of a group."""
    settings = yaml.safe_load(config.read_text())
    settings["trainer"] |= {
        "devices": 2,
        "strategy": {
            "class_path": "multimodal.training.parallel.MeshStrategy",
            "init_args": {"pipeline": 2, "micro_batches": 2, "timeout_minutes": 0.5},
        },
        "max_steps": STEPS,
        "val_check_interval": STEPS,
    }
    settings["checkpoints"] = {"every_n_steps": 3}
    settings["data"]["init_args"]["batch_size"] = 4
    script = tmp_path / "command.py"
    config.write_text(yaml.safe_dump(settings))
    script.write_text(COMMAND)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PL_")}

    def start(folder: str) -> subprocess.Popen[bytes]:
        words = ["fit", "--config", str(config), f"--trainer.default_root_dir={tmp_path / folder}"]
        return subprocess.Popen(
            [sys.executable, str(script), *words, "--resume"],
            cwd=ROOT,
            env={**inherited, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=(tmp_path / f"{folder}.log").open("ab"),
            start_new_session=True,
        )

    return start


def members(group: int) -> list[int]:
    """Processes of a group, but those that are dead."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def ranks(group: int) -> list[int]:
    """Those of them that are a process of the training, and no worker of its data."""
    found = []
    for process in members(group):
        try:
            parent = int(
                (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[1]
            )
            words = (Path("/proc") / str(process) / "cmdline").read_bytes()
        except OSError:
            continue
        if b"command.py" in words and (process == group or parent == group):
            environment = (Path("/proc") / str(process) / "environ").read_bytes()
            if process == group or b"LOCAL_RANK=1" in environment:
                found.append(process)
    return found


def losses(folder: Path) -> dict[int, str]:
    """Loss of each step, as it was written last."""
    with (folder / "metrics.csv").open() as file:
        return {
            int(row["step"]): row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]
        }


def read(folder: Path, rank: int) -> dict[int, set[str]]:
    """What each step read, every time that it was taken."""
    found: dict[int, set[str]] = {}
    for line in (folder / f"read-{rank}").read_text().splitlines():
        step, _, content = line.partition(" ")
        if len(content) == 64:  # a kill may have cut the last line
            found.setdefault(int(step), set()).add(content)
    return found


def reached(folder: Path) -> int:
    """Steps that the first process began."""
    file = folder / "read-0"
    return file.read_text().count("\n") if file.exists() else 0


def test_killed_twenty_times(run, tmp_path: Path):
    whole = run("whole")
    assert whole.wait(timeout=300) == 0, (tmp_path / "whole.log").read_text()[-3000:]
    draw, folder, in_saves, killed = random.Random(1), tmp_path / "killed", 0, 0
    while killed < KILLS:
        before = reached(folder)
        process = run("killed")
        limit = time.monotonic() + PATIENCE
        while reached(folder) <= before and process.poll() is None:
            assert time.monotonic() < limit, "the run does not begin"
            time.sleep(0.005)
        assert process.poll() is None, (tmp_path / "killed.log").read_text()[-3000:]
        if killed % 3 == 2:
            limit = time.monotonic() + 20
            while not list((folder / "checkpoints").glob("*.tmp")) and time.monotonic() < limit:
                pass
            in_saves += time.monotonic() < limit
        else:
            time.sleep(draw.uniform(0, 0.4))
        os.kill(draw.choice(ranks(process.pid)), signal.SIGKILL)
        killed += 1
        process.wait(timeout=PATIENCE)
        limit = time.monotonic() + PATIENCE
        while members(process.pid):
            assert time.monotonic() < limit, "a process lives on though another is dead"
            time.sleep(0.01)
    assert in_saves >= KILLS // 3 - 1
    last = run("killed")
    assert last.wait(timeout=300) == 0, (tmp_path / "killed.log").read_text()[-3000:]

    weights = [tmp_path / name / "export" / "adapter.safetensors" for name in ("whole", "killed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert losses(tmp_path / "whole") == losses(folder) and len(losses(folder)) == STEPS
    for rank in range(2):
        assert read(tmp_path / "whole", rank) == read(folder, rank)
    starts = json.loads((folder / "run.json").read_text())
    assert len(starts) == KILLS + 1 and max(start["from_step"] for start in starts) > 0
