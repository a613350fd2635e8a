"""The chain of the tiny speaker: nothing is read before it is made, and the ends are joined."""

import pytest
import torch

from multimodal.training.config_files import find_config, read_yaml
from multimodal.world import train_speaker
from speech.normalization.checkpoint import load_tagger
from speech.speaker import load_speaker
from tests.multimodal.random_speaker import random_parts


@pytest.mark.parametrize(
    "stage", [train_speaker.CORE, train_speaker.NORMALIZATION, train_speaker.PROSODY]
)
def test_each_stage_writes_where_the_chain_looks(stage):
    settings = read_yaml(find_config(f"{stage}.yaml"))
    assert settings["trainer"]["default_root_dir"] == str(train_speaker.RUNS / stage)
    if stage != train_speaker.CORE:
        model = settings["model"]["init_args"]
        assert model["core"] == str(train_speaker.RUNS / train_speaker.CORE / "export")
        assert model["core_layer"] == train_speaker.CORE_LAYER
    read = [source["path"] for source in settings["data"]["init_args"]["train"]]
    assert all(path.startswith(f"{train_speaker.DATA}/") for path in read)


def test_the_ends_are_joined(tmp_path):
    parts = random_parts(tmp_path)
    train_speaker.join(tmp_path / "speaker", **parts)
    speaker = load_speaker(tmp_path / "speaker")
    assert speaker.embeddings is not None
    assert speaker.embeddings.layer == train_speaker.CORE_LAYER
    tagger, _ = load_tagger(parts["normalization"])
    half, _ = load_tagger(tmp_path / "speaker/normalization")
    for name, value in half.state_dict().items():
        assert torch.equal(value, tagger.state_dict()[name].half().float())
