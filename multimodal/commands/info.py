"""`openherd info [WHAT]`: what a model directory, a preset or a training config holds."""

import json
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language.errors import InputError
from multimodal.commands.options import new_parser, parse

if TYPE_CHECKING:
    from multimodal.config import MultimodalConfig
    from vision.encoder import ImageEncoderConfig

BESIDE_THE_CORE = ("*_encoder.*", "*_adapter.*", "*_aggregator.*", "extra_embedding.*")
"""What may train of a model that is not a training's."""
Found = tuple[str, "MultimodalConfig | ImageEncoderConfig", Sequence[str]]
"""Which kind of thing a name means, its config, and patterns of the names of what trains."""


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status."""
    parser = new_parser(
        "info",
        "Say what something is: its parts, their sizes, and which are frozen. No weight is read.",
    )
    parser.add_argument(
        "what",
        type=str,
        nargs="?",
        default="tiny",
        help="a model or adapter directory, a preset (8b, 70b, 405b, llama-3.2-11b, ...), a "
        "training config, or 'tiny', which ships with the package",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parse(parser, words)
    kind, config, trained = _find(options.what)
    parts = _parts(config, trained)
    if options.json:
        from language.config_dict import config_to_dict

        about = {"what": options.what, "kind": kind, "parts": parts}
        print(json.dumps({**about, "config": config_to_dict(config)}, ensure_ascii=False))
    else:
        print("\n".join([f"{options.what}: {kind}", *_table(parts)]))
    return 0


def _find(what: str) -> Found:
    """Return what a name means."""
    from language.config import LLAMA_CONFIGS
    from multimodal.adapter_checkpoint import open_adapter
    from multimodal.checkpoint import kind_of, open_model
    from multimodal.config import MULTIMODAL_CONFIGS, MultimodalConfig
    from multimodal.locations import find_model

    if Path(what).suffix in (".yaml", ".yml"):
        return _find_training(what)
    if what in MULTIMODAL_CONFIGS:
        return "preset", MULTIMODAL_CONFIGS[what], BESIDE_THE_CORE
    if what in LLAMA_CONFIGS and what != "tiny":
        return "preset of a core", MultimodalConfig(language=LLAMA_CONFIGS[what]), ()
    directory = find_model(what)
    kind = kind_of(directory)
    if kind == "adapter":
        adapter = open_adapter(directory)
        return f"adapter of the core {adapter.core_name}", adapter.config, BESIDE_THE_CORE
    return f"{kind} model", open_model(directory)[0], BESIDE_THE_CORE


def _find_training(what: str) -> Found:
    """The same of a training config: what its `model.init_args` build, or those it extends."""
    from language.config import LlamaConfig
    from language.config_dict import config_from_dict
    from multimodal.adapter_checkpoint import IMAGE_PARTS, SPEECH_PARTS, VIDEO_PARTS
    from multimodal.config import MultimodalConfig
    from multimodal.training.config_files import chain, find_config, read_yaml
    from multimodal.training.parts import ModelParts, config_of
    from multimodal.training.speech_parts import SpeechParts, speech_config_of
    from multimodal.training.video_parts import VideoParts, video_config_of
    from vision.encoder import ImageEncoderConfig

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


def _parts(
    config: "MultimodalConfig | ImageEncoderConfig", trained: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Describe each part of the model that the config builds."""
    import torch
    from torch import nn

    from multimodal.model import MultimodalLlama
    from vision.encoder import ImageEncoder, ImageEncoderConfig

    modules: dict[str, tuple[nn.Module, str]]
    with torch.device("meta"):
        if isinstance(config, ImageEncoderConfig):
            modules = {"image_encoder": (ImageEncoder(config), _describe_encoder(config))}
        else:
            modules = {
                name: (module, _describe(name, config))
                for name, module in MultimodalLlama(config).named_children()
            }
    return {
        name: {
            "is": text,
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "frozen": not any(
                fnmatchcase(f"{name}.{parameter}", pattern)
                for parameter, _ in module.named_parameters()
                for pattern in trained
            ),
        }
        for name, (module, text) in modules.items()
    }


def _describe(name: str, config: "MultimodalConfig") -> str:
    core, encoder, adapter = config.language, config.image_encoder, config.image_adapter
    if name == "language":
        return (
            f"{core.num_layers} layers, width {core.dim}, {core.num_heads} heads "
            f"({core.num_kv_heads} for keys), vocabulary {core.vocab_size}, "
            f"{core.max_positions} positions"
        )
    if name == "image_encoder":
        assert encoder is not None
        return _describe_encoder(encoder)
    if name == "image_adapter":
        assert adapter is not None
        blocks = ", ".join(map(str, adapter.positions))
        return f"cross-attention before the core's blocks {blocks} (of {core.num_layers})"
    if name == "video_adapter":
        assert config.video_adapter is not None
        blocks = ", ".join(map(str, config.video_adapter.positions))
        return f"video cross-attention before the core's blocks {blocks} (of {core.num_layers})"
    if name == "video_aggregator":
        assert config.video_aggregator is not None
        video = config.video_aggregator
        return (
            f"{video.num_layers} perceiver layers, width {video.dim}; "
            f"{config.clips.num_frames} frames, {video.frames_per_group} merged into one"
        )
    if name == "speech_encoder":
        assert config.speech_encoder is not None
        kinds = ("conformer", "whisper", "w2v_bert")
        kind = next(k for k in kinds if getattr(config.speech_encoder, k) is not None)
        return f"{kind.replace('_', '-')}, width {config.speech_encoder.dim}"
    if name == "speech_adapter":
        assert config.speech_adapter is not None
        speech = config.speech_adapter
        return f"into the core's embeddings, its layer of width {speech.dim}"
    return f"{config.extra_tokens} tokens beside the core's table"


def _describe_encoder(encoder: "ImageEncoderConfig") -> str:
    return (
        f"{encoder.num_layers} local + {encoder.num_global_layers} global layers, "
        f"width {encoder.dim}, {encoder.max_num_tiles} tiles of {encoder.image_size}, "
        f"patches of {encoder.patch_size}, {encoder.mode}"
    )


def _table(parts: dict[str, dict[str, Any]]) -> list[str]:
    total = sum(part["parameters"] for part in parts.values())
    rows = [
        (name, f"{part['parameters']:,}", "frozen" if part["frozen"] else "trains", part["is"])
        for name, part in parts.items()
    ]
    rows.append(("total", f"{total:,}", "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        f"  {name:<{widths[0]}}  {count:>{widths[1]}}  {state:<{widths[2]}}  {what}".rstrip()
        for name, count, state, what in rows
    ]
