"""What was trained beside a frozen core, without the core (paper section 7.2).

``adapter.safetensors`` holds the trained parts, ``adapter.json`` their config and the core that
they belong to, by name and by a hash of its weights: parts that learned to talk to one core say
nothing sensible to another. Video parts belong to an image encoder in the same way.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from language.config import LLAMA_CONFIGS, LlamaConfig
from language.directories import whole, written_whole
from language.errors import InputError
from language.model import Llama
from language.weights import (
    MAX_SHARD_BYTES,
    StoredTensor,
    check_depth,
    fill,
    open_safetensors,
    read_json,
    read_tensor,
    write_json,
    write_safetensors,
)
from multimodal.checkpoint import VERSION, parsed_config
from multimodal.config import MultimodalConfig
from multimodal.model import MultimodalLlama

FORMAT = "openherd-adapter"
IMAGE_PARTS = ("image_encoder", "image_adapter", "extra_embedding")
SPEECH_PARTS = ("speech_encoder", "speech_adapter")
VIDEO_PARTS = ("video_aggregator", "video_adapter")
PARTS = IMAGE_PARTS + SPEECH_PARTS + VIDEO_PARTS
"""Modules of a :class:`MultimodalLlama` beside its core."""
Weights = torch.nn.Module | Mapping[str, StoredTensor]
"""A core or an encoder, in memory or in its files."""


@dataclass(frozen=True, kw_only=True)
class AdapterFile:
    """An opened adapter; no weight is read."""

    directory: Path
    config: MultimodalConfig
    """Of the model that it was saved from, as far as its parts go."""
    parts: tuple[str, ...]
    core_name: str
    core_hash: str
    encoder_hash: str | None
    """Of the image encoder that video parts read; None where there are no such parts."""
    stored: dict[str, StoredTensor]
    """Tensors under the names of :class:`MultimodalLlama`."""

    def of(self, part: str) -> dict[str, StoredTensor]:
        """The tensors of one part, under the part's own names."""
        prefix = f"{part}."
        return {n.removeprefix(prefix): t for n, t in self.stored.items() if n.startswith(prefix)}

    def check_core(self, core: Weights) -> None:
        """Refuse a core that isn't the one these parts were trained with.

        Raises:
            InputError: it's another one.
        """
        if weights_hash(core) != self.core_hash:
            raise InputError(
                self.directory, f"belongs to the core {self.core_name}, and this one is another"
            )

    def check_encoder(self, encoder: Weights | None) -> None:
        """Refuse video parts beside an image encoder that they weren't trained with.

        Raises:
            InputError: there is none, or it's another one.
        """
        if self.encoder_hash is None:
            return
        if encoder is None:
            raise InputError(self.directory, "holds video parts, which need a model that sees")
        if weights_hash(encoder) != self.encoder_hash:
            raise InputError(self.directory, "its video parts belong to another image encoder")


def save_adapter(
    model: MultimodalLlama,
    directory: Path | str,
    *,
    parts: Iterable[str] = PARTS,
    core_name: str | None = None,
    known_hash: str | None = None,
) -> None:
    """Write the parts beside the core, whole or not at all.

    Args:
        model: its weights are written as they are, in the type they have.
        directory: made, or replaced if it holds a checkpoint and nothing else.
        parts: those of ``PARTS`` that were trained; what the model doesn't have is left out.
        core_name: what people call the core; by default its size.
        known_hash: :func:`core_hash` of the model's core, to spare computing it at every save.
    """
    held = [part for part in PARTS if part in set(parts) and hasattr(model, part)]
    tensors = {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.startswith(tuple(f"{part}." for part in held))
    }
    about = {
        "format": FORMAT,
        "version": VERSION,
        "core": {
            "name": core_name or size_name(model.config.language),
            "sha256": known_hash or weights_hash(model.language),
        },
        "parts": held,
        **_encoder_of(model, held),
        "config": _config_of(model, held).to_json(),
    }
    with written_whole(Path(directory)) as target:
        write_json(target / "adapter.json", about)
        write_safetensors(target, tensors, stem="adapter", max_shard_bytes=MAX_SHARD_BYTES)


def _encoder_of(model: MultimodalLlama, parts: list[str]) -> dict[str, Any]:
    """What video parts say of the image encoder that they read, where it isn't kept with them."""
    if not set(parts) & set(VIDEO_PARTS) or "image_encoder" in parts:
        return {}
    return {"image_encoder": {"sha256": weights_hash(model.image_encoder)}}


def _config_of(model: MultimodalLlama, parts: list[str]) -> MultimodalConfig:
    """The model's config without the media of which no part is kept."""
    config = model.config
    if not set(parts) & set(IMAGE_PARTS):
        config = config.without_image_parts()
    if not set(parts) & set(SPEECH_PARTS):
        config = config.without_speech_parts()
    if not set(parts) & set(VIDEO_PARTS):
        config = config.without_video_parts()
    return config


