"""What cannot be laid out is refused in one line, before anything is built."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.multimodal.training.test_from_shards import config, shards  # noqa: F401  # fixtures

pytestmark = pytest.mark.slow  # each starts the command, and that its processes
ROOT = Path(__file__).resolve().parents[4]
MESH = "multimodal.training.parallel.MeshStrategy"


def refused(config: Path, strategy: dict, *words: str, devices: int = 1) -> str:  # noqa: F811
    """What a training says that ends with exit status 2."""
    settings = yaml.safe_load(config.read_text())
    settings["trainer"] |= {
        "devices": devices, "strategy": {"class_path": MESH, "init_args": strategy}
    }  # fmt: skip
    config.write_text(yaml.safe_dump(settings))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PL_")}
    done = subprocess.run(
        [sys.executable, "-m", "multimodal.cli", "fit", "--config", str(config), *words],
        cwd=ROOT,
        env={**inherited, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr[-2000:]
    # Each process says it, and lines of two may meet.
    said = {part.strip().splitlines()[0] for part in done.stderr.split("openherd: ")[1:]}
    assert len(said) == 1 and "Traceback" not in done.stderr
    return said.pop()


@pytest.mark.parametrize(
    ("strategy", "devices", "fault"),
    [
        ({"pipeline": 2}, 3, "3 processes do not divide into pipeline 2 x tensor 1"),
        ({"tensor": 4}, 4, "4 tensor ranks do not divide the 2 key and value heads of the core"),
        ({"split_text": True}, 1, "split_text splits over tensor ranks"),
        ({"shards": 2}, 3, "3 data ranks do not divide into 2 shards"),
        ({"pipeline": 2, "shards": 2}, 2, "1 data ranks do not divide into 2 shards"),
        ({"pipeline": 5, "micro_batches": 6}, 5, "4 blocks are too few for 5 stages"),
        ({"pipeline": 2, "micro_batches": 4}, 2, "6 rows do not divide into 1 data ranks x 4"),
        ({"pipeline": 2, "micro_batches": 1}, 2, "schedule 1f1b needs micro_batches for all 2"),
        ({"stages_per_rank": 2}, 1, "interleaved and looped have several stages on a process"),
    ],
)
def test_layouts_that_do_not_divide(config, strategy, devices, fault):  # noqa: F811
    assert fault in refused(config, strategy, devices=devices)


def test_averages_and_losses_that_are_no_walk(config):  # noqa: F811
    averaging = [{"class_path": "multimodal.training.averaging.CheckpointAveraging"}]
    settings = yaml.safe_load(config.read_text())
    settings["trainer"]["callbacks"] = averaging
    config.write_text(yaml.safe_dump(settings))
    assert "CheckpointAveraging" in refused(config, {"tensor": 2, "micro_batches": 2}, devices=2)
    config.write_text(yaml.safe_dump(settings))
    assert "CheckpointAveraging" in refused(config, {"shards": 2}, devices=2)
    warm_up = "multimodal.training.warm_up.SpeechWarmUp"
    encoder = settings["model"]["init_args"]["parts"]
    settings = {
        "extends": str(ROOT / "configs" / "speech" / "warm-up-tiny.yaml"),
        "trainer": {"default_root_dir": str(config.parent / "run"), "accelerator": "cpu"},
        "model": {"init_args": {"parts": {"core": encoder["core"], "speech_encoder": "tiny"}}},
    }
    config.write_text(yaml.safe_dump(settings))
    said = refused(config, {})
    assert warm_up.rpartition(".")[2] in said and "use strategy ddp" in said
