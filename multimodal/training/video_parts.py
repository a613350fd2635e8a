"""Where the video parts of a model that is trained come from, and their putting together.

======================  =========================================================================
new video parts         ``core``, a model that sees; or a core, and ``image``, what the image
                        stages exported beside it
the next stage          the same, and ``start``, the directory that the stage before exported
the core's sibling      the same with ``other_core``
======================  =========================================================================

Everything but the video parts stays as it is; parts for speech that ``core`` has stay, too.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from language.config_dict import config_to_dict
from language.draft import Draft, fresh, held
from language.errors import InputError
from language.weights import StoredTensor
from multimodal.adapter_checkpoint import VIDEO_PARTS, AdapterFile, open_adapter
from multimodal.checkpoint import open_model
from multimodal.config import MULTIMODAL_CONFIGS, ClipsConfig, MultimodalConfig
from multimodal.model import MultimodalLlama
from multimodal.training.parts import check_complete
from video.adapter import paper_video_adapter
from video.aggregator import AggregatorConfig, TemporalAggregator, lengthened


@dataclass(frozen=True, kw_only=True)
class FreshAggregator:
    """A temporal aggregator that has not been trained yet; the default is for the 8B core."""

    dim: int = 1536
    num_layers: int = 6
    num_heads: int = 16
    ffn_dim: int = 6144
    num_latents: int = 0
    """Features that a group of frames becomes; 0: as many as one frame has."""
    position_init: float = 0.02
    """Deviation of the fresh table of time."""


@dataclass(frozen=True, kw_only=True)
class FreshVideoAdapter:
    """Video layers that have not been trained yet; sizes are those of the image adapter."""

    positions: tuple[int, ...] = ()
    """Blocks of the core before which they stand; by default before every fourth image layer."""
    gate_init: float = 0.0
    """Both gates before tanh; 0 starts as the image model."""
    output_init_scale: float = 1.0
    """Multiplies their output matrices, to match a core whose residual stream is large."""
    query_norm_init: float = 1.0
    """Weight of query and key norm; above 1 sharpens attention."""


@dataclass(frozen=True, kw_only=True)
class VideoParts:
    """Where the parts come from."""

    core: str = ""
    """Directory of the frozen model: one that sees, ours or Llama 3.2 Vision; or a core alone."""
    image: str = ""
    """Where ``core`` is a core alone: the image parts that were trained beside it."""
    sizes: str = ""
    """Preset that the video parts must be of (8b-video, 70b-video); "" takes any."""
    start: str = ""
    """Directory of the video parts that an earlier stage exported."""
    other_core: bool = False
    """Let ``image`` and ``start`` go on beside another core of the same sizes."""
    aggregator: FreshAggregator = FreshAggregator()
    """The new aggregator, where there is no ``start``."""
    adapter: FreshVideoAdapter = FreshVideoAdapter()
    """The new video layers, where there is no ``start``."""
    num_frames: int = 0
    """Frames that are sampled from a clip; 0 keeps what ``start`` had, or takes 16."""
    frames_per_group: int = 0
    """Frames that are merged into one; 0 keeps what ``start`` had, or takes 16."""
    max_num_tiles: int = 0
    """Most tiles of a frame; 0 keeps what ``start`` had, or takes 4."""
    core_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the frozen weights; what trains is always float32."""
    activation_checkpointing: bool = False
    """Recompute blocks in the backward pass instead of keeping their activations."""

    def __post_init__(self) -> None:
        if not self.core:
            raise ValueError("model.parts.core: give the directory of the frozen model")
        watching = [name for name, c in MULTIMODAL_CONFIGS.items() if c.video_aggregator]
        if self.sizes and self.sizes not in watching:
            raise ValueError(f"model.parts.sizes: {self.sizes!r} is none of {', '.join(watching)}")


def video_config_of(parts: VideoParts) -> MultimodalConfig:
    """The model that the parts make; without a preset of sizes the directories are asked.

    Raises:
        InputError: what is wrong with which directory.
    """
    if not parts.sizes:
        return _found(parts)[0]
    preset = MULTIMODAL_CONFIGS[parts.sizes]
    return _adjusted(preset, parts, old=preset.clips)


def build_video(parts: VideoParts) -> MultimodalLlama:
    """Put a model together on the default device: what is frozen as ``core_dtype``.

    Raises:
        InputError: what is wrong with which directory, or does not fit the others.
    """
    made = draft_video(parts)
    made.check()
    return made.fill()


def draft_video(parts: VideoParts) -> Draft[MultimodalLlama]:
    """The same before it takes memory.

    Raises:
        InputError: what is wrong with which directory, or does not fit the others.
    """
    config, stored, adapters = _found(parts)
    if parts.sizes:
        _check_sizes(config, video_config_of(parts), parts=parts)
    with torch.device("meta"):
        model = MultimodalLlama(config)
    if not parts.start:
        stored = stored | _fresh_parts(model)
    for part, module in model.named_children():
        is_new = part in VIDEO_PARTS
        module.to(torch.float32 if is_new else getattr(torch, parts.core_dtype))
        source = parts.start if is_new else parts.image or parts.core
        check_complete(module, stored, part=part, source=source)
    made = Draft(model=model, sources=stored)

    def check() -> None:
        for adapter in adapters:
            if not parts.other_core:
                adapter.check_core(made.of("language"))
            adapter.check_encoder(made.of("image_encoder"))

    return replace(made, checks=(check,))


