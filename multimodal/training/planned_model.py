"""The model that a training config builds, read from the YAML alone: no weight is touched."""

from collections.abc import Callable, Sequence
from typing import Any

from language.config import LlamaConfig
from language.config_dict import config_from_dict
from language.errors import InputError
from multimodal.adapter_checkpoint import IMAGE_PARTS, SPEECH_PARTS, VIDEO_PARTS
from multimodal.config import MultimodalConfig
from multimodal.training.config_files import chain, find_config, read_yaml
from multimodal.training.parts import ModelParts, config_of
from multimodal.training.speech_parts import SpeechParts, speech_config_of
from multimodal.training.video_parts import VideoParts, video_config_of
from vision.encoder import ImageEncoderConfig

BESIDE_THE_CORE = ("*_encoder.*", "*_adapter.*", "*_aggregator.*", "extra_embedding.*")
"""What may train of a model that is not a training's."""


def planned_model(what: str) -> tuple[str, MultimodalConfig | ImageEncoderConfig, Sequence[str]]:
    """What the `model.init_args` of a training config build, or those that it extends.

    Returns:
        Which kind of training it is, the model's config, and patterns of the names of what trains.

    Raises:
        InputError: what is wrong with which file.
    """
    kinds: dict[str, tuple[type, Callable[[Any], MultimodalConfig], tuple[str, ...]]] = {
        "ImageAdapterTraining": (ModelParts, config_of, IMAGE_PARTS),
        "SpeechTraining": (SpeechParts, speech_config_of, SPEECH_PARTS),
        "VideoAdapterTraining": (VideoParts, video_config_of, VIDEO_PARTS),
    }
    settings: dict[str, Any] = {}
    class_path = ""
    for file in chain(find_config(what)):
        model = read_yaml(file).get("model")
        if isinstance(model, dict):
            class_path = str(model.get("class_path", class_path))
        if isinstance(model, dict) and isinstance(model.get("init_args"), dict):
            settings = _merged(settings, model["init_args"])
    try:
        if "parts" in settings:
            parts, build, usual = kinds[class_path.rpartition(".")[2]]
            trained = settings.get("train") or [f"{part}.*" for part in usual]
            config = build(config_from_dict(parts, settings["parts"]))
            return "training of an adapter", config, trained
        if "core" in settings:
            core = config_from_dict(LlamaConfig, settings["core"])
            return "training of a core", MultimodalConfig(language=core), ("language.*",)
        if "image_encoder" in settings:
            encoder = config_from_dict(ImageEncoderConfig, settings["image_encoder"])
            return "training of an image encoder", encoder, BESIDE_THE_CORE
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(what, str(error)) from None
    raise InputError(what, "builds no model: model.init_args has no parts, core or image_encoder")


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay nested settings over others, as the training does."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
