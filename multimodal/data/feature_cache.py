"""Image features of clips on disk: a frozen encoder runs once for a clip, not once an epoch.

A file is named by the clip's content and lies in a folder named by everything else that the
features depend on: the encoder's weights, how frames are sampled and how they are cut. It appears
whole or not at all, and one that cannot be read is as one that is not there. Features are larger
than the clips that they come from: a bound keeps the folder from filling its disk.
"""

import hashlib
import json
import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from language.config_dict import config_to_dict
from multimodal.adapter_checkpoint import weights_hash
from multimodal.batch import Clips
from multimodal.config import MultimodalConfig
from multimodal.model import MultimodalLlama
from multimodal.rows import FrameTiles

HEADER_BYTES = 1024
"""Allowed for what a file says about its clip."""


@dataclass
class FeatureCache:
    """The features that one encoder makes of clips that are watched in one way."""

    folder: Path
    room: float = math.inf
    """Bytes that may still be written."""

    @staticmethod
    def of(
        folder: Path | str, model: MultimodalLlama, *, max_bytes: float = math.inf, sharers: int = 1
    ) -> "FeatureCache":
        """The part of a folder that belongs to a model's encoder and way of watching.

        Args:
            folder: of features of any encoders.
            model: which one is meant.
            max_bytes: what all files in ``folder`` may take together.
            sharers: processes that write into it, each of which takes an equal part of the room.
        """
        room = math.inf
        if max_bytes < math.inf:
            held = sum(file.stat().st_size for file in Path(folder).rglob("*.safetensors"))
            room = (max_bytes - held) / sharers
        mine = cache_name(model.config, weights_hash(model.image_encoder))
        return FeatureCache(Path(folder) / mine, room)

    def find(self, key: str) -> FrameTiles | None:
        """What is known of a clip: its features and no pixels; None if that is nothing."""
        try:
            with safe_open(self._file(key), framework="pt") as file:
                about = json.loads(file.metadata()["about"])
                features = file.get_tensor("features")
            rows, columns = about["arrangement"]
            times = tuple(map(float, about["times"]))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None
        if len(features) != len(times) * rows * columns:
            return None
        none = torch.empty(0, 3, *about["tile"])
        return FrameTiles(
            pixels=none, arrangement=(rows, columns), times=times, features=features, key=key
        )

    def keep(self, clips: Clips, features: Tensor) -> None:
        """Write the features of those clips that were not known, as far as there is room.

        A disk that takes no more ends the keeping, with a warning, and not the run.

        Args:
            clips: of a batch; those without a key are passed over.
            features: of all their frames, [tiles, tokens, feature_dim].
        """
        counts = clips.tiles_per_clip.tolist()
        known = [False] * len(counts) if clips.known is None else clips.known.tolist()
        of_clip = features.split(counts)
        for index, key in enumerate(clips.keys):
            size = of_clip[index].nbytes + HEADER_BYTES
            if key and not known[index] and size <= self.room:
                self.room -= size
                about = {
                    "arrangement": clips.arrangements[index].tolist(),
                    "times": clips.times[index],
                    "tile": list(clips.tiles.shape[-2:]),
                }
                self._write(key, of_clip[index], json.dumps(about))

    def _write(self, key: str, features: Tensor, about: str) -> None:
        file = self._file(key)
        partial = file.with_suffix(f".{os.getpid()}.partial")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file({"features": features.cpu().contiguous().clone()}, partial, {"about": about})
            os.replace(partial, file)
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            self.room = 0
            warnings.warn(f"{self.folder}: features are kept no more ({error})", stacklevel=3)

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.safetensors"


def cache_name(config: MultimodalConfig, encoder_hash: str) -> str:
    """A name for everything that features depend on beside the clip."""
    parts = config.image_encoder, config.tiles, config.clips
    facts = [encoder_hash, *(config_to_dict(part) for part in parts)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
