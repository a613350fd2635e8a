"""Shards of clips, `fit`, a kill, resuming, `caption`: what is broken costs its clip alone."""

import io
import json
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
import yaml

from multimodal.adapter_checkpoint import IMAGE_PARTS, save_adapter
from multimodal.cli import main
from multimodal.training.parts import build
from tests.multimodal.clip_files import clip_bytes
from tests.multimodal.training.test_from_shards import KILLER, ROOT
from video import contained
from vision.encoder import ImageEncoder

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Clips of three containers with captions and dialogues; a broken one among them."""
    kinds = [("mp4", "libx264"), ("webm", "libvpx"), ("mkv", "mpeg4")]
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as archive:
            for index in range(9):
                container, codec = kinds[index % 3]
                clip = clip_bytes(3 + index, container=container, codec=codec)
                record = {"text": "one two three"}
                if index % 2:
                    asked = [{"type": "video"}, {"type": "text", "text": "one"}]
                    record = {
                        "messages": [
                            {"role": "user", "content": asked},
                            {"role": "assistant", "content": "two three"},
                        ]
                    }
                if (shard, index) == (1, 4):
                    clip = clip[:100]
                for name, data in (
                    (container, clip),
                    ("json", json.dumps(record).encode()),
                ):
                    member = tarfile.TarInfo(f"{shard}{index:03d}.{name}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return folder


@pytest.fixture
def image(parts, tmp_path) -> str:
    torch.manual_seed(3)
    save_adapter(build(parts), tmp_path / "image", parts=IMAGE_PARTS)
    return str(tmp_path / "image")


@pytest.fixture
def config(tmp_path: Path, shards: Path, core: str, image: str) -> Path:
    """What a researcher would write."""
    settings = {
        "extends": str(ROOT / "configs" / "video" / "_pretrain.yaml"),
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
                    "image": image,
                    "num_frames": 3,
                    "frames_per_group": 2,
                    "aggregator": {"dim": 16, "num_layers": 1, "num_heads": 2, "ffn_dim": 24},
                    "adapter": {"positions": [1, 3], "gate_init": 0.3},
                },
                "schedule": {"warmup_steps": 2},
                "feature_cache": str(tmp_path / "features"),
            }
        },
        "data": {
            "init_args": {
                "train": [{"path": str(shards / "*.tar")}],
                "batch_size": 4,
                "num_workers": 1,
                "max_broken_share": 0.2,
                "cache": str(tmp_path / "cache"),
            }
        },
    }
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def test_fit_killed_resumed_captioned(config, core, image, tmp_path, capfd, caplog):
    words = ["fit", "--config", str(config)]
    whole = ["--trainer.default_root_dir", str(tmp_path / "whole")]
    assert main([*words, *whole, "--model.feature_cache", ""]) == 0
    killed = subprocess.run([sys.executable, "-c", KILLER, *words], cwd=ROOT, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert main([*words, "--ckpt_path", "last"]) == 0
    capfd.readouterr()
    assert "sample 1004: " in caplog.text
    weights = [tmp_path / run / "export" / "adapter.safetensors" for run in ("whole", "run")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    kept = list((tmp_path / "features").rglob("*.safetensors"))
    assert 10 < len(kept) <= 17 and not list((tmp_path / "features").rglob("*.partial"))


def test_a_decoder_that_dies_costs_its_clip_alone(config, monkeypatch, caplog):
    """The child is killed on its first clip; the run names the clip and goes on."""
    send = contained._Child.send
    killed = []

    def dying(child, *arguments):
        if not killed:
            killed.append(child)
            child._process.kill()
            child._process.wait()
        send(child, *arguments)

    monkeypatch.setattr(contained._Child, "send", dying)
    words = ["fit", "--config", str(config), "--trainer.max_steps", "3"]
    assert main([*words, "--data.init_args.num_workers", "0"]) == 0
    assert killed and "decoder" in caplog.text


def test_known_clips_are_neither_decoded_nor_encoded_again(config, monkeypatch, caplog):
    """In a second run the broken clip alone is asked for."""
    words = ["fit", "--config", str(config), "--data.init_args.num_workers", "0"]
    assert main(words) == 0
    asked, encoded = [], []
    stream = contained.ContainedDecoder.stream
    monkeypatch.setattr(
        contained.ContainedDecoder,
        "stream",
        lambda self, clip, *rest: asked.append(len(clip)) or stream(self, clip, *rest),
    )
    encode = ImageEncoder.forward
    monkeypatch.setattr(
        ImageEncoder,
        "forward",
        lambda self, tiles, *rest: encoded.append(len(tiles)) or encode(self, tiles, *rest),
    )
    again = ["--trainer.default_root_dir", str(config.parent / "again")]
    assert main([*words, *again]) == 0
    assert set(asked) == {100} and not encoded