def _found(
    parts: VideoParts,
) -> tuple[MultimodalConfig, dict[str, StoredTensor], list[AdapterFile]]:
    """Config and stored tensors of all directories, and the adapters among them."""
    config, stored = open_model(Path(parts.core))
    adapters = []
    try:
        if parts.image:
            image = open_adapter(parts.image)
            adapters.append(image)
            config = config.joined(replace(image.config, language=config.language))
            stored |= image.stored
        if config.image_encoder is None:
            raise InputError(
                parts.image or parts.core, "has no image parts: give model.parts.image, too"
            )
        config = config.without_video_parts()
        stored = {name: t for name, t in stored.items() if not name.startswith("video_")}
        if not parts.start:
            return _adjusted(_with_fresh(config, parts), parts, old=ClipsConfig()), stored, adapters
        start = open_adapter(parts.start)
        if start.config.video_aggregator is None:
            raise InputError(parts.start, "holds no video parts")
        adapters.append(start)
        video = start.config.without_image_parts().without_speech_parts()
        config = config.joined(replace(video, language=config.language))
        config = _adjusted(config, parts, old=start.config.clips)
    except InputError:
        raise
    except ValueError as error:
        source = parts.start or "model.parts"
        raise InputError(source, f"does not fit {parts.core}: {error}") from None
    video_tensors = {n: t for n, t in start.stored.items() if n.startswith("video_")}
    return config, stored | _lengthened(video_tensors, config), adapters


def _with_fresh(config: MultimodalConfig, parts: VideoParts) -> MultimodalConfig:
    assert config.image_encoder is not None and config.image_adapter is not None
    fresh, layers = parts.aggregator, parts.adapter
    usual = paper_video_adapter(config.image_adapter, feature_dim=fresh.dim)
    return replace(
        config,
        video_aggregator=AggregatorConfig(
            feature_dim=config.image_encoder.feature_dim,
            dim=fresh.dim,
            num_layers=fresh.num_layers,
            num_heads=fresh.num_heads,
            ffn_dim=fresh.ffn_dim,
            num_latents=fresh.num_latents,
            position_init=fresh.position_init,
        ),
        video_adapter=replace(
            usual,
            positions=layers.positions or usual.positions,
            gate_init=layers.gate_init,
            output_init_scale=layers.output_init_scale,
            query_norm_init=layers.query_norm_init,
        ),
    )


def _adjusted(config: MultimodalConfig, parts: VideoParts, *, old: ClipsConfig) -> MultimodalConfig:
    """The config with what the parts say of clips and of memory; time is as fine as the frames."""
    aggregator, encoder = config.video_aggregator, config.image_encoder
    assert aggregator is not None and encoder is not None
    clips = ClipsConfig(
        num_frames=parts.num_frames or old.num_frames,
        max_num_tiles=parts.max_num_tiles or old.max_num_tiles,
    )
    again = parts.activation_checkpointing
    return replace(
        config,
        language=replace(config.language, activation_checkpointing=again),
        image_encoder=replace(encoder, activation_checkpointing=again),
        clips=clips,
        video_aggregator=replace(
            aggregator,
            frames_per_group=parts.frames_per_group or aggregator.frames_per_group,
            num_positions=clips.num_frames,
        ),
    )


def _lengthened(
    stored: dict[str, StoredTensor], config: MultimodalConfig
) -> dict[str, StoredTensor]:
    """Stored video parts whose table of time has as many entries as the config wants."""
    assert config.video_aggregator is not None
    number, name = config.video_aggregator.num_positions, "video_aggregator.positions"
    table = stored.get(name)
    if table is None or table.shape[0] == number:
        return stored
    longer = table.changed(
        lambda old: lengthened(old.float(), num_positions=number), shape=(number, table.shape[1])
    )
    return {**stored, name: longer}


def _check_sizes(found: MultimodalConfig, wanted: MultimodalConfig, *, parts: VideoParts) -> None:
    """Refuse video parts of other sizes."""
    pairs = {
        "video_aggregator": (found.video_aggregator, wanted.video_aggregator),
        "video_adapter": (found.video_adapter, wanted.video_adapter),
    }
    for part, (ours, theirs) in pairs.items():
        mine = config_to_dict(ours)
        for key, value in config_to_dict(theirs).items():
            if not key.endswith(("init", "init_scale")) and mine[key] != value:
                raise InputError(
                    parts.start or parts.core,
                    f"{part}.{key} is {mine[key]}, model.parts.sizes ({parts.sizes}) wants {value}",
                )


def _fresh_parts(model: MultimodalLlama) -> dict[str, StoredTensor]:
    """Fresh video parts."""
    config = model.config.video_aggregator
    assert config is not None
    aggregator = held(TemporalAggregator(config), prefix="video_aggregator.")
    return aggregator | fresh(model.video_adapter, prefix="video_adapter.")
