"""The whole way of a speech researcher: recordings, both stages, a kill, `transcribe`."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import webdataset
import yaml

from multimodal.cli import main
from tests.multimodal.speaking import RATE, sound, write_speaking
from tests.multimodal.training.test_from_shards import KILLER

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Tar shards with a broken recording and one that is too long, and a manifest beside them."""
    rng, folder = np.random.default_rng(0), tmp_path / "recordings"
    folder.mkdir()
    with webdataset.TarWriter(str(folder / "00000.tar")) as writer:
        for index in range(30):
            file = folder / "one.flac"
            soundfile.write(file, sound(float(rng.uniform(0.5, 1.5)), seed=index)[0], RATE)
            data = file.read_bytes()
            sample = {
                "__key__": f"{index:06d}",
                "flac": data[: len(data) // 2] if index == 7 else data,
                "json": json.dumps({"text": "one two", "lang": "en"}).encode(),
            }
            if index == 9:
                soundfile.write(file, sound(9.0)[0], RATE)
                sample["flac"] = file.read_bytes()
            writer.write(sample)
    wav = folder / "talk.wav"
    soundfile.write(wav, sound(6.0, seed=99)[0], RATE)
    lines = [
        {"audio_filepath": "talk.wav", "offset": at, "duration": 1.0, "text": "three", "lang": "en"}
        for at in range(6)
    ]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def written(folder: Path, name: str, base: str, settings: dict) -> list[str]:
    """A YAML as a researcher writes it; the words that run it."""
    usual = {
        "extends": str(ROOT / "configs" / "speech" / base),
        "progress": {"every_n_steps": 1},
        "checkpoints": {"every_n_steps": 2},
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(usual | settings))
    return ["fit", "--config", str(file)]


def test_pre_trained_fine_tuned_killed_resumed_transcribed(tmp_path, recordings, capfd, caplog):
    core = write_speaking(tmp_path / "core")
    trainer = {"accelerator": "cpu", "val_check_interval": 8}
    data = {
        "train": [
            {"path": str(recordings / "*.tar")},
            {"path": str(recordings / "manifest.jsonl")},
        ],
        "max_batch_seconds": 12,
        "batch_multiple": 2,
        "max_seconds": 4,
        "num_workers": 1,
        "max_broken_share": 0.2,
        "cache": str(tmp_path / "cache"),
    }
    pretrain = written(
        tmp_path,
        "pretrain",
        "_pretrain.yaml",
        {
            "trainer": trainer | {"default_root_dir": str(tmp_path / "pretrain"), "max_steps": 3},
            "model": {
                "init_args": {
                    "encoder": {
                        "conformer": {"dim": 16, "num_layers": 2, "num_heads": 2, "ffn_dim": 24}
                    },
                    "best_rq": {"num_codebooks": 2, "codebook_size": 32},
                    "schedule": {"warmup_steps": 1},
                }
            },
            "data": {"init_args": data},
        },
    )
    assert main(pretrain) == 0
    finetune = written(
        tmp_path,
        "finetune",
        "_finetune.yaml",
        {
            "trainer": trainer | {"default_root_dir": str(tmp_path / "run"), "max_steps": 8},
            "model": {
                "init_args": {
                    "parts": {
                        "core": str(core),
                        "speech_encoder": str(tmp_path / "pretrain" / "export"),
                        "adapter": {"dim": 16, "ffn_dim": 24, "num_heads": 2},
                    },
                    "schedule": {"warmup_steps": 2},
                }
            },
            "data": {"init_args": data | {"translate": 0.0, "identify": 0.5}},
        },
    )
    assert main([*finetune, f"--trainer.default_root_dir={tmp_path / 'whole'}"]) == 0
    killed = subprocess.run(
        [sys.executable, "-c", KILLER, *finetune], cwd=ROOT, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "run" / "export").exists()
    assert main([*finetune, "--ckpt_path", "last"]) == 0
    capfd.readouterr()
    assert "sample 000007" in caplog.text
    assert "sample 000009" in caplog.text and "at most 4 s fit" in caplog.text
    weights = [tmp_path / run / "export" / "adapter.safetensors" for run in ("whole", "run")]
    assert weights[0].read_bytes() == weights[1].read_bytes()

    use = ["--model", str(tmp_path / "run" / "export"), "--core", str(core), "--json"]
    words = ["transcribe", str(recordings / "talk.wav"), *use, "--max_new_tokens", "5"]
    assert main([*words, "--language", "en"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["language"] == "English" and answer["duration"] == pytest.approx(6.0)
    whole = tmp_path / "joined"
    source = str(tmp_path / "run" / "export")
    assert main(["convert", source, str(whole), "--core", str(core)]) == 0
    capfd.readouterr()
    assert main(["info", str(whole)]) == 0
    said = capfd.readouterr().out
    assert "speech_encoder" in said and "image_adapter" in said
