"""Where a model is and where it goes: the shipped one, a directory, the hub; device and type."""

import re
from pathlib import Path

import torch

from language.directories import whole
from language.errors import InputError
from multimodal.adapter_checkpoint import load_adapter, open_adapter
from multimodal.checkpoint import kind_of, load_model
from multimodal.model import MultimodalLlama

TINY = Path(__file__).parent / "_tiny"
"""The model that ships with the package."""

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
HUB_FILES = ("*.json", "*.jinja", "*.safetensors", "tokenizer.model")
"""What is fetched from the hub: nothing that could hold code."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def find_model(name: str | Path) -> Path:
    """Return the directory that a name means, fetched from the hub if it is not here.

    Raises:
        InputError: there is none.
    """
    try:
        return whole(TINY if str(name) == "tiny" else Path(name))
    except InputError:
        if not HUB_NAME.fullmatch(str(name)) or Path(name).exists():
            raise
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name), allow_patterns=list(HUB_FILES)))
    except Exception as error:  # the client raises many kinds, of several libraries
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(name, f"no such directory here, nor on the hub: {reason}") from None


def load_weights(
    directory: Path,
    *,
    core: Path | None = None,
    device: torch.device | str = "cpu",
    dtype: str | torch.dtype | None = None,
) -> MultimodalLlama:
    """Load a model in eval mode; an adapter comes with its core.

    Args:
        directory: a model or an adapter.
        core: the core's directory, for an adapter; what else it holds stays, such as the parts for
            pictures where the adapter brings those for speech.
        device: where the weights go.
        dtype: "auto" is bfloat16 on a GPU and float32 without one; None keeps the stored type.

    Raises:
        InputError: what is wrong with which file.
    """
    place = torch.device(device)
    kind = torch_dtype(dtype, device=place)
    if core is None:
        return load_model(directory, device=place, dtype=kind)
    if kind_of(directory) != "adapter":
        raise InputError(directory, "a whole model, which goes with no other core")
    brings = open_adapter(directory).config
    # As stored: the adapter knows the core by its numbers.
    base = load_model(core, device=place, without=brings)
    model = load_adapter(directory, base, device=place, dtype=kind)
    return model if kind is None else model.to(kind)


def torch_device(name: str | torch.device) -> torch.device:
    """Return a device that is there.

    Raises:
        InputError: it is not.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or ["unknown"])[0]
        raise InputError(f"device {name}", f"not to be had on this machine ({reason})") from None
    return device


def torch_dtype(name: str | torch.dtype | None, *, device: torch.device) -> torch.dtype | None:
    """Return the type that a name means on a device; None stays None.

    Raises:
        InputError: there is no such type, or none that models are run in.
    """
    if name is None or isinstance(name, torch.dtype):
        return name
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise InputError(f"dtype {name}", f"not one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]
