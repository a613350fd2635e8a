"""The composition as a config: the core, what is added to it, and how media reach it."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from language.config import LLAMA_CONFIGS, LlamaConfig
from language.config_dict import config_from_dict, config_to_dict
from multimodal.prompts import SpeechPrompts
from speech.adapter import SPEECH_ADAPTERS, SpeechAdapterConfig
from speech.conformer import CONFORMERS
from speech.encoder import SpeechEncoderConfig
from video.adapter import paper_video_adapter
from video.aggregator import AGGREGATORS, AggregatorConfig
from vision.adapter import ImageAdapterConfig
from vision.encoder import IMAGE_ENCODERS, ImageEncoderConfig
from vision.tiles import TilesConfig


@dataclass(frozen=True, kw_only=True)
class ClipsConfig:
    """How a clip becomes frames, and a frame tiles."""

    num_frames: int = 16
    """Frames that are sampled from a clip: 16 in pre-training, 64 in fine-tuning."""
    max_num_tiles: int = 4
    """Most tiles that a frame may take, within those of a picture."""

    def __post_init__(self) -> None:
        for key in ("num_frames", "max_num_tiles"):
            if getattr(self, key) < 1:
                raise ValueError(f"clips.{key} must be 1 or more, not {getattr(self, key)}")


@dataclass(frozen=True, kw_only=True)
class MultimodalConfig:
    """A language core, and the parts for each medium beside it; any of these may be missing."""

    language: LlamaConfig
    image_encoder: ImageEncoderConfig | None = None
    image_adapter: ImageAdapterConfig | None = None
    tiles: TilesConfig | None = None
    """How pictures are cut; its tile_size is the encoder's image_size."""
    extra_tokens: int = 0
    """Trainable embeddings beside the frozen table, for ids from language.vocab_size on."""
    visibility: Literal["until_next", "all_before"] = "until_next"
    """Pictures that a token sees: the latest run of them (Llama 3.2), or every one before it."""
    speech_encoder: SpeechEncoderConfig | None = None
    speech_adapter: SpeechAdapterConfig | None = None
    speech_prompts: SpeechPrompts = SpeechPrompts()
    """What the speech parts were trained to be told."""
    max_seconds: float = 60.0
    """Longest recording that is heard at once; longer ones are refused, or cut by who asks."""
    video_aggregator: AggregatorConfig | None = None
    video_adapter: ImageAdapterConfig | None = None
    clips: ClipsConfig = ClipsConfig()
    """How clips are watched."""

    def __post_init__(self) -> None:
        self._check_image_parts()
        self._check_speech_parts()
        self._check_video_parts()

    def _check_speech_parts(self) -> None:
        encoder, adapter = self.speech_encoder, self.speech_adapter
        if (encoder is None) != (adapter is None):
            raise ValueError("speech_encoder and speech_adapter come together or not at all")
        if encoder is None or adapter is None:
            return
        if adapter.input_dim != encoder.dim:
            raise ValueError(
                f"speech_adapter.input_dim ({adapter.input_dim}) must equal the encoder's width "
                f"({encoder.dim})"
            )
        if adapter.output_dim != self.language.dim:
            raise ValueError(
                f"speech_adapter.output_dim ({adapter.output_dim}) must equal language.dim "
                f"({self.language.dim})"
            )

    def _check_video_parts(self) -> None:
        """Check against the image parts where these are here: an adapter file may lack them."""
        aggregator, adapter, encoder = (
            self.video_aggregator,
            self.video_adapter,
            self.image_encoder,
        )
        if (aggregator is None) != (adapter is None):
            raise ValueError("video_aggregator and video_adapter come together or not at all")
        if aggregator is None or adapter is None:
            return
        if adapter.feature_dim != aggregator.dim:
            raise ValueError(
                f"video_adapter.feature_dim ({adapter.feature_dim}) must equal the aggregator's "
                f"width ({aggregator.dim})"
            )
        _check_adapter("video_adapter", adapter, self.language)
        if encoder is not None and aggregator.feature_dim != encoder.feature_dim:
            raise ValueError(
                f"video_aggregator.feature_dim ({aggregator.feature_dim}) must equal the image "
                f"encoder's ({encoder.feature_dim})"
            )

    def _check_image_parts(self) -> None:
        parts = (self.image_encoder, self.image_adapter, self.tiles)
        if any(part is None for part in parts):
            if any(part is not None for part in parts):
                raise ValueError(
                    "image_encoder, image_adapter and tiles come together or not at all"
                )
            return
        assert self.image_encoder and self.image_adapter and self.tiles
        _check_adapter("image_adapter", self.image_adapter, self.language)
        if self.image_adapter.feature_dim != self.image_encoder.feature_dim:
            raise ValueError(
                f"image_adapter.feature_dim ({self.image_adapter.feature_dim}) must equal the "
                f"encoder's ({self.image_encoder.feature_dim})"
            )
        if self.tiles.tile_size != self.image_encoder.image_size:
            raise ValueError(
                f"tiles.tile_size ({self.tiles.tile_size}) must equal image_encoder.image_size "
                f"({self.image_encoder.image_size})"
            )
        if self.tiles.max_num_tiles > self.image_encoder.max_num_tiles:
            raise ValueError(
                f"tiles.max_num_tiles ({self.tiles.max_num_tiles}) is more than the encoder's "
                f"({self.image_encoder.max_num_tiles})"
            )

    def without_image_parts(self) -> "MultimodalConfig":
        """The same model with nothing to see with; video parts stay, and wait for an encoder."""
        return replace(self, image_encoder=None, image_adapter=None, tiles=None, extra_tokens=0)

    def without_speech_parts(self) -> "MultimodalConfig":
        """The same model with nothing to hear with."""
        return replace(
            self,
            speech_encoder=None,
            speech_adapter=None,
            speech_prompts=SpeechPrompts(),
            max_seconds=60.0,
        )

    def without_video_parts(self) -> "MultimodalConfig":
        """The same model with nothing to watch clips with."""
        return replace(self, video_aggregator=None, video_adapter=None, clips=ClipsConfig())

    def joined(self, other: "MultimodalConfig") -> "MultimodalConfig":
        """This model with whichever parts ``other`` has in place of its own."""
        joined = self
        if other.image_encoder is not None:
            joined = replace(
                joined,
                image_encoder=other.image_encoder,
                image_adapter=other.image_adapter,
                tiles=other.tiles,
                extra_tokens=other.extra_tokens,
                visibility=other.visibility,
            )
        if other.speech_encoder is not None:
            joined = replace(
                joined,
                speech_encoder=other.speech_encoder,
                speech_adapter=other.speech_adapter,
                speech_prompts=other.speech_prompts,
                max_seconds=other.max_seconds,
            )
        if other.video_aggregator is not None:
            joined = replace(
                joined,
                video_aggregator=other.video_aggregator,
                video_adapter=other.video_adapter,
                clips=other.clips,
            )
        return joined

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``config.json``."""
        return config_to_dict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> "MultimodalConfig":
        """The config that :meth:`to_json` gave.

        Raises:
            ValueError: an unknown key or values that do not go together.
        """
        return config_from_dict(MultimodalConfig, data)


def _check_adapter(key: str, adapter: ImageAdapterConfig, core: LlamaConfig) -> None:
    if adapter.dim != core.dim:
        raise ValueError(f"{key}.dim ({adapter.dim}) must equal language.dim ({core.dim})")
    if max(adapter.positions, default=0) > core.num_layers:
        raise ValueError(
            f"{key}.positions {adapter.positions} go past the core's {core.num_layers} layers"
        )


def paper_adapter(core: LlamaConfig, *, feature_dim: int) -> ImageAdapterConfig:
    """The paper's adapter: a layer after every fourth self-attention layer (section 7.2)."""
    return ImageAdapterConfig(
        positions=tuple(range(4, core.num_layers + 1, 4)),
        dim=core.dim,
        num_heads=core.num_heads,
        num_kv_heads=core.num_kv_heads,
        head_dim=core.head_dim,
        ffn_dim=core.ffn_dim,
        feature_dim=feature_dim,
        norm_eps=core.norm_eps,
    )


