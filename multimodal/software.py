"""What software runs: versions of packages and the commit of the source tree, for records."""

import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("openherd", "torch", "lightning", "torchvision", "torchaudio", "safetensors")
"""Whose versions may change what comes out."""


def software() -> dict[str, Any]:
    """Versions and commit."""
    return {"versions": {name: _version(name) for name in PACKAGES}, "commit": _commit()}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the source tree that runs, and whether it was changed; None elsewhere."""
    here = Path(__file__).resolve().parents[1]
    if not (here / ".git").exists():
        return None
    try:
        head, changes = (
            subprocess.run(
                ["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno"))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head + (" with changes" if changes else "")
