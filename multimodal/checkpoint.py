"""Checkpoints of the composition: ours, and whichever published one a directory turns out to be.

Ours is ``config.json`` (with ``"format": "openherd"``), safetensors under the model's own parameter
names, the tokenizer's files and ``generation_config.json``. Parts trained beside a frozen core are
kept without it in ``multimodal.adapter_checkpoint``.
"""

from pathlib import Path
from typing import Any, Literal

import torch

from language.checkpoint import architecture_of, open_llama
from language.directories import copy_companions, whole, written_whole
from language.errors import InputError
from language.meta import is_meta, meta_directory
from language.model import Llama
from language.tokenizer import Tokenizer
from language.weights import (
    MAX_SHARD_BYTES,
    StoredTensor,
    check_depth,
    fill,
    open_safetensors,
    read_json,
    renamed,
    write_json,
    write_safetensors,
)
from multimodal.config import MultimodalConfig
from multimodal.model import MultimodalLlama
from multimodal.released import open_released

FORMAT, VERSION = "openherd", 1

Kind = Literal["openherd", "llama", "meta", "llama-vision", "adapter"]


def kind_of(directory: Path) -> Kind:
    """What a directory holds, told by its content.

    Raises:
        InputError: nothing that can be loaded.
    """
    if (directory / "adapter.json").exists():
        return "adapter"
    if is_meta(directory):
        return "meta"
    file = directory / "config.json"
    if not file.exists():
        raise InputError(
            directory, "no model: neither config.json nor params.json nor adapter.json"
        )
    data = read_json(file)
    if data.get("format") == FORMAT:
        return "openherd"
    architecture = architecture_of(data)
    kinds: dict[str, Kind] = {
        "LlamaForCausalLM": "llama",
        "MllamaForConditionalGeneration": "llama-vision",
    }
    if architecture not in kinds:
        raise InputError(file, f"architecture {architecture} is none of {', '.join(kinds)}")
    return kinds[architecture]


def companions_of(directory: Path) -> Path:
    """Where the small files beside a model's weights lie, its tokenizer's among them.

    Raises:
        InputError: there is no such directory.
    """
    directory = whole(directory)
    return meta_directory(directory) if is_meta(directory) else directory


def open_model(directory: Path) -> tuple[MultimodalConfig, dict[str, StoredTensor]]:
    """Config and stored tensors, under the names of :class:`MultimodalLlama`; no weight is read.

    Raises:
        InputError: what is wrong with which file.
    """
    directory = whole(directory)
    kind = kind_of(directory)
    if kind == "adapter":
        raise InputError(directory, "an adapter alone: say which core it goes with")
    if kind == "openherd":
        return _open_ours(directory)
    if kind == "llama-vision":
        return open_released(directory)
    language, stored = open_llama(directory)
    return MultimodalConfig(language=language), {f"language.{n}": t for n, t in stored.items()}


def _open_ours(directory: Path) -> tuple[MultimodalConfig, dict[str, StoredTensor]]:
    file = directory / "config.json"
    data = read_json(file)
    if data.pop("version", None) != VERSION:
        raise InputError(file, f"format version is not {VERSION}: a newer openherd wrote it")
    del data["format"]
    stored = open_safetensors(directory)
    config = parsed_config(data, source=file)
    encoder = config.image_encoder
    layers = (encoder.num_layers, encoder.num_global_layers) if encoder else ()
    check_depth(config.language.num_layers, *layers, stored=stored, source=file)
    with torch.device("meta"):
        names = [name for name, _ in MultimodalLlama(config).named_parameters()]
    return config, renamed(stored, zip(names, names, strict=True), source=directory)


def parsed_config(data: dict[str, Any], *, source: Path) -> MultimodalConfig:
    """A config of ours from its JSON.

    Raises:
        InputError: an unknown key or a wrong value.
    """
    try:
        return MultimodalConfig.from_json(data)
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise InputError(source, str(error)) from None


def load_model(
    directory: Path | str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    without: MultimodalConfig | None = None,
) -> MultimodalLlama:
    """A model in eval mode from a directory of ours, of Llama 3.x or of Llama 3.2 Vision.

    Args:
        directory: told by its content; Llama gives a model without image parts.
        device: where the weights go.
        dtype: what they are cast to; None keeps the type they are stored in.
        without: leave out the parts, for each medium, that this config has.

    Raises:
        InputError: what is wrong with which file.
    """
    config, stored = open_model(Path(directory))
    if without is not None and without.image_encoder is not None:
        config = config.without_image_parts()
    if without is not None and without.speech_encoder is not None:
        config = config.without_speech_parts()
    if without is not None and without.video_aggregator is not None:
        config = config.without_video_parts()
    with torch.device("meta"):
        model = MultimodalLlama(config)
    fill(model, stored, device=device, dtype=dtype)
    return model.eval()


def load_core(
    directory: Path | str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> Llama:
    """The language core alone of any directory that :func:`load_model` reads; see there."""
    config, stored = open_model(Path(directory))
    with torch.device("meta"):
        core = Llama(config.language)
    prefix = "language."
    fill(
        core,
        {name.removeprefix(prefix): t for name, t in stored.items() if name.startswith(prefix)},
        device=device,
        dtype=dtype,
    )
    return core.eval()


def save_model(
    model: MultimodalLlama,
    directory: Path | str,
    tokenizer: Tokenizer | None = None,
    *,
    companions: Path | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write a whole model in our format, whole or not at all.

    Args:
        model: its weights are written as they are, in the type they have.
        directory: made, or replaced if it holds a checkpoint and nothing else.
        tokenizer: saved along; without it the companions' files serve.
        companions: a directory whose small files (sampling defaults, chat template) are copied.
        max_shard_bytes: larger weights are split.
    """
    with written_whole(Path(directory)) as target:
        config = {"format": FORMAT, "version": VERSION, **model.config.to_json()}
        write_json(target / "config.json", config)
        write_safetensors(target, dict(model.named_parameters()), max_shard_bytes=max_shard_bytes)
        if tokenizer is not None:
            tokenizer.save(target)
        if companions is not None:
            copy_companions(companions, target)
        if tokenizer is not None and not (target / "generation_config.json").exists():
            ids = {
                "bos_token_id": tokenizer.bos_id,
                "eos_token_id": list(tokenizer.stop_ids),
                "pad_token_id": tokenizer.pad_id,
            }
            write_json(target / "generation_config.json", ids)
