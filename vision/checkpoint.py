"""An image encoder on disk: `config.json` and safetensors, from which an image model can start.

The directory also says how pictures were cut and normalised, since weights mean nothing without
it.
"""

from pathlib import Path

import torch
from torch import Tensor

from language.config_dict import config_from_dict, config_to_dict
from language.directories import whole, written_whole
from language.errors import InputError
from language.weights import (
    StoredTensor,
    check_depth,
    fill,
    open_safetensors,
    read_json,
    renamed,
    write_json,
    write_safetensors,
)
from vision.encoder import ImageEncoder, ImageEncoderConfig
from vision.positions import resize_positions
from vision.tiles import TilesConfig

FORMAT, VERSION = "openherd-image-encoder", 1


def save_encoder(encoder: ImageEncoder, directory: Path, *, tiles: TilesConfig) -> None:
    """Write an encoder; a crash in between leaves what the directory held.

    Raises:
        InputError: `directory` cannot be replaced.
    """
    config = {
        "format": FORMAT,
        "version": VERSION,
        "image_encoder": config_to_dict(encoder.config),
        "tiles": config_to_dict(tiles),
    }
    with written_whole(directory) as target:
        write_json(target / "config.json", config)
        write_safetensors(target, encoder.state_dict())


def open_encoder(
    directory: Path,
) -> tuple[ImageEncoderConfig, TilesConfig, dict[str, StoredTensor]]:
    """Configs and stored tensors by :class:`ImageEncoder`'s names; no weight is read yet.

    Raises:
        InputError: the directory holds no image encoder.
    """
    directory = whole(directory)
    file = directory / "config.json"
    data = read_json(file)
    if data.get("format") != FORMAT or data.get("version") != VERSION:
        raise InputError(file, f"no image encoder: its format is not {FORMAT!r}, version {VERSION}")
    try:
        config = config_from_dict(ImageEncoderConfig, data.get("image_encoder", {}))
        tiles = config_from_dict(TilesConfig, data.get("tiles", {}))
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(file, str(error)) from None
    stored = open_safetensors(directory)
    check_depth(config.num_layers, config.num_global_layers, stored=stored, source=file)
    with torch.device("meta"):
        names = ImageEncoder(config).state_dict()
    return config, tiles, renamed(stored, ((name, name) for name in names), source=directory)


def load_encoder(directory: Path) -> tuple[ImageEncoder, TilesConfig]:
    """The encoder of a directory, in eval mode, and how its pictures are cut.

    Raises:
        InputError: the directory holds no image encoder, or a broken one.
    """
    config, tiles, stored = open_encoder(directory)
    with torch.device("meta"):
        encoder = ImageEncoder(config)
    fill(encoder, stored)
    return encoder.eval(), tiles


def resized(
    stored: dict[str, StoredTensor], *, old: ImageEncoderConfig, new: ImageEncoderConfig
) -> dict[str, StoredTensor]:
    """Weights of an encoder for tiles of another size, as in annealing (paper section 7.4).

    Position tables are resampled when they are read; all else stays.

    Args:
        stored: may hold other parts of a model, too, and names under any prefix.
        old: the encoder that the weights belong to.
        new: differs from `old` in `image_size`.
    """

    def at_new_size(table: Tensor) -> Tensor:
        return resize_positions(
            table.float(), num_patches=new.num_patches, class_token=new.class_token
        ).to(table.dtype)

    if old.image_size == new.image_size:
        return stored
    changed = dict(stored)
    for name, tensor in stored.items():
        if name.endswith(("position_embedding.table", "position_embedding.tile_table")):
            shape = (*tensor.shape[:-2], new.num_tokens, new.dim)
            changed[name] = tensor.changed(at_new_size, shape=shape)
    return changed


def differences(stored: ImageEncoderConfig, wanted: ImageEncoderConfig) -> list[str]:
    """Keys whose values make weights of one config wrong for the other."""
    computing = {"mode", "local_attention", "activation_checkpointing", "intermediate_layers"}
    theirs, ours = config_to_dict(stored), config_to_dict(wanted)
    return [key for key in ours if key not in computing and theirs[key] != ours[key]]
