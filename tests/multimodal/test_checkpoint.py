"""Checkpoints: content tells the kind, parts know their core, faults are named in one line."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from language.checkpoint import save_llama
from language.errors import InputError
from language.generation import GenerationConfig
from language.model import Llama
from language.tokenizer import load_tokenizer, train_bpe
from multimodal.adapter_checkpoint import (
    load_adapter,
    load_parts,
    open_adapter,
    save_adapter,
    weights_hash,
)
from multimodal.batch import Batch
from multimodal.checkpoint import (
    companions_of,
    kind_of,
    load_core,
    load_model,
    open_model,
    save_model,
)
from multimodal.config import MULTIMODAL_CONFIGS, MultimodalConfig
from multimodal.model import MultimodalLlama
from multimodal.released import (
    config_from_released,
    config_to_released,
    fused_positions,
    save_released,
)

MakeBatch = Callable[..., Batch]

TEXT_11B: dict[str, Any] = {
    "bos_token_id": 128000,
    "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
    "dropout": 0,
    "eos_token_id": [128001, 128008, 128009],
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "model_type": "mllama_text_model",
    "num_attention_heads": 32,
    "num_hidden_layers": 40,
    "num_key_value_heads": 8,
    "pad_token_id": 128004,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 128256,
}
"""``text_config`` of the public Llama-3.2-11B-Vision-Instruct."""
VISION: dict[str, Any] = {
    "attention_heads": 16,
    "hidden_act": "gelu",
    "hidden_size": 1280,
    "image_size": 560,
    "initializer_range": 0.02,
    "intermediate_layers_indices": [3, 7, 15, 23, 30],
    "intermediate_size": 5120,
    "max_num_tiles": 4,
    "model_type": "mllama_vision_model",
    "norm_eps": 1e-05,
    "num_channels": 3,
    "num_global_layers": 8,
    "num_hidden_layers": 32,
    "patch_size": 14,
    "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
    "torch_dtype": "bfloat16",
    "vision_output_dim": 7680,
}
"""``vision_config`` of the public Llama 3.2 Vision models."""
TEXT_90B = TEXT_11B | {
    "cross_attention_layers": list(range(3, 100, 5)),
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_hidden_layers": 100,
}
RELEASES = {
    "llama-3.2-11b": (TEXT_11B, 10_670_220_835),
    "llama-3.2-90b": (TEXT_90B, 88_593_355_323),
}
"""Text config and parameters, as transformers counts them."""


@pytest.mark.parametrize("name", RELEASES)
def test_published_releases(name: str) -> None:
    text, num_parameters = RELEASES[name]
    data = {"image_token_index": 128256, "text_config": text, "vision_config": VISION}
    config = config_from_released(data, source=Path("config.json"))
    assert config == MULTIMODAL_CONFIGS[name]
    with torch.device("meta"):
        model = MultimodalLlama(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters
    written = config_to_released(config, dtype=torch.bfloat16)
    for part, published in (("text_config", text), ("vision_config", VISION)):
        for key, value in written[part].items():
            assert published.get(key) == value, key


def test_fused_places_by_hand() -> None:
    assert fused_positions((3, 7, 11, 15, 19, 23, 27, 31)) == TEXT_11B["cross_attention_layers"]
    assert fused_positions((0, 1, 4)) == [0, 2, 6]


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("max_shard_bytes", [10**9, 30_000])
def test_ours_comes_back(max_shard_bytes: int, model: MultimodalLlama, tmp_path: Path) -> None:
    model.image_adapter.bfloat16()
    save_model(model, tmp_path / "ours", max_shard_bytes=max_shard_bytes)
    assert kind_of(tmp_path / "ours") == "openherd"
    back = load_model(tmp_path / "ours")
    assert back.config == model.config
    assert same(back, model)
    assert not back.training
    assert {p.dtype for p in back.parameters()} == {torch.float32, torch.bfloat16}
    cast = load_model(tmp_path / "ours", dtype=torch.float16)
    assert {p.dtype for p in cast.parameters()} == {torch.float16}


def test_saving_again_replaces(model: MultimodalLlama, tmp_path: Path) -> None:
    save_model(model, tmp_path / "ours", max_shard_bytes=30_000)
    model.language.norm.weight.data += 1
    save_model(model, tmp_path / "ours")
    assert same(load_model(tmp_path / "ours"), model)
    assert not list((tmp_path / "ours").glob("*index*"))


def test_tokenizer_and_stops_go_along(model: MultimodalLlama, tmp_path: Path) -> None:
    tokenizer = train_bpe(["a red circle", "two blue squares"], num_merged=4)
    save_model(model, tmp_path / "ours", tokenizer)
    back = load_tokenizer(tmp_path / "ours")
    assert back.encode("two red squares") == tokenizer.encode("two red squares")
    drawing = GenerationConfig.from_directory(tmp_path / "ours", tokenizer=back)
    assert set(drawing.stop_ids) == set(tokenizer.stop_ids)
    sampling = {"eos_token_id": [1, 2], "temperature": 0.6}
    (tmp_path / "ours" / "generation_config.json").write_text(json.dumps(sampling))
    save_model(model, tmp_path / "again", companions=tmp_path / "ours")
    assert json.loads((tmp_path / "again" / "generation_config.json").read_text()) == sampling
    assert load_tokenizer(tmp_path / "again").vocab_size == tokenizer.vocab_size


@torch.no_grad()
def test_a_core_alone_reads_text(
    model: MultimodalLlama, make_batch: MakeBatch, tmp_path: Path
) -> None:
    save_llama(model.language, tmp_path / "core")
    alone = load_model(tmp_path / "core")
    assert kind_of(tmp_path / "core") == "llama"
    assert alone.config == MultimodalConfig(language=model.config.language)
    batch = make_batch([[], []])
    assert torch.equal(alone(batch), model(batch))


def test_small_files_stand_where_the_weights_do(tmp_path: Path) -> None:
    (tmp_path / "original").mkdir()
    (tmp_path / "original" / "params.json").write_text("{}")
    assert kind_of(tmp_path) == "meta"
    assert companions_of(tmp_path) == tmp_path / "original"
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    assert kind_of(tmp_path) == "llama"
    assert companions_of(tmp_path) == tmp_path


def released(model: MultimodalLlama) -> MultimodalLlama:
    """The same weights in the shape of the release: padded encoder, its rule of sight."""
    config = model.config
    assert config.image_encoder is not None and config.image_adapter is not None
    theirs = replace(
        config,
        image_encoder=replace(config.image_encoder, mode="released"),
        image_adapter=replace(config.image_adapter, gate_init=0.0),
        visibility="until_next",
    )
    changed = MultimodalLlama(theirs)
    changed.load_state_dict(model.state_dict())
    return changed.eval()


@pytest.mark.parametrize("kind", ["openherd", "llama", "llama-vision"])
def test_the_core_of_any_directory(kind: str, model: MultimodalLlama, tmp_path: Path) -> None:
    writers: dict[str, Callable[[Path], None]] = {
        "openherd": lambda path: save_model(model, path),
        "llama": lambda path: save_llama(model.language, path),
        "llama-vision": lambda path: save_released(released(model), path),
    }
    writers[kind](tmp_path / "model")
    assert kind_of(tmp_path / "model") == kind
    core = load_core(tmp_path / "model")
    assert same(core, model.language)
    assert weights_hash(core) == weights_hash(model.language)


def test_release_comes_back(model: MultimodalLlama, tmp_path: Path) -> None:
    save_released(released(model), tmp_path / "theirs")
    back = load_model(tmp_path / "theirs")
    assert same(back, model)
    assert back.config == released(model).config


def test_pictures_are_cut_as_the_directory_says(model: MultimodalLlama, tmp_path: Path) -> None:
    save_released(released(model), tmp_path / "theirs")
    file = tmp_path / "theirs" / "preprocessor_config.json"
    data = json.loads(file.read_text())
    data |= {"image_mean": [0.1, 0.2, 0.3], "max_image_tiles": 2, "resample": 3}
    file.write_text(json.dumps(data))
    config, _ = open_model(tmp_path / "theirs")
    assert config.tiles is not None
    assert config.tiles.mean == (0.1, 0.2, 0.3)
    assert config.tiles.max_num_tiles == 2
    assert config.tiles.resampling == "bicubic"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"extra_tokens": 3}, "extra_tokens"),
        ({"visibility": "all_before"}, "visibility"),
        ({"image_encoder": None, "image_adapter": None, "tiles": None}, "image parts"),
    ],
)
def test_what_the_release_has_no_place_for(
    change: dict[str, Any], key: str, model: MultimodalLlama, tmp_path: Path
) -> None:
    other = MultimodalLlama(replace(released(model).config, **change))
    with pytest.raises(ValueError, match=key):
        save_released(other, tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def other_core(model: MultimodalLlama) -> Llama:
    core = Llama(model.config.language)
    core.load_state_dict(model.language.state_dict())
    core.blocks[2].feed_forward.up.weight.data[5, 7] += 0.1
    return core.eval()


@torch.no_grad()
def test_adapter_and_core_make_the_model(
    model: MultimodalLlama, make_batch: MakeBatch, tmp_path: Path
) -> None:
    save_adapter(model, tmp_path / "adapter", core_name="test core")
    save_llama(model.language, tmp_path / "core")
    assert kind_of(tmp_path / "adapter") == "adapter"
    names = load_file(tmp_path / "adapter" / "adapter.safetensors")
    assert not any(name.startswith("language.") for name in names)
    back = load_adapter(tmp_path / "adapter", load_core(tmp_path / "core"))
    batch = make_batch([[(2, (1, 2))], [], [(0, (2, 2)), (5, (1, 1))]])
    assert torch.equal(back(batch), model(batch))
    assert not back.training


@torch.no_grad()
def test_another_core_is_refused(
    model: MultimodalLlama, make_batch: MakeBatch, tmp_path: Path
) -> None:
    save_adapter(model, tmp_path / "adapter", core_name="test core")
    core = other_core(model)
    with pytest.raises(InputError, match="belongs to the core test core") as caught:
        load_adapter(tmp_path / "adapter", core)
    assert "\n" not in str(caught.value)
    swapped = load_adapter(tmp_path / "adapter", core, other_core=True)
    batch = make_batch([[(2, (1, 2))]])
    assert not torch.equal(swapped(batch), model(batch))
    assert torch.equal(swapped(make_batch([[]])), core(make_batch([[]]).tokens))


def test_core_of_another_size_is_refused(model: MultimodalLlama, tmp_path: Path) -> None:
    save_adapter(model, tmp_path / "adapter")
    smaller = Llama(replace(model.config.language, dim=16, head_dim=8))
    for swap in (False, True):
        with pytest.raises(InputError, match="adapter: "):
            load_adapter(tmp_path / "adapter", smaller, other_core=swap)


@pytest.mark.parametrize("loaded", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tiny_numbers", [False, True])
def test_hash_is_the_same_in_every_type(
    loaded: torch.dtype, tiny_numbers: bool, model: MultimodalLlama
) -> None:
    """Of a core published in bfloat16, also where float16 cannot hold its smallest numbers."""
    core = model.language.bfloat16()
    if tiny_numbers:
        core.blocks[0].attention.query.weight.data *= 1e-5
    expected = weights_hash(core.float())
    assert weights_hash(core.to(loaded)) == expected


def test_hash_sees_every_tensor_and_its_place(model: MultimodalLlama) -> None:
    core = model.language
    seen = {weights_hash(core)}
    for _, parameter in sorted(core.named_parameters()):
        parameter.data.view(-1)[-1] += 0.5
        seen.add(weights_hash(core))
    assert len(seen) == 1 + len(list(core.parameters()))
    first, second = core.blocks[0], core.blocks[1]
    core.blocks[0], core.blocks[1] = second, first
    assert weights_hash(core) not in seen


def test_some_parts_go_onto_a_model_that_has_the_rest(
    model: MultimodalLlama, config: MultimodalConfig, tmp_path: Path
) -> None:
    save_adapter(model, tmp_path / "encoder", parts=["image_encoder"])
    assert open_adapter(tmp_path / "encoder").parts == ("image_encoder",)
    other = MultimodalLlama(config)
    other.language.load_state_dict(model.language.state_dict())
    untouched = other.image_adapter.layers[0].attention.query.weight.clone()
    parameters = dict(other.named_parameters())
    load_parts(tmp_path / "encoder", other)
    assert same(other.image_encoder, model.image_encoder)
    assert torch.equal(other.image_adapter.layers[0].attention.query.weight, untouched)
    assert all(parameters[name] is parameter for name, parameter in other.named_parameters())
    with pytest.raises(InputError, match="holds image_encoder, but no image_adapter"):
        load_adapter(tmp_path / "encoder", model.language)
    with pytest.raises(InputError, match="which the model doesn't have"):
        load_parts(
            tmp_path / "encoder",
            MultimodalLlama(MultimodalConfig(language=config.language)),
            other_core=True,
        )


Spoil = Callable[[Path], object]


def edit(name: str, **changes: object) -> Spoil:
    def spoil(directory: Path) -> None:
        file = directory / name
        data = json.loads(file.read_text())
        file.write_text(json.dumps(data | changes))

    return spoil


def edit_tensors(name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Spoil:
    def spoil(directory: Path) -> None:
        tensors = load_file(directory / name)
        change(tensors)
        save_file(tensors, directory / name)

    return spoil


def deeper(directory: Path) -> None:
    file = directory / "config.json"
    data = json.loads(file.read_text())
    data["image_encoder"]["num_global_layers"] = 10**9
    file.write_text(json.dumps(data))


GATE = "image_adapter.layers.0.attention_gate"
OUR_FAULTS: dict[str, tuple[Spoil, str]] = {
    "nothing": (lambda d: [f.unlink() for f in d.iterdir()], "no model: neither"),
    "newer version": (edit("config.json", version=2), "config.json: format version"),
    "unknown key": (edit("config.json", colour="red"), "config.json: .*colour"),
    "wrong value": (edit("config.json", language=3), "config.json: "),
    "a billion layers": (deeper, "config.json: says 1000000000 layers"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "no weights"),
    "missing": (
        edit_tensors("model.safetensors", lambda t: t.pop(GATE)),
        f"lacks the weights {GATE}",
    ),
    "wrong size": (
        edit_tensors("model.safetensors", lambda t: t.update({GATE: torch.zeros(2)})),
        rf"model.safetensors: {GATE} is \[2\], the config wants \[1\]",
    ),
    "other architecture": (
        lambda d: (d / "config.json").write_text('{"architectures": ["BertModel"]}'),
        "config.json: architecture BertModel is none of",
    ),
}


def expect_fault(load: Callable[[], object], directory: Path, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load()
    line = str(caught.value)
    assert re.search(message, line), line
    assert "\n" not in line
    assert line.startswith(str(directory))


@pytest.mark.parametrize("fault", OUR_FAULTS)
def test_faults_of_ours(fault: str, model: MultimodalLlama, tmp_path: Path) -> None:
    save_model(model, tmp_path / "ours")
    spoil, message = OUR_FAULTS[fault]
    spoil(tmp_path / "ours")
    expect_fault(lambda: load_model(tmp_path / "ours"), tmp_path / "ours", message)


EMBEDDING = "language_model.model.embed_tokens.weight"
RELEASE_FAULTS: dict[str, tuple[Spoil, str]] = {
    "no text": (edit("config.json", text_config=None), "config.json: "),
    "no vision": (edit("config.json", vision_config={}), "config.json: lacks the key"),
    "neighbouring layers": (
        lambda d: edit(
            "config.json",
            text_config=json.loads((d / "config.json").read_text())["text_config"]
            | {"cross_attention_layers": [1, 2, 6]},
        )(d),
        "config.json: positions must rise",
    ),
    "no new embeddings": (
        edit_tensors(
            "model.safetensors", lambda t: t.update({EMBEDDING: t[EMBEDDING][:300].clone()})
        ),
        rf"model.safetensors: {EMBEDDING} is \[300, 32\], .* \[308, 32\]",
    ),
    "patches of another size": (
        edit_tensors(
            "model.safetensors",
            lambda t: t.update({"vision_model.patch_embedding.weight": torch.zeros(16, 3, 7, 7)}),
        ),
        r"vision_model.patch_embedding.weight is \[16, 3, 7, 7\]",
    ),
    "odd resampling": (
        edit("preprocessor_config.json", resample=5),
        "preprocessor_config.json: resample 5",
    ),
}


@pytest.mark.parametrize("fault", RELEASE_FAULTS)
def test_faults_of_the_release(fault: str, model: MultimodalLlama, tmp_path: Path) -> None:
    save_released(released(model), tmp_path / "theirs")
    spoil, message = RELEASE_FAULTS[fault]
    spoil(tmp_path / "theirs")
    expect_fault(lambda: load_model(tmp_path / "theirs"), tmp_path / "theirs", message)


ADAPTER_FAULTS: dict[str, tuple[Spoil, str]] = {
    "no weights": (lambda d: (d / "adapter.safetensors").unlink(), "no weights"),
    "other format": (edit("adapter.json", format="lora"), "adapter.json: not an adapter"),
    "no core": (edit("adapter.json", core={}), "adapter.json: lacks"),
    "unknown part": (edit("adapter.json", parts=["language"]), r"adapter.json: parts \['language"),
    "missing": (
        edit_tensors("adapter.safetensors", lambda t: t.pop(GATE)),
        f"lacks the weights {GATE}",
    ),
    "wrong size": (
        edit_tensors("adapter.safetensors", lambda t: t.update({GATE: torch.zeros(2)})),
        rf"adapter.safetensors: {GATE} is \[2\]",
    ),
}


@pytest.mark.parametrize("fault", ADAPTER_FAULTS)
def test_faults_of_an_adapter(fault: str, model: MultimodalLlama, tmp_path: Path) -> None:
    save_adapter(model, tmp_path / "adapter")
    spoil, message = ADAPTER_FAULTS[fault]
    spoil(tmp_path / "adapter")
    directory = tmp_path / "adapter"
    expect_fault(lambda: load_adapter(directory, model.language), directory, message)


def test_adapter_alone_is_no_model(model: MultimodalLlama, tmp_path: Path) -> None:
    save_adapter(model, tmp_path / "adapter")
    expect_fault(lambda: load_model(tmp_path / "adapter"), tmp_path / "adapter", "an adapter alone")
