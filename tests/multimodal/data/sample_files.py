"""Shards as other programs write them."""

import io
import json

import numpy as np
import webdataset
from PIL import Image


def picture_bytes(width, height, *, seed=0, kind="JPEG"):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write_shard(path, samples):
    """Write {key: {extension: bytes | str | dict}} as WebDataset does."""
    with webdataset.TarWriter(str(path)) as writer:
        for key, parts in samples.items():
            encoded = {
                extension: json.dumps(part) if isinstance(part, dict) else part
                for extension, part in parts.items()
            }
            writer.write({"__key__": key, **encoded})
    return path


def captioned(number, *, width=20, height=10):
    """A sample as img2dataset writes it."""
    text = f"picture number {number}"
    return {
        "jpg": picture_bytes(width, height, seed=number),
        "json": {"caption": text, "url": "https://example.org", "key": f"{number:09d}"},
        "txt": text,
    }
