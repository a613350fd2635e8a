"""The scripts that start a training over nodes: two nodes on one machine, and SLURM's words."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.multimodal.training.test_from_shards import config, shards  # noqa: F401  # fixtures

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ROOT / "configs" / "launch"
INHERITED = {
    name: value for name, value in os.environ.items() if not name.startswith(("PL_", "SLURM_"))
}


@pytest.mark.parametrize("name", ["torchrun.sh", "slurm.sh"])
def test_the_scripts_are_bash(name):
    assert os.access(SCRIPTS / name, os.X_OK)
    assert subprocess.run(["bash", "-n", SCRIPTS / name]).returncode == 0


def test_two_nodes_are_as_one_process(config, tmp_path):  # noqa: F811
    """Two agents of torchrun, each with a stage of the pipeline."""
    settings = yaml.safe_load(config.read_text())
    settings["trainer"]["strategy"] = {
        "class_path": "multimodal.training.parallel.MeshStrategy",
        "init_args": {"pipeline": 2, "micro_batches": 3},
    }
    settings["trainer"]["default_root_dir"] = str(tmp_path / "nodes")
    config.write_text(yaml.safe_dump(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = [
        subprocess.Popen(
            [SCRIPTS / "torchrun.sh", "--config", str(config)],
            cwd=ROOT,
            env={
                **INHERITED,
                "OMP_NUM_THREADS": "1",
                "PYTHON": sys.executable,
                "NODES": "2",
                "NODE": str(node),
                "PROCESSES": "1",
                "HEAD": f"127.0.0.1:{port}",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for node in range(2)
    ]
    said = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert "stage 1: blocks" in said[0]
    one = [sys.executable, "-m", "multimodal.cli", "fit", "--config", str(config)]
    alone = ["--trainer.strategy.init_args.pipeline", "1", "--trainer.devices", "1"]
    alone += [f"--trainer.default_root_dir={tmp_path / 'one'}"]
    assert subprocess.run([*one, *alone], cwd=ROOT, env=INHERITED).returncode == 0
    losses = [last_losses(tmp_path / name / "metrics.csv") for name in ("nodes", "one")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def last_losses(file: Path) -> list[float]:
    header, *rows = [line.split(",") for line in file.read_text().splitlines()]
    column = header.index("train/loss")
    return [float(row[column]) for row in rows if row[column]]


def test_slurm_starts_a_task_for_each_gpu(tmp_path):
    """By a stand-in for srun that says what it was given."""
    fake = tmp_path / "srun"
    fake.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    done = subprocess.run(
        [shutil.which("bash"), SCRIPTS / "slurm.sh", "--config", "mine.yaml"],
        env={
            **INHERITED,
            "PATH": f"{tmp_path}:{INHERITED['PATH']}",
            "SLURM_NNODES": "4",
            "SLURM_NTASKS_PER_NODE": "8",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[0] == "--kill-on-bad-exit=1"
    settings = ["--trainer.num_nodes", "4", "--trainer.devices", "8", "--resume"]
    assert words[-7:] == ["--config", "mine.yaml", *settings]
