"""`convert` goes both ways without changing a bit; `info` counts what is there."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from language.config import LLAMA_CONFIGS
from multimodal.checkpoint import load_model, save_model
from multimodal.cli import main
from multimodal.config import MULTIMODAL_CONFIGS, MultimodalConfig
from multimodal.model import MultimodalLlama
from tests.multimodal.speaking import write_speaking


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.fixture
def core(model_directory: Path, tmp_path: Path) -> Path:
    """A directory of ours that holds a core alone."""
    whole = load_model(model_directory)
    model = MultimodalLlama(MultimodalConfig(language=whole.config.language))
    model.language = whole.language
    save_model(model, tmp_path / "core", companions=model_directory)
    return tmp_path / "core"


def test_a_core_there_and_back(core, tmp_path, capsys):
    assert main(["convert", str(core), str(tmp_path / "published")]) == 0
    config = json.loads((tmp_path / "published" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (tmp_path / "published" / "tokenizer.json").exists()
    assert main(["convert", str(tmp_path / "published"), str(tmp_path / "back")]) == 0
    assert same(weights(tmp_path / "back"), weights(core))
    assert (tmp_path / "back" / "tokenizer.json").exists()
    assert "(huggingface)" in capsys.readouterr().out


def test_another_type(core, tmp_path):
    target = tmp_path / "half"
    words = ["convert", str(core), str(target), "--to", "openherd", "--dtype", "bfloat16"]
    assert main(words) == 0
    half = {name: tensor.bfloat16() for name, tensor in weights(core).items()}
    assert same(weights(target), half)


def test_an_adapter_becomes_a_whole_model(model_directory, core, tmp_path):
    from multimodal.adapter_checkpoint import save_adapter

    save_adapter(load_model(model_directory), tmp_path / "adapter")
    words = ["convert", str(tmp_path / "adapter"), str(tmp_path / "whole"), "--core", str(core)]
    assert main([*words, "--to", "openherd"]) == 0
    assert same(weights(tmp_path / "whole"), weights(model_directory))


def test_info_of_a_directory(model_directory, capsys):
    assert main(["info", str(model_directory), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    stored = weights(model_directory)
    for part, facts in about["parts"].items():
        held = [tensor for name, tensor in stored.items() if name.startswith(f"{part}.")]
        assert facts["parameters"] == sum(tensor.numel() for tensor in held)
    assert [p for p, facts in about["parts"].items() if facts["frozen"]] == ["language"]
    assert main(["info", str(model_directory)]) == 0
    shown = capsys.readouterr().out
    total = f"{sum(tensor.numel() for tensor in stored.values()):,}"
    assert total in shown and "before the core's blocks 1, 2 (of 3)" in shown


@pytest.mark.parametrize(
    "preset", [*MULTIMODAL_CONFIGS, *(n for n in LLAMA_CONFIGS if n != "tiny")]
)
def test_info_of_a_preset(preset, capsys):
    assert main(["info", preset]) == 0
    assert f"{preset}: preset" in capsys.readouterr().out


def test_info_of_an_adapter(model_directory, tmp_path, capsys):
    from multimodal.adapter_checkpoint import save_adapter

    save_adapter(load_model(model_directory), tmp_path / "adapter", core_name="my core")
    assert main(["info", str(tmp_path / "adapter")]) == 0
    assert "adapter of the core my core" in capsys.readouterr().out


def test_info_of_training_configs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(
        "model: {init_args: {core: {vocab_size: 300, dim: 32, num_layers: 2, num_heads: 4,"
        " num_kv_heads: 2, ffn_dim: 48}}}"
    )
    Path("mine.yaml").write_text("extends: base.yaml\nmodel: {init_args: {core: {num_layers: 3}}}")
    assert main(["info", "mine.yaml", "--json"]) == 0
    core = json.loads(capsys.readouterr().out)["parts"]["language"]
    assert core["is"].startswith("3 layers") and not core["frozen"]
    Path("encoder.yaml").write_text(
        "model: {init_args: {image_encoder: {image_size: 8, patch_size: 4, dim: 8, num_layers: 1,"
        " num_heads: 2, ffn_dim: 8}}}"
    )
    assert main(["info", "encoder.yaml"]) == 0
    assert "training of an image encoder" in capsys.readouterr().out
    Path("wrong.yaml").write_text("model: {init_args: {core: {dimension: 32}}}")
    Path("none.yaml").write_text("trainer: {max_steps: 3}")
    for name, fault in (("wrong.yaml", "'dimension'"), ("none.yaml", "builds no model")):
        assert main(["info", name]) == 2
        assert fault in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "trained"),
    [
        ("speech/finetune-8b.yaml", {"speech_encoder", "speech_adapter"}),
        ("video/pretrain-8b.yaml", {"video_aggregator", "video_adapter"}),
        ("image/pretrain-8b.yaml", {"image_encoder", "image_adapter", "extra_embedding"}),
        ("language/pretrain-tiny.yaml", {"language"}),
    ],
)
def test_info_says_what_a_training_trains(config, trained, capsys):
    assert main(["info", config, "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert {name for name, part in parts.items() if not part["frozen"]} == trained
    described = [part["is"] for part in parts.values()]
    assert len(set(described)) == len(described)


def test_what_another_layout_cannot_hold_is_refused(tmp_path, capsys):
    speaking = write_speaking(tmp_path / "speaking")
    assert main(["convert", str(speaking), str(tmp_path / "out"), "--to", "huggingface"]) == 2
    assert "no place for its parts speech_encoder, speech_adapter" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
