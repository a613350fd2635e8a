"""The chain of the tiny model: nothing is read before it is made, and the ends are joined."""

import re
from pathlib import Path

import pytest
import torch

from multimodal.adapter_checkpoint import SPEECH_PARTS, save_adapter
from multimodal.checkpoint import load_model, save_model
from multimodal.training.config_files import chain, find_config, read_yaml
from multimodal.world import train
from tests.multimodal.speaking import TOKENIZER, speaking_model

STAGES = [(*train.CORE, *train.ENCODERS), (*train.IMAGE, *train.SPEECH)]


def own_settings(stage: str) -> str:
    """Text of a stage's config and of the tiny ones that it extends."""
    files = [file for file in chain(find_config(f"{stage}.yaml")) if file.stem.endswith("-tiny")]
    assert files
    return "\n".join(str(read_yaml(file)) for file in files)


def test_stages_read_what_was_made_before():
    for side in (train.IMAGE, train.SPEECH):
        made = {*STAGES[0]}
        for stage in side:
            read = set(re.findall(r"runs/([\w-]+/[\w-]+)/export", own_settings(stage)))
            assert read - {stage} <= made, stage
            made.add(stage)
    assert train.JOINED.name in own_settings(train.VIDEO[0])
    for before, stage in zip(train.VIDEO, train.VIDEO[1:], strict=False):
        assert f"runs/{before}/export" in own_settings(stage)
    for side in (train.CORE, train.ENCODERS):  # the two run side by side
        made = set()
        for stage in side:
            read = set(re.findall(r"runs/([\w-]+/[\w-]+)/export", own_settings(stage)))
            assert read <= made, stage
            made.add(stage)


def test_each_stage_writes_where_the_chain_looks():
    for stage in (*STAGES[0], *STAGES[1], *train.VIDEO):
        settings = read_yaml(find_config(f"{stage}.yaml"))
        assert settings["trainer"]["default_root_dir"] == str(train.RUNS / stage)


def test_the_ends_are_joined(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = speaking_model()
    save_adapter(whole, Path("runs") / train.SPEECH[-1] / "export", parts=SPEECH_PARTS)
    bare = speaking_model()
    bare.config = bare.config.without_speech_parts()
    del bare.speech_encoder, bare.speech_adapter
    save_model(bare, Path("runs") / train.IMAGE[-1] / "export", TOKENIZER)
    speech, image = (Path("runs") / side[-1] / "export" for side in (train.SPEECH, train.IMAGE))
    train.join(speech, image, Path("made"))
    joined = load_model("made")
    assert joined.config == whole.config
    for name, parameter in whole.named_parameters():
        assert torch.equal(joined.get_parameter(name), parameter.half()), name
    assert Path("made/tokenizer.json").is_file()


def test_data_of_another_seed_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train.DATA.mkdir(parents=True)
    (train.DATA / "seed").write_text("7\n")
    with pytest.raises(ValueError, match="seed 7"):
        train.make_data(seed=0)
