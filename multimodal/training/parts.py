"""Where the parts of a model that is trained come from, and their putting together (section 7).

========================  =======================================================================
a new adapter             ``core`` and ``image_encoder``
the next stage            ``core`` and ``start``, the directory that the stage before exported
the core's sibling        the same with ``other_core``: parts trained beside the pre-trained core
                          go on beside the instruction-tuned one
a released whole model    ``start`` alone, such as Llama 3.2 Vision
========================  =======================================================================
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from language.config import LlamaConfig
from language.config_dict import config_to_dict
from language.draft import Draft, drawn, fresh, held
from language.errors import InputError
from language.weights import StoredTensor
from multimodal.adapter_checkpoint import open_adapter
from multimodal.checkpoint import open_model
from multimodal.config import MULTIMODAL_CONFIGS, MultimodalConfig, paper_adapter
from multimodal.model import MultimodalLlama
from multimodal.training.encoders import open_image_encoder
from vision.adapter import ImageAdapterConfig
from vision.backbones import backbone
from vision.checkpoint import resized
from vision.encoder import IMAGE_ENCODERS, ImageEncoder, ImageEncoderConfig
from vision.tiles import TilesConfig


@dataclass(frozen=True, kw_only=True)
class FreshAdapter:
    """An adapter that has not been trained yet."""

    positions: tuple[int, ...] = ()
    """Blocks of the core before which its layers stand; by default after every fourth block."""
    gate_init: float = 0.0
    """Both gates before tanh; 0 starts as the core alone."""
    output_init_scale: float = 1.0
    """Multiplies its output matrices, to match a core whose residual stream is large."""
    query_norm_init: float = 1.0
    """Weight of query and key norm; above 1 sharpens attention."""
    extra_tokens: int = 8
    """Embeddings for new tokens, the picture's placeholder first."""
    visibility: Literal["until_next", "all_before"] = "until_next"
    """Which pictures a token sees: the latest run of them, or every one before it."""

    def config(self, core: LlamaConfig, *, feature_dim: int) -> ImageAdapterConfig:
        """Sizes beside a core, for image features of a width."""
        usual = paper_adapter(core, feature_dim=feature_dim)
        return replace(
            usual,
            positions=self.positions or usual.positions,
            gate_init=self.gate_init,
            output_init_scale=self.output_init_scale,
            query_norm_init=self.query_norm_init,
        )


@dataclass(frozen=True, kw_only=True)
class ModelParts:
    """Where the parts come from."""

    sizes: str = ""
    """Preset that the model must be of (8b, 70b, 405b, llama-3.2-11b, ...); "" takes any."""
    core: str = ""
    """Directory of the frozen core: Hugging Face's, Meta's, or of a model that holds one."""
    start: str = ""
    """Directory that an earlier stage exported, or of a whole model."""
    other_core: bool = False
    """Let ``start`` go on beside another core of the same sizes."""
    image_encoder: str = ""
    """For a new adapter: directory of a contrastive training or of any model with an image encoder,
    "timm:NAME", "open_clip:NAME:TAG" (NAME and a file or tag of weights), or a preset, which starts
    from random weights."""
    num_global_layers: int = 8
    """Gated blocks that an encoder of timm or open_clip gets on top."""
    intermediate_layers: tuple[int, ...] = ()
    """Blocks of an encoder of timm or open_clip that give features beside the last."""
    adapter: FreshAdapter = FreshAdapter()
    """The new adapter, where there is no ``start``."""
    tile_size: int = 0
    """Edge of a tile in pixels; position embeddings are resized. 0 keeps the encoder's."""
    core_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the frozen core's weights; what trains is always float32."""
    activation_checkpointing: bool = False
    """Recompute blocks in the backward pass instead of keeping their activations."""

    def __post_init__(self) -> None:
        if not self.start and not self.core:
            raise ValueError("model.parts: give the directory of the core, or of a whole model")
        if bool(self.start) == bool(self.image_encoder):
            raise ValueError(
                "model.parts: give image_encoder for a new adapter, or start to go on with one"
            )
        if self.sizes and self.sizes not in MULTIMODAL_CONFIGS:
            raise ValueError(
                f"model.parts.sizes: {self.sizes!r} is none of {', '.join(MULTIMODAL_CONFIGS)}"
            )


def config_of(parts: ModelParts) -> MultimodalConfig:
    """The model that the parts make; without a preset of sizes the directories are asked.

    Raises:
        InputError: what is wrong with which directory.
    """
    return _adjusted(MULTIMODAL_CONFIGS[parts.sizes] if parts.sizes else _found(parts)[0], parts)


def build(parts: ModelParts) -> MultimodalLlama:
    """Put a model together on the default device: the core as ``core_dtype``, the rest float32.

    Raises:
        InputError: what is wrong with which directory, or does not fit the others.
    """
    made = draft(parts)
    made.check()
    return made.fill()


def draft(parts: ModelParts) -> Draft[MultimodalLlama]:
    """The same before it takes memory.

    Raises:
        InputError: what is wrong with which directory, or does not fit the others.
    """
    found, stored = _found(parts)
    config = _adjusted(found, parts)
    if parts.sizes:
        _check_sizes(found, MULTIMODAL_CONFIGS[parts.sizes], parts=parts)
    if found.image_encoder is not None and config.image_encoder is not None:
        stored = resized(stored, old=found.image_encoder, new=config.image_encoder)
    with torch.device("meta"):
        model = MultimodalLlama(config)
    if not parts.start:
        stored = stored | _fresh_adapter(model, stored)
    for part, module in model.named_children():
        module.to(getattr(torch, parts.core_dtype) if part == "language" else torch.float32)
        check_complete(module, stored, part=part, source=parts.start or parts.image_encoder)
    made = Draft(model=model, sources=stored)
    if parts.core and parts.start and not parts.other_core:
        adapter = open_adapter(parts.start)
        return replace(made, checks=(lambda: adapter.check_core(made.of("language")),))
    return made


