"""`openherd info [WHAT]`: what a model directory, a preset or a training config holds."""

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.commands.options import new_parser, parse

if TYPE_CHECKING:
    from multimodal.config import MultimodalConfig
    from vision.encoder import ImageEncoderConfig

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
    from multimodal.training.planned_model import BESIDE_THE_CORE, planned_model

    if Path(what).suffix in (".yaml", ".yml"):
        return planned_model(what)
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
