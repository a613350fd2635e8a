"""The whole way of a researcher: ordinary shards, `fit`, a kill, resuming, `caption`."""

import io
import json
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
import yaml
from PIL import Image

from language.next_token import NextTokenTraining
from multimodal.cli import main
from multimodal.data.loader import Batches

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).resolve().parents[3]
KILLED_AT = 5

KILLER = f"""
import os, signal, sys
from multimodal import cli
from multimodal.training.progress import Progress
report = Progress._report
def report_and_die(self, trainer, training):
    report(self, trainer, training)
    if trainer.global_step == {KILLED_AT}: os.kill(os.getpid(), signal.SIGKILL)
Progress._report = report_and_die
sys.exit(cli.main(sys.argv[1:]))
"""


def jpeg(rng: np.random.Generator) -> bytes:
    """A picture of any size and colours."""
    buffer, (width, height) = io.BytesIO(), rng.integers(9, 60, 2)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """As img2dataset writes them, with a broken picture and a member that nobody asked for."""
    rng, folder = np.random.default_rng(0), tmp_path / "shards"
    folder.mkdir()
    for shard in range(2):
        with webdataset.TarWriter(str(folder / f"{shard:05d}.tar")) as writer:
            for index in range(30):
                caption = rng.choice(["one two", "two three one", "three"])
                sample = {
                    "__key__": f"{shard:05d}{index:04d}",
                    "jpg": jpeg(rng),
                    "txt": caption.encode(),
                    "json": json.dumps({"caption": caption, "status": "success"}).encode(),
                }
                if shard == 1 and index == 7:
                    sample["jpg"] = sample["jpg"][:40]
                if index == 3:
                    sample["pkl"] = pickle.dumps(index)
                writer.write(sample)
    return folder


@pytest.fixture
def config(tmp_path: Path, shards: Path, core: str, encoder: str) -> Path:
    """What a researcher would write."""
    settings = {
        "extends": str(ROOT / "configs" / "image" / "_pretrain.yaml"),
        "trainer": {
            "default_root_dir": str(tmp_path / "run"),
            "accelerator": "cpu",
            "max_steps": 8,
            "val_check_interval": 8,
        },
        "progress": {"every_n_steps": 1},
        "checkpoints": {"every_n_steps": 2},
        "model": {
            "init_args": {
                "parts": {
                    "core": core,
                    "image_encoder": encoder,
                    "adapter": {"positions": [1, 3], "gate_init": 0.3},
                },
                "schedule": {"warmup_steps": 2},
            }
        },
        "data": {
            "init_args": {
                "train": [{"path": str(shards / "*.tar")}],
                "batch_size": 6,
                "num_workers": 1,
                "max_broken_share": 0.1,
                "cache": str(tmp_path / "cache"),
            }
        },
    }
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def test_fit_killed_resumed_captioned(config: Path, core: str, capfd, caplog) -> None:
    folder, words = config.parent, ["fit", "--config", str(config)]
    assert main([*words, f"--trainer.default_root_dir={folder / 'whole'}"]) == 0
    killed = subprocess.run([sys.executable, "-c", KILLER, *words], cwd=ROOT, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (folder / "run" / "export").exists()
    assert main([*words, "--ckpt_path", "last"]) == 0
    capfd.readouterr()
    assert "sample 000010007: broken or truncated picture" in caplog.text
    weights = [folder / run / "export" / "adapter.safetensors" for run in ("whole", "run")]
    assert weights[0].read_bytes() == weights[1].read_bytes()

    picture = folder / "photo.jpg"
    picture.write_bytes(jpeg(np.random.default_rng(1)))
    use = ["caption", str(picture), "--model", str(folder / "run" / "export"), "--core", core]
    assert main([*use, "--base", "--json", "--max_new_tokens", "5"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["file"] == str(picture) and isinstance(answer["caption"], str)


def test_a_step_that_is_left_out_names_what_it_read(config: Path, monkeypatch, capfd) -> None:
    """The samples of the very batch whose loss was no number, of several batches a step."""
    made, poisoned = {}, []
    whole, loss = Batches.__getitem__, NextTokenTraining.loss

    def noted(self, step):
        found = whole(self, step)
        made[step] = self, found[0]
        return found

    def poison(self, batch):
        total, count = loss(self, batch)
        if self.global_step != 2 or not torch.is_grad_enabled():
            return total, count
        poisoned.append(batch)
        return total * torch.nan, count

    monkeypatch.setattr(Batches, "__getitem__", noted)
    monkeypatch.setattr(NextTokenTraining, "loss", poison)
    words = ["--data.init_args.num_workers", "0", "--trainer.accumulate_grad_batches", "2"]
    assert main(["fit", "--config", str(config), *words, "--trainer.max_steps", "4"]) == 0
    (said,) = [line for line in capfd.readouterr().out.splitlines() if "left out: " in line]
    assert len(poisoned) == 2
    wanted = []
    for batch in poisoned:
        (step,) = [
            s for s, (_, b) in made.items() if torch.equal(b.images.tiles, batch.images.tiles)
        ]
        batches = made[step][0]
        wanted += [
            f"{batches.sources[source].name}:{index}"
            for _, source, index in batches.plan.batch(step).tolist()
        ]
    assert said.endswith("it read " + ", ".join(wanted))
