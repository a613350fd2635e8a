"""`openherd info [WHAT]`: what a model directory, a preset or a training config holds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.commands.options import new_parser, parse

if TYPE_CHECKING:
    from multimodal.config import MultimodalConfig

FROZEN = ("language",)
"""Parts that no training of adapters changes."""


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
    parts = _parts(config)
    if options.json:
        about = {"what": options.what, "kind": kind, "parts": parts, "config": config.to_json()}
        print(json.dumps(about, ensure_ascii=False))
    else:
        print("\n".join([f"{options.what}: {kind}", *_table(parts)]))
    return 0


def _find(what: str) -> tuple[str, "MultimodalConfig"]:
    """Return what kind of thing a name means, and the config of the model behind it."""
    from language.config import LLAMA_CONFIGS
    from multimodal.adapter_checkpoint import open_adapter
    from multimodal.checkpoint import kind_of, open_model
    from multimodal.config import MULTIMODAL_CONFIGS, MultimodalConfig
    from multimodal.locations import find_model

    if Path(what).suffix in (".yaml", ".yml"):
        from multimodal.training.command import model_config

        return "training config", model_config(what)
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


def _parts(config: "MultimodalConfig") -> dict[str, dict[str, Any]]:
    """Describe each part of the model that the config builds, in the order of its forward pass."""
    import torch

    from multimodal.model import MultimodalLlama

    with torch.device("meta"):
        model = MultimodalLlama(config)
    parts = {}
    for name, module in model.named_children():
        parts[name] = {
            "is": _describe(name, config),
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "frozen": name in FROZEN,
        }
    return parts


def _describe(name: str, config: "MultimodalConfig") -> str:
    core, encoder, adapter = config.language, config.image_encoder, config.image_adapter
    if name == "language":
        return (
            f"{core.num_layers} layers, width {core.dim}, {core.num_heads} heads "
            f"({core.num_kv_heads} for keys), vocabulary {core.vocab_size}, "
            f"{core.max_positions} positions"
        )
    if name == "image_encoder":
        assert encoder is not None and config.tiles is not None
        return (
            f"{encoder.num_layers} local + {encoder.num_global_layers} global layers, "
            f"width {encoder.dim}, {config.tiles.max_num_tiles} tiles of {encoder.image_size}, "
            f"patches of {encoder.patch_size}, {encoder.mode}"
        )
    if name == "image_adapter":
        assert adapter is not None
        blocks = ", ".join(map(str, adapter.positions))
        return f"cross-attention before the core's blocks {blocks} (of {core.num_layers})"
    return f"{config.extra_tokens} tokens beside the core's table"


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
