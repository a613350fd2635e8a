"""An encoder beside a new adapter is taken out of whatever directory holds one."""

import shutil
from pathlib import Path

import pytest
import torch

import multimodal.locations
from language.errors import InputError
from language.weights import write_json
from multimodal.adapter_checkpoint import save_adapter
from multimodal.checkpoint import load_model
from multimodal.training.encoders import open_image_encoder, open_speech_encoder
from multimodal.training.parts import ModelParts, build
from multimodal.training.speech_parts import SpeechParts, build_speech
from vision.checkpoint import load_encoder, save_encoder


@pytest.fixture(scope="module")
def model():
    return load_model(multimodal.locations.TINY, dtype=torch.float32)


@pytest.fixture
def homes(model, tmp_path) -> list[str]:
    """The same image encoder in a model, in what is trained beside a core, and on its own."""
    save_adapter(model, tmp_path / "adapter")
    save_encoder(model.image_encoder, tmp_path / "encoder", tiles=model.config.tiles)
    return [str(multimodal.locations.TINY), str(tmp_path / "adapter"), str(tmp_path / "encoder")]


def test_the_same_eyes_from_everywhere(model, homes):
    wanted = dict(model.image_encoder.named_parameters())
    assert load_encoder(Path(homes[-1]))[0].state_dict().keys() == wanted.keys()
    for home in homes:
        made = build(ModelParts(core=homes[0], image_encoder=home))
        assert made.config.tiles == model.config.tiles
        for name, parameter in made.image_encoder.named_parameters():
            assert torch.equal(parameter, wanted[name]), (home, name)


def test_the_same_ears_from_a_model_and_an_adapter(model, homes):
    for home in homes[:2]:
        made = build_speech(SpeechParts(core=homes[0], speech_encoder=home))
        heard = dict(made.speech_encoder.named_parameters())
        for name, parameter in model.speech_encoder.named_parameters():
            assert torch.equal(parameter, heard[name]), (home, name)
        fresh = made.speech_adapter.state_dict()
        old = model.speech_adapter.state_dict()
        assert any(not torch.equal(fresh[name], old[name]) for name in old)


def test_a_directory_without_one_is_named(model_directory, homes, tmp_path):
    with pytest.raises(InputError, match="without a speech encoder"):
        open_speech_encoder(model_directory)
    with pytest.raises(InputError, match="no speech encoder"):
        open_speech_encoder(Path(homes[-1]))
    shutil.copytree(homes[-1], tmp_path / "other")
    write_json(tmp_path / "other" / "config.json", {"format": "else"})
    with pytest.raises(InputError, match="no image encoder"):
        open_image_encoder(tmp_path / "other")
