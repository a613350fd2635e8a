"""A speech encoder on disk: `config.json` and safetensors, from which a speech model can start.

The config also says how sound becomes features, so that pre-training, fine-tuning and use cannot
disagree. Directories of public encoders are opened by the same calls, told apart by content.
"""

from pathlib import Path

import torch

from language.config_dict import config_from_dict, config_to_dict
from language.directories import whole, written_whole
from language.errors import InputError
from language.weights import (
    StoredTensor,
    check_depth,
    fill,
    open_safetensors,
    read_format,
    read_json,
    renamed,
    write_json,
    write_safetensors,
)
from speech.backbones import open_backbone
from speech.encoder import SpeechEncoder, SpeechEncoderConfig, build_encoder

FORMAT, VERSION = "openherd-speech-encoder", 1


def save_encoder(encoder: SpeechEncoder, directory: Path | str) -> None:
    """Write an encoder that :func:`build_encoder` made; a crash leaves what the directory held.

    Raises:
        InputError: `directory` cannot be replaced.
    """
    config = {
        "format": FORMAT,
        "version": VERSION,
        "speech_encoder": config_to_dict(encoder.config),
    }
    with written_whole(Path(directory)) as target:
        write_json(target / "config.json", config)
        write_safetensors(target, dict(encoder.named_parameters()))


def open_encoder(directory: Path | str) -> tuple[SpeechEncoderConfig, dict[str, StoredTensor]]:
    """Config and stored tensors, by the names that the encoder built by it has.

    Args:
        directory: of :func:`save_encoder`, or of w2v-BERT 2.0 or Whisper as Hugging Face has them.

    Raises:
        InputError: the directory holds no speech encoder; no weight is read yet.
    """
    directory = whole(Path(directory))
    file = directory / "config.json"
    data = read_json(file)
    if "format" not in data and "model_type" in data:
        return open_backbone(directory)
    data = read_format(file, name=FORMAT, version=VERSION, what="speech encoder")
    try:
        config = config_from_dict(SpeechEncoderConfig, data.get("speech_encoder", {}))
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(file, str(error)) from None
    stored = open_safetensors(directory)
    check_depth(config.num_layers, stored=stored, source=file)
    with torch.device("meta"):
        names = dict(build_encoder(config).named_parameters())
    return config, renamed(stored, ((name, name) for name in names), source=directory)


def load_encoder(
    directory: Path | str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = torch.float32,
) -> SpeechEncoder:
    """The encoder of a directory, in eval mode.

    Args:
        directory: as for :func:`open_encoder`.
        device: where it goes.
        dtype: what its weights are cast to; None keeps the type that they are stored in.

    Raises:
        InputError: the directory holds no speech encoder, or a broken one.
    """
    config, stored = open_encoder(directory)
    with torch.device("meta"):
        encoder = build_encoder(config)
    fill(encoder, stored, device=device, dtype=dtype)
    return encoder.eval()
