"""`openherd convert SRC DST`: our layout to Hugging Face's, and any published one to ours."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from language.errors import InputError
from multimodal.commands.options import new_parser, parse

if TYPE_CHECKING:
    from multimodal.model import MultimodalLlama


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status."""
    parser = new_parser(
        "convert",
        "Write a model in another layout, its weights bit for bit unless --dtype says otherwise.",
    )
    parser.add_argument(
        "source", type=str, help="directory of ours, of Hugging Face's or of Meta's; or 'tiny'"
    )
    parser.add_argument("target", type=str, help="directory to write")
    parser.add_argument(
        "--to",
        type=Literal["auto", "openherd", "huggingface"],
        default="auto",
        help="layout to write; auto is Hugging Face's for ours, and ours for any other",
    )
    parser.add_argument("--core", type=str, help="the core's directory, where SRC is an adapter")
    parser.add_argument(
        "--dtype",
        type=Literal["as stored", "float32", "bfloat16", "float16"],
        default="as stored",
        help="type to write the weights in",
    )
    options = parse(parser, words)

    from multimodal.checkpoint import companions_of, kind_of, save_model
    from multimodal.locations import find_model, load_weights

    source, target = find_model(options.source), Path(options.target)
    if target.resolve() == source.resolve():
        raise InputError(target, "is the source itself: name another directory")
    core = None if options.core is None else find_model(options.core)
    layout = options.to
    if layout == "auto":
        layout = "huggingface" if kind_of(source) == "openherd" else "openherd"
    dtype = None if options.dtype == "as stored" else options.dtype
    model = load_weights(source, core=core, dtype=dtype)
    companions = companions_of(source if core is None else core)
    if layout == "openherd":
        save_model(model, target, companions=companions)
    else:
        _save_huggingface(model, target, companions=companions)
    print(f"{options.source} -> {target} ({layout})")
    return 0


def _save_huggingface(model: "MultimodalLlama", target: Path, *, companions: Path) -> None:
    from language.checkpoint import save_llama
    from multimodal.released import save_released

    left_out = [name for name, _ in model.named_children() if name.startswith(("speech", "video"))]
    if left_out:
        parts = ", ".join(left_out)
        raise InputError(target, f"Hugging Face's layout has no place for its parts {parts}")
    if model.config.image_encoder is None:
        save_llama(model.language, target, companions=companions)
        return
    try:
        save_released(model, target, companions=companions)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(target, f"Hugging Face's layout has no place for it: {error}") from None
