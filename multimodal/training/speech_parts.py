"""Where the speech parts of a model that is trained come from, and their putting together.

======================  =========================================================================
a new adapter           ``core`` and ``speech_encoder``
the next stage          ``core`` and ``start``, the directory that the stage before exported
the core's sibling      the same with ``other_core``
======================  =========================================================================

``core`` may be a model with image parts: they stay as they are, and a whole export has both.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from language.config_dict import config_to_dict
from language.draft import Draft, held
from language.errors import InputError
from language.weights import StoredTensor
from multimodal.adapter_checkpoint import SPEECH_PARTS, open_adapter
from multimodal.checkpoint import open_model
from multimodal.config import MULTIMODAL_CONFIGS, MultimodalConfig
from multimodal.model import MultimodalLlama
from multimodal.prompts import SpeechPrompts
from multimodal.training.encoders import open_speech_encoder
from multimodal.training.parts import check_complete
from speech.adapter import SpeechAdapter, SpeechAdapterConfig
from speech.conformer import CONFORMERS
from speech.encoder import SpeechEncoderConfig, build_encoder


@dataclass(frozen=True, kw_only=True)
class FreshSpeechAdapter:
    """A speech adapter that has not been trained yet."""

    dim: int = 3072
    """Width of its Transformer layer."""
    ffn_dim: int = 4096
    num_heads: int = 24
    gated: bool = True
    """Whether its feed-forward layer is SwiGLU or has two matrices."""
    output_scale: float = 0.0
    """Size of its first embeddings; 0 is that of the core's own."""