def released_adapter(core: LlamaConfig, *, feature_dim: int) -> ImageAdapterConfig:
    """Llama 3.2 Vision's adapter: before blocks 3, 7, 11, ... of the core."""
    positions = tuple(range(3, core.num_layers, 4))
    return replace(paper_adapter(core, feature_dim=feature_dim), positions=positions)


def paper_speech(core: str) -> tuple[SpeechEncoderConfig, SpeechAdapterConfig]:
    """The paper's speech parts beside the core of a size, "8b" or "70b" (section 8.2)."""
    return SpeechEncoderConfig(conformer=CONFORMERS["1b"]), SPEECH_ADAPTERS[core]


def with_video(config: MultimodalConfig, size: str) -> MultimodalConfig:
    """An image model of a size, "8b" or "70b", with the paper's video parts (section 7.2)."""
    aggregator = AGGREGATORS[size]
    assert config.image_encoder is not None and config.image_adapter is not None
    aggregator = replace(aggregator, feature_dim=config.image_encoder.feature_dim)
    adapter = paper_video_adapter(config.image_adapter, feature_dim=aggregator.dim)
    return replace(config, video_aggregator=aggregator, video_adapter=adapter)


def _with_speech(config: MultimodalConfig, size: str) -> MultimodalConfig:
    encoder, adapter = paper_speech(size)
    return replace(config, speech_encoder=encoder, speech_adapter=adapter)


def _paper(core: LlamaConfig) -> MultimodalConfig:
    encoder = IMAGE_ENCODERS["vit-h-14"]
    return MultimodalConfig(
        language=core,
        image_encoder=encoder,
        image_adapter=paper_adapter(core, feature_dim=encoder.feature_dim),
        tiles=TilesConfig(tile_size=encoder.image_size),
        extra_tokens=8,
        visibility="all_before",
    )


def _released(core: LlamaConfig) -> MultimodalConfig:
    encoder = IMAGE_ENCODERS["llama-3.2-560"]
    return MultimodalConfig(
        language=core,
        image_encoder=encoder,
        image_adapter=released_adapter(core, feature_dim=encoder.feature_dim),
        tiles=TilesConfig(tile_size=encoder.image_size),
        extra_tokens=8,
    )


MULTIMODAL_CONFIGS: dict[str, MultimodalConfig] = {
    "8b": _paper(LLAMA_CONFIGS["3.1-8b"]),
    "70b": _paper(LLAMA_CONFIGS["3.1-70b"]),
    "8b-speech": _with_speech(MultimodalConfig(language=LLAMA_CONFIGS["3.1-8b"]), "8b"),
    "70b-speech": _with_speech(MultimodalConfig(language=LLAMA_CONFIGS["3.1-70b"]), "70b"),
    "405b": _paper(LLAMA_CONFIGS["3.1-405b"]),
    "llama-3.2-11b": _released(LLAMA_CONFIGS["3.1-8b"]),
    "llama-3.2-90b": _released(LLAMA_CONFIGS["3.1-70b"]),
    "8b-video": with_video(_paper(LLAMA_CONFIGS["3.1-8b"]), "8b"),
    "70b-video": with_video(_paper(LLAMA_CONFIGS["3.1-70b"]), "70b"),
}
"""The paper's three sizes and the two public Llama 3.2 Vision models."""
