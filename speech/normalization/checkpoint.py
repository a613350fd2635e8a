"""A tagger on disk: `config.json` and safetensors."""

from pathlib import Path

import torch

from language.config_dict import config_from_dict, config_to_dict
from language.directories import whole, written_whole
from language.errors import InputError
from language.weights import (
    fill,
    open_safetensors,
    read_format,
    renamed,
    write_json,
    write_safetensors,
)
from speech.normalization.rules import Language, language
from speech.normalization.tagger import Tagger, TaggerConfig

FORMAT, VERSION = "openherd-text-normalization", 1


def save_tagger(tagger: Tagger, directory: Path | str, *, language_code: str) -> None:
    """Write a tagger and the language of its rules; a crash leaves what the directory held.

    Raises:
        InputError: `directory` cannot be replaced.
    """
    config = {
        "format": FORMAT,
        "version": VERSION,
        "language": language_code,
        "tagger": config_to_dict(tagger.config),
    }
    with written_whole(Path(directory)) as target:
        write_json(target / "config.json", config)
        write_safetensors(target, dict(tagger.named_parameters()))


def load_tagger(directory: Path | str) -> tuple[Tagger, Language]:
    """The tagger of a directory, in eval mode and float32, and the rules that it names.

    Raises:
        InputError: the directory holds no tagger, or a broken one, or one of other rules.
    """
    directory = whole(Path(directory))
    file = directory / "config.json"
    data = read_format(file, name=FORMAT, version=VERSION, what="tagger")
    try:
        config = config_from_dict(TaggerConfig, data.get("tagger", {}))
        rules = language(str(data.get("language")))
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(file, str(error)) from None
    if unknown := sorted(set(config.labels) - set(rules.labels)):
        raise InputError(file, f"{rules.code} has no rule {unknown[0]!r}")
    with torch.device("meta"):
        tagger = Tagger(config)
    names = [name for name, _ in tagger.named_parameters()]
    stored = renamed(
        open_safetensors(directory), ((name, name) for name in names), source=directory
    )
    fill(tagger, stored, device="cpu", dtype=torch.float32)
    return tagger.eval(), rules
