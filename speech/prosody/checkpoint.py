"""A prosody model on disk: `config.json` and safetensors."""

from pathlib import Path

import torch

from language.config_dict import config_from_dict, config_to_dict
from language.directories import whole, written_whole
from language.errors import InputError
from language.weights import (
    check_depth,
    fill,
    open_safetensors,
    read_format,
    renamed,
    write_json,
    write_safetensors,
)
from speech.prosody.model import ProsodyConfig, ProsodyModel

FORMAT, VERSION = "openherd-prosody", 1


def save_prosody(model: ProsodyModel, directory: Path | str) -> None:
    """Write a model; a crash leaves what the directory held.

    Raises:
        InputError: `directory` cannot be replaced.
    """
    config = {"format": FORMAT, "version": VERSION, "prosody": config_to_dict(model.config)}
    with written_whole(Path(directory)) as target:
        write_json(target / "config.json", config)
        write_safetensors(target, dict(model.named_parameters()))


def load_prosody(directory: Path | str) -> ProsodyModel:
    """The model of a directory, in eval mode and float32.

    Raises:
        InputError: the directory holds no prosody model, or a broken one.
    """
    directory = whole(Path(directory))
    file = directory / "config.json"
    data = read_format(file, name=FORMAT, version=VERSION, what="prosody model")
    try:
        config = config_from_dict(ProsodyConfig, data.get("prosody", {}))
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(file, str(error)) from None
    stored = open_safetensors(directory)
    check_depth(config.num_layers, stored=stored, source=file)
    with torch.device("meta"):
        model = ProsodyModel(config)
    names = [name for name, _ in model.named_parameters()]
    fill(
        model,
        renamed(stored, ((name, name) for name in names), source=directory),
        device="cpu",
        dtype=torch.float32,
    )
    return model.eval()
