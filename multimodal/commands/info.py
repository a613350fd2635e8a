"""`openherd info [WHAT]`: what a model directory, a preset or a training config holds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language.errors import InputError
from multimodal.commands.options import new_parser, parse

if TYPE_CHECKING:
    from multimodal.config import MultimodalConfig
    from vision.encoder import ImageEncoderConfig

CORE_TRAINING = "training of a core"
"""The one kind of thing whose core is not frozen."""


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
    kind, config = _find(options.what)
    parts = _parts(config, core_trains=kind == CORE_TRAINING)
    if options.json:
        from language.config_dict import config_to_dict

        about = {"what": options.what, "kind": kind, "parts": parts}
        print(json.dumps({**about, "config": config_to_dict(config)}, ensure_ascii=False))
    else:
        print("\n".join([f"{options.what}: {kind}", *_table(parts)]))
    return 0


def _find(what: str) -> tuple[str, "MultimodalConfig | ImageEncoderConfig"]:
    """Return what kind of thing a name means, and the config of the model behind it."""
    from language.config import LLAMA_CONFIGS
    from multimodal.adapter_checkpoint import open_adapter
    from multimodal.checkpoint import kind_of, open_model
    from multimodal.config import MULTIMODAL_CONFIGS, MultimodalConfig
    from multimodal.locations import find_model

    if Path(what).suffix in (".yaml", ".yml"):
        return _find_training(what)
    if what in MULTIMODAL_CONFIGS:
        return "preset", MULTIMODAL_CONFIGS[what]
    if what in LLAMA_CONFIGS and what != "tiny":
        return "preset of a core", MultimodalConfig(language=LLAMA_CONFIGS[what])
    directory = find_model(what)
    kind = kind_of(directory)
    if kind == "adapter":
        adapter = open_adapter(directory)
        return f"adapter of the core {adapter.core_name}", adapter.config
    return f"{kind} model", open_model(directory)[0]


def _find_training(what: str) -> tuple[str, "MultimodalConfig | ImageEncoderConfig"]:
    """The same of a training config: what its `model.init_args` build, or those it extends."""
    from language.config import LlamaConfig
    from language.config_dict import config_from_dict
    from multimodal.config import MultimodalConfig
    from multimodal.training.config_files import chain, find_config, read_yaml
    from multimodal.training.parts import ModelParts, config_of
    from vision.encoder import ImageEncoderConfig

    settings: dict[str, Any] = {}
    for file in chain(find_config(what)):
        model = read_yaml(file).get("model")
        if isinstance(model, dict) and isinstance(model.get("init_args"), dict):
            settings = _merged(settings, model["init_args"])
    try:
        if "parts" in settings:
            return "training of an adapter", config_of(
                config_from_dict(ModelParts, settings["parts"])
            )
        if "core" in settings:
            core = config_from_dict(LlamaConfig, settings["core"])
            return CORE_TRAINING, MultimodalConfig(language=core)
        if "image_encoder" in settings:
            encoder = config_from_dict(ImageEncoderConfig, settings["image_encoder"])
            return "training of an image encoder", encoder
    except (ValueError, TypeError) as error:
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
    config: "MultimodalConfig | ImageEncoderConfig", *, core_trains: bool
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
            "frozen": name == "language" and not core_trains,
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
