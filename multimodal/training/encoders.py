"""Where the encoder beside a new adapter comes from: its own training's directory, or any model's.

A model that sees or hears has an encoder that is worth starting from: a whole model of ours, what a
training exported beside a core, or the released Llama 3.2 Vision.
"""

from pathlib import Path

import speech.checkpoint
import vision.checkpoint
from language.directories import whole
from language.errors import InputError
from language.weights import StoredTensor, read_json
from multimodal.adapter_checkpoint import open_adapter
from multimodal.checkpoint import FORMAT, open_model
from multimodal.config import MultimodalConfig
from speech.encoder import SpeechEncoderConfig
from vision.encoder import ImageEncoderConfig
from vision.tiles import TilesConfig

Stored = dict[str, StoredTensor]


def open_image_encoder(directory: Path) -> tuple[ImageEncoderConfig, TilesConfig, Stored]:
    """Configs and stored tensors, by the encoder's own names; no weight is read yet.

    Raises:
        InputError: the directory holds no image encoder.
    """
    found = _model(directory)
    if found is None:
        return vision.checkpoint.open_encoder(directory)
    config, stored = found
    stored = _of(stored, "image_encoder.")
    if config.image_encoder is None or config.tiles is None or not stored:
        raise InputError(directory, "a model without an image encoder of its own")
    return config.image_encoder, config.tiles, stored


def open_speech_encoder(directory: Path) -> tuple[SpeechEncoderConfig, Stored]:
    """The same of a speech encoder.

    Raises:
        InputError: the directory holds no speech encoder.
    """
    found = _model(directory)
    if found is None:
        return speech.checkpoint.open_encoder(directory)
    config, stored = found
    stored = _of(stored, "speech_encoder.")
    if config.speech_encoder is None or not stored:
        raise InputError(directory, "a model without a speech encoder of its own")
    return config.speech_encoder, stored


def _model(directory: Path) -> tuple[MultimodalConfig, Stored] | None:
    """What a directory of a model or of an adapter holds; None if it is something else."""
    directory = whole(directory)
    if (directory / "adapter.json").exists():
        adapter = open_adapter(directory)
        return adapter.config, adapter.stored
    file = directory / "config.json"
    if not file.exists():
        return None
    data = read_json(file)
    is_model = data.get("format") == FORMAT or data.get("model_type") == "mllama"
    return open_model(directory) if is_model else None


def _of(stored: Stored, prefix: str) -> Stored:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in stored.items()
        if name.startswith(prefix)
    }