def _found(parts: ModelParts) -> tuple[MultimodalConfig, dict[str, StoredTensor]]:
    """Config and stored tensors of all directories; a new adapter has none."""
    if not parts.core:
        config, stored = open_model(Path(parts.start))
        if config.image_encoder is None:
            raise InputError(parts.start, "reads text alone: give image_encoder for a new adapter")
        return config, stored
    whole, stored = open_model(Path(parts.core))
    core = whole.language
    stored = {name: tensor for name, tensor in stored.items() if name.startswith("language.")}
    try:
        if parts.start:
            adapter = open_adapter(parts.start)
            return replace(adapter.config, language=core), stored | adapter.stored
        encoder, tiles, beside = _encoder(parts)
        config = MultimodalConfig(
            language=core,
            image_encoder=encoder,
            image_adapter=parts.adapter.config(core, feature_dim=encoder.feature_dim),
            tiles=tiles,
            extra_tokens=parts.adapter.extra_tokens,
            visibility=parts.adapter.visibility,
        )
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            parts.start or "model.parts", f"does not fit {parts.core}: {error}"
        ) from None
    return config, stored | {f"image_encoder.{name}": t for name, t in beside.items()}


def _encoder(parts: ModelParts) -> tuple[ImageEncoderConfig, TilesConfig, dict[str, StoredTensor]]:
    """The image encoder of a new adapter."""
    library, _, name = parts.image_encoder.partition(":")
    if parts.image_encoder in IMAGE_ENCODERS:
        encoder = ImageEncoder(IMAGE_ENCODERS[parts.image_encoder])
        tiles = TilesConfig(tile_size=encoder.config.image_size)
    elif name and library in ("timm", "open_clip"):
        name, _, weights = name.partition(":")
        try:
            source = backbone(
                (library, name, weights or ("default" if library == "timm" else None)),
                num_global_layers=parts.num_global_layers,
                intermediate_layers=parts.intermediate_layers,
            )
        except (ValueError, OSError, RuntimeError) as error:
            raise InputError(parts.image_encoder, str(error)) from None
        encoder, tiles = source.encoder, source.tiles
    else:
        config, tiles, stored = open_image_encoder(Path(parts.image_encoder))
        # Its own training may have cut pictures into fewer tiles than it was built for.
        return config, replace(tiles, max_num_tiles=config.max_num_tiles), stored
    return encoder.config, tiles, held(encoder)


def _adjusted(config: MultimodalConfig, parts: ModelParts) -> MultimodalConfig:
    """The config with what the parts say of tiles and memory."""
    encoder, tiles = config.image_encoder, config.tiles
    assert encoder is not None and tiles is not None
    size = parts.tile_size or tiles.tile_size
    try:
        return replace(
            config,
            language=replace(
                config.language, activation_checkpointing=parts.activation_checkpointing
            ),
            image_encoder=replace(
                encoder, image_size=size, activation_checkpointing=parts.activation_checkpointing
            ),
            tiles=replace(tiles, tile_size=size),
        )
    except ValueError as error:
        raise InputError("model.parts.tile_size", str(error)) from None


def _check_sizes(found: MultimodalConfig, wanted: MultimodalConfig, *, parts: ModelParts) -> None:
    """Refuse directories that hold a model of other sizes."""
    changes: dict[str, Any] = {"rope_scaling": None, "max_positions": 0}  # differ among siblings
    pairs = {
        "core": (replace(found.language, **changes), replace(wanted.language, **changes)),
        "image_adapter": (found.image_adapter, wanted.image_adapter),
    }
    for part, (ours, theirs) in pairs.items():
        for key, value in config_to_dict(theirs).items():
            other = config_to_dict(ours)[key]
            if other != value and not key.endswith("init") and not key.endswith("init_scale"):
                raise InputError(
                    parts.core or parts.start,
                    f"{part}.{key} is {other}, model.parts.sizes ({parts.sizes}) wants {value}",
                )


def check_complete(
    module: nn.Module, stored: Mapping[str, StoredTensor], *, part: str, source: str
) -> None:
    """Refuse a part of a model of which something is not stored.

    Raises:
        InputError: names ``source`` and what it lacks.
    """
    for name, _ in module.named_parameters():
        if f"{part}.{name}" not in stored:
            raise InputError(source, f"lacks the weights {part}.{name}")


def _fresh_adapter(
    model: MultimodalLlama, stored: Mapping[str, StoredTensor]
) -> dict[str, StoredTensor]:
    """Fresh weights for an adapter, and extra embeddings of the size that the core's have."""
    made = fresh(model.image_adapter, prefix="image_adapter.")
    if model.config.extra_tokens:
        name, table = "extra_embedding.weight", stored["language.embedding.weight"]

        def draw(tensor: Tensor, *, generator: torch.Generator) -> None:
            tensor.normal_(generator=generator).mul_(table.read().float().std().cpu())

        made[name] = drawn(name, tuple(model.extra_embedding.weight.shape), draw)
    return made