def open_adapter(directory: Path | str) -> AdapterFile:
    """Read what an adapter directory says of itself.

    Raises:
        InputError: what is wrong with which file.
    """
    directory = whole(Path(directory))
    file = directory / "adapter.json"
    data = read_json(file)
    if data.get("format") != FORMAT or data.get("version") != VERSION:
        raise InputError(file, f"not an adapter of format {FORMAT} version {VERSION}")
    stored = open_safetensors(directory, stem="adapter")
    try:
        core, parts, config = data["core"], tuple(data["parts"]), data["config"]
        name, digest = str(core["name"]), str(core["sha256"])
        encoder = str(data["image_encoder"]["sha256"]) if "image_encoder" in data else None
    except (KeyError, TypeError) as error:
        raise InputError(file, f"lacks or misuses the key {error}") from None
    if unknown := set(parts) - set(PARTS):
        raise InputError(file, f"parts {sorted(unknown)} are none of {', '.join(PARTS)}")
    return AdapterFile(
        directory=directory,
        config=parsed_config(config, source=file),
        parts=parts,
        core_name=name,
        core_hash=digest,
        encoder_hash=encoder,
        stored=stored,
    )


def load_adapter(
    directory: Path | str,
    core: Llama | MultimodalLlama,
    *,
    other_core: bool = False,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> MultimodalLlama:
    """A model in eval mode: ``core`` with the parts of an adapter directory beside it.

    Args:
        directory: written by :func:`save_adapter`, with every part that its model has.
        core: becomes the model's own; it isn't copied. A model that has parts already keeps those
            that the directory doesn't bring: parts for pictures and for speech, trained beside one
            core, come together so.
        other_core: take another core of the same shape, as for fine-tuning, where the
            instruction-tuned sibling takes the core's place.
        device: where the parts go.
        dtype: what they are cast to; None keeps the type they are stored in.

    Raises:
        InputError: a broken file, a missing part, or another core.
    """
    adapter = open_adapter(directory)
    base = core if isinstance(core, MultimodalLlama) else None
    language = core.language if isinstance(core, MultimodalLlama) else core
    if not other_core:
        adapter.check_core(language)
    try:
        config = MultimodalConfig(language=language.config) if base is None else base.config
        config = config.joined(replace(adapter.config, language=language.config))
    except ValueError as error:
        raise InputError(adapter.directory, f"does not fit this core: {error}") from None
    if (encoder := config.image_encoder) is not None:
        layers = encoder.num_layers, encoder.num_global_layers
        check_depth(*layers, stored=adapter.stored, source=adapter.directory)
    with torch.device("meta"):
        model = MultimodalLlama(config)
    model.language = language
    for part in (part for part in PARTS if hasattr(model, part)):
        if part not in adapter.parts and base is not None and hasattr(base, part):
            setattr(model, part, getattr(base, part))
            continue
        if part not in adapter.parts:
            raise InputError(adapter.directory, f"holds {', '.join(adapter.parts)}, but no {part}")
        _check_names(adapter, part, getattr(model, part))
        fill(getattr(model, part), adapter.of(part), device=device, dtype=dtype)
    adapter.check_encoder(getattr(model, "image_encoder", None))
    return model.eval()


def load_parts(directory: Path | str, model: MultimodalLlama, *, other_core: bool = False) -> None:
    """Copy the parts that an adapter directory holds into a model that has them already.

    Raises:
        InputError: a broken file, a part of another shape, or another core.
    """
    adapter = open_adapter(directory)
    if not other_core:
        adapter.check_core(model.language)
    for part in adapter.parts:
        if not hasattr(model, part):
            raise InputError(adapter.directory, f"holds {part}, which the model doesn't have")
        _check_names(adapter, part, getattr(model, part))
        stored = adapter.of(part)
        for name, parameter in getattr(model, part).named_parameters():
            parameter.data.copy_(read_tensor(stored[name]))


def _check_names(adapter: AdapterFile, part: str, module: torch.nn.Module) -> None:
    """Refuse parts whose tensors are not just those of ``module``, in its shapes."""
    stored = adapter.of(part)
    wanted = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    for name in sorted(wanted.keys() ^ stored.keys()):
        fault = "lacks" if name in wanted else "has no place for"
        raise InputError(adapter.directory, f"{fault} the weights {part}.{name}")
    for name, shape in wanted.items():
        if stored[name].shape != shape:
            entry = stored[name]
            raise InputError(
                entry.file, f"{entry.name} is {list(entry.shape)}, the model's is {list(shape)}"
            )


def size_name(config: LlamaConfig) -> str:
    """The preset that a core is of, or its layers and width."""
    names = {preset: name for name, preset in LLAMA_CONFIGS.items()}
    return names.get(config, f"llama-{config.num_layers}x{config.dim}")


def weights_hash(weights: Weights) -> str:
    """SHA-256 over the weights of a core or an encoder, as hexadecimal digits.

    The numbers are hashed as bfloat16 keeps them, so that a core published in bfloat16 has one hash
    in whichever type it was loaded; a part at a time, so that little memory is needed.
    """
    read: dict[str, Callable[[], Tensor]]
    if isinstance(weights, torch.nn.Module):
        read = {name: parameter.detach for name, parameter in weights.named_parameters()}
    else:
        read = {name: stored.read for name, stored in weights.items()}
    with ThreadPoolExecutor() as pool:
        digests = pool.map(lambda name: _tensor_digest(name, read[name]()), sorted(read))
        return hashlib.sha256(b"".join(digests)).hexdigest()


def _tensor_digest(name: str, tensor: Tensor) -> bytes:
    digest = hashlib.sha256(f"{name} {list(tensor.shape)}".encode())
    for part in tensor.detach().flatten().split(1 << 22):
        # through float16, since a core loaded in float16 lost the smallest numbers' last bits
        numbers = part.to(torch.bfloat16).to(torch.float16).cpu()
        digest.update(numbers.view(torch.uint8).numpy())
    return digest.digest()
