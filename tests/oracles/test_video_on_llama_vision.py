"""Video layers on a directory of Llama 3.2 Vision's shape, as Hugging Face saves it."""

import io
import json
import tarfile
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from language.optimization import AdamWConfig, ScheduleConfig
from language.tokenizer import train_bpe
from multimodal import load
from multimodal.data.module import SourceConfig
from multimodal.data.video_module import VideoData
from multimodal.training.video import VideoAdapterTraining
from multimodal.training.video_parts import FreshAggregator, VideoParts
from tests.multimodal.clip_files import clip_bytes

pytestmark = pytest.mark.filterwarnings("ignore")
TOKENIZER = train_bpe(["A red square moves to the right. user assistant\n\n"] * 3, num_merged=20)


def write_shard(path: Path, *, number: int) -> None:
    """Clips with captions, and one that is broken."""
    with tarfile.open(path, "w") as archive:
        for index in range(number):
            clip = clip_bytes(4 + index, container="mp4" if index % 2 else "webm", codec="libx264"
                              if index % 2 else "libvpx")  # fmt: skip
            said = json.dumps({"text": f"A red square moves {index}."}).encode()
            members = {f"{index}.{'mp4' if index % 2 else 'webm'}": clip, f"{index}.json": said}
            if index == 3:
                members["3.mp4"] = clip[:200]
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


@pytest.fixture
def released(their_vision, save_huggingface) -> Path:
    directory = save_huggingface(their_vision(text={"vocab_size": TOKENIZER.vocab_size}))
    TOKENIZER.save(directory)
    return directory


@pytest.fixture
def shard(tmp_path: Path) -> str:
    write_shard(tmp_path / "clips.tar", number=6)
    return str(tmp_path / "clips.tar")


def test_added_trained_saved_and_loaded(released, shard, tmp_path, caplog):
    parts = VideoParts(
        core=str(released),
        aggregator=FreshAggregator(dim=16, num_layers=1, num_heads=2, ffn_dim=24),
        num_frames=3,
        frames_per_group=2,
    )
    module = VideoAdapterTraining(
        parts=parts,
        optimizer=AdamWConfig(learning_rate=1e-2),
        schedule=ScheduleConfig(warmup_steps=1),
        feature_cache=str(tmp_path / "features"),
    )
    data = VideoData(
        train=[SourceConfig(path=shard)],
        batch_size=2,
        num_workers=0,
        max_broken_share=0.5,
        cache=str(tmp_path / "cache"),
    )
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_steps=4, accelerator="cpu", default_root_dir=tmp_path, **quiet)
    trainer.fit(module, data)
    module.export(tmp_path / "video-parts")

    again = load(tmp_path / "video-parts", core=released)
    clip = {"type": "video", "video": clip_bytes(7)}
    messages = [{"role": "user", "content": [clip, {"type": "text", "text": "What moves?"}]}]
    batch = again.processor(messages)
    assert batch.clips.lengths.tolist() == [3]
    with torch.no_grad():
        assert torch.equal(again.model(batch), module.model.eval()(batch))
        image_model = load(released).model
        batch.clips = batch.visible_clips = None
        assert torch.equal(again.model(batch), image_model(batch))
    again.save(tmp_path / "whole")
    with torch.no_grad():
        batch = again.processor(messages)
        assert torch.equal(load(tmp_path / "whole").model(batch), again.model(batch))
    gates = [layer.attention_gate for layer in again.model.video_adapter.layers]
    assert all(float(gate.detach().abs()) > 0 for gate in gates)
    assert list((tmp_path / "features").rglob("*.safetensors"))
    assert data.train_loader.metrics()["data/broken"] >= 1 and "sample 3: " in caplog.text
