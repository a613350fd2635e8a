"""The composition of frozen Llama 3 core, encoders and adapters, and everything a user touches.

    from multimodal import load

    assistant = load("tiny")
    assistant.caption("photo.jpg")

Nothing heavy is imported here: `openherd --help` answers before torch would have been read.
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multimodal.assistant import Assistant, load

__all__ = ["Assistant", "load"]

SIBLINGS = ("language", "vision", "speech", "video")
"""The other packages of this distribution, all of which stand beside this one."""


def check_siblings() -> None:
    """Raise ImportError if a foreign package hides one of ours: their names are everyday words."""
    home = Path(__file__).resolve().parent.parent
    for name in SIBLINGS:
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ImportError(f"openherd is incomplete: package {name!r} is missing beside {home}")
        found = Path(spec.origin or next(iter(spec.submodule_search_locations or [name]))).resolve()
        if not found.is_relative_to(home / name):
            raise ImportError(
                f"another package named {name!r} ({found}) hides openherd's ({home / name}): "
                "uninstall or rename it, or put openherd first on the import path"
            )


check_siblings()


def __getattr__(name: str) -> Any:
    """Import `load` and `Assistant`, and torch with them, when they are first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from multimodal import assistant

    return getattr(assistant, name)