@dataclass(frozen=True, kw_only=True)
class SpeechParts:
    """Where the parts come from."""

    core: str = ""
    """Directory of the frozen model: a core alone, or one with image parts."""
    sizes: str = ""
    """Preset that the speech parts must be of (8b-speech, 70b-speech); "" takes any."""
    start: str = ""
    """Directory of the speech parts that an earlier stage exported."""
    other_core: bool = False
    """Let ``start`` go on beside another core of the same sizes."""
    speech_encoder: str = ""
    """For a new adapter: directory of a pre-training, of any model with a speech encoder, or of
    w2v-BERT 2.0 or Whisper as Hugging Face has them; or a preset ("1b", "base", "tiny"), which
    starts from random weights."""
    adapter: FreshSpeechAdapter = FreshSpeechAdapter()
    """The new adapter, where there is no ``start``."""
    prompts: SpeechPrompts = SpeechPrompts()
    """What the model will be told, kept in its config; of ``start`` its own are taken."""
    max_seconds: float = 60.0
    """Longest recording that is heard at once."""
    core_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the frozen weights; what trains is always float32."""
    activation_checkpointing: bool = False
    """Recompute blocks in the backward pass instead of keeping their activations."""

    def __post_init__(self) -> None:
        if not self.core:
            raise ValueError("model.parts.core: give the directory of the frozen core")
        if bool(self.start) == bool(self.speech_encoder):
            raise ValueError(
                "model.parts: give speech_encoder for a new adapter, or start to go on with one"
            )
        speaking = [name for name, c in MULTIMODAL_CONFIGS.items() if c.speech_encoder is not None]
        if self.sizes and self.sizes not in speaking:
            raise ValueError(f"model.parts.sizes: {self.sizes!r} is none of {', '.join(speaking)}")


def speech_config_of(parts: SpeechParts) -> MultimodalConfig:
    """The model that the parts make.

    Raises:
        InputError: what is wrong with which directory.
    """
    return MULTIMODAL_CONFIGS[parts.sizes] if parts.sizes else _found(parts)[0]


def build_speech(parts: SpeechParts) -> MultimodalLlama:
    """Put a model together on the default device: what is frozen as ``core_dtype``.

    Raises:
        InputError: what is wrong with which directory, or does not fit the others.
    """
    made = draft_speech(parts)
    made.check()
    return made.fill()


def draft_speech(parts: SpeechParts) -> Draft[MultimodalLlama]:
    """The same before it takes memory.

    Raises:
        InputError: what is wrong with which directory, or does not fit the others.
    """
    config, stored = _found(parts)
    if parts.sizes:
        wanted = _checkpointed(MULTIMODAL_CONFIGS[parts.sizes], parts)
        _check_sizes(config, wanted, parts=parts)
    if not parts.start:
        config, stored = _with_fresh(config, stored, parts=parts)
    with torch.device("meta"):
        model = MultimodalLlama(config)
    for part, module in model.named_children():
        module.to(torch.float32 if part in SPEECH_PARTS else getattr(torch, parts.core_dtype))
        check_complete(module, stored, part=part, source=parts.start or parts.speech_encoder)
    made = Draft(model=model, sources=stored)
    if parts.start and not parts.other_core:
        adapter = open_adapter(parts.start)
        return replace(made, checks=(lambda: adapter.check_core(made.of("language")),))
    return made


def _found(parts: SpeechParts) -> tuple[MultimodalConfig, dict[str, StoredTensor]]:
    """Config and stored tensors of all directories; fresh parts have none."""
    whole, stored = open_model(Path(parts.core))
    whole = whole.without_speech_parts()
    stored = {name: t for name, t in stored.items() if not name.startswith("speech_")}
    try:
        if parts.start:
            adapter = open_adapter(parts.start)
            if adapter.config.speech_encoder is None:
                raise InputError(parts.start, "holds no speech parts")
            speech = {n: t for n, t in adapter.stored.items() if n.startswith("speech_")}
            config = whole.joined(replace(adapter.config, image_encoder=None, image_adapter=None,
                                          tiles=None, language=whole.language))  # fmt: skip
            return _checkpointed(config, parts), stored | speech
        encoder, beside = _encoder(parts)
        fresh = parts.adapter
        config = replace(
            whole,
            speech_encoder=encoder,
            speech_adapter=SpeechAdapterConfig(
                input_dim=encoder.dim,
                output_dim=whole.language.dim,
                dim=fresh.dim,
                ffn_dim=fresh.ffn_dim,
                num_heads=fresh.num_heads,
                gated=fresh.gated,
                output_scale=fresh.output_scale or 0.02,
            ),
            speech_prompts=parts.prompts,
            max_seconds=parts.max_seconds,
        )
    except InputError:
        raise
    except ValueError as error:
        raise InputError("model.parts", f"does not fit {parts.core}: {error}") from None
    stored |= {f"speech_encoder.{name}": tensor for name, tensor in beside.items()}
    return _checkpointed(config, parts), stored


def _encoder(parts: SpeechParts) -> tuple[SpeechEncoderConfig, dict[str, StoredTensor]]:
    if parts.speech_encoder in CONFORMERS:
        return SpeechEncoderConfig(conformer=CONFORMERS[parts.speech_encoder]), {}
    return open_speech_encoder(Path(parts.speech_encoder))


def _checkpointed(config: MultimodalConfig, parts: SpeechParts) -> MultimodalConfig:
    """The config with what the parts say of memory."""
    again, speech = parts.activation_checkpointing, config.speech_encoder
    assert speech is not None
    changed: Any = replace(speech.encoder, activation_checkpointing=again)
    kind = next(k for k in ("conformer", "whisper", "w2v_bert") if getattr(speech, k) is not None)
    speech = replace(speech, **{kind: changed})
    language = replace(config.language, activation_checkpointing=again)
    return replace(config, language=language, speech_encoder=speech)


def _check_sizes(found: MultimodalConfig, wanted: MultimodalConfig, *, parts: SpeechParts) -> None:
    """Refuse speech parts of other sizes."""
    pairs = {
        "speech_encoder": (found.speech_encoder, wanted.speech_encoder),
        "speech_adapter": (found.speech_adapter, wanted.speech_adapter),
    }
    for part, (ours, theirs) in pairs.items():
        mine = config_to_dict(ours)
        for key, value in config_to_dict(theirs).items():
            if key != "output_scale" and mine[key] != value:
                raise InputError(
                    parts.start or parts.speech_encoder,
                    f"{part}.{key} is {mine[key]}, model.parts.sizes ({parts.sizes}) wants {value}",
                )


def _with_fresh(
    config: MultimodalConfig, stored: dict[str, StoredTensor], *, parts: SpeechParts
) -> tuple[MultimodalConfig, dict[str, StoredTensor]]:
    """Fresh weights for the adapter, its embeddings of the core's size, and a new encoder's."""
    assert config.speech_adapter is not None and config.speech_encoder is not None
    adapter = config.speech_adapter
    if not parts.adapter.output_scale:
        scale = stored["language.embedding.weight"].read().float().square().mean().sqrt()
        adapter = replace(adapter, output_scale=round(float(scale), 6))
    made = held(SpeechAdapter(adapter), prefix="speech_adapter.")
    if not any(name.startswith("speech_encoder.") for name in stored):
        encoder = build_encoder(config.speech_encoder)
        encoder.reset_parameters()
        made |= held(encoder, prefix="speech_encoder.")
    return replace(config, speech_adapter=adapter), stored | made
