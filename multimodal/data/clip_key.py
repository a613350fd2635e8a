"""What names a clip by its content."""

import hashlib
from pathlib import Path

CHUNK = 2**20


def clip_key(clip: bytes | Path) -> str:
    """SHA-256 of a clip's file, as hexadecimal digits."""
    digest = hashlib.sha256()
    if isinstance(clip, bytes):
        digest.update(clip)
        return digest.hexdigest()
    with open(clip, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
