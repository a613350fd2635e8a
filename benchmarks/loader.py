"""Samples a second from shards, against plain webdataset.

Both sides read the same shards as img2dataset writes them, and do the same with each sample: decode
the JPEG, cut it into tiles, encode the caption, collate. webdataset reads its shards from front to
back through a shuffle buffer; ours reads samples by index in an order that only the seed decides
and that resumes exactly, so the question is whether that costs anything.
"""

import io
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.paired import Ratio, compare
from language.config import LlamaConfig
from language.tokenizer import train_bpe
from multimodal.config import MultimodalConfig, paper_adapter
from multimodal.data.module import PictureData, SourceConfig
from multimodal.processor import Processor
from vision.encoder import ImageEncoderConfig
from vision.tiles import TilesConfig

NUM_SHARDS = 4
SAMPLES_PER_SHARD = 400
BATCH_SIZE = 32
WORDS = "a small big red blue dog cat cup left right of above below three two".split()


def run() -> list[Ratio]:
    """An epoch with the decoding in this process, and with two workers."""
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder))
        processor = make_processor()
        return [
            compare(
                f"loader, {name}, {NUM_SHARDS * SAMPLES_PER_SHARD} samples",
                ours=lambda workers=workers: ours(Path(folder), processor, num_workers=workers),
                theirs=lambda workers=workers: theirs(Path(folder), processor, num_workers=workers),
                against=f"webdataset {webdataset.__version__}",
                target=1.0,
                pairs=5,
            )
            for name, workers in (("no worker", 0), ("two workers", 2))
        ]


def write_shards(folder: Path) -> None:
    """Photographs' sizes and entropy, as far as smooth noise has them."""
    rng = np.random.default_rng(0)
    for shard in range(NUM_SHARDS):
        with webdataset.TarWriter(str(folder / f"{shard:05d}.tar")) as writer:
            for index in range(SAMPLES_PER_SHARD):
                coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
                size = tuple(int(side) for side in rng.integers(180, 400, 2))
                picture = io.BytesIO()
                Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(
                    picture, format="JPEG", quality=90
                )
                text = " ".join(rng.choice(WORDS, 12))
                writer.write(
                    {
                        "__key__": f"{shard:05d}{index:04d}",
                        "jpg": picture.getvalue(),
                        "json": json.dumps({"text": text}).encode(),
                    }
                )


def make_processor() -> Processor:
    """Tiles of 224 pixels, at most four."""
    tokenizer = train_bpe([" ".join(WORDS)] * 50, num_merged=100)
    language = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        dim=64,
        num_layers=4,
        num_heads=2,
        num_kv_heads=1,
        ffn_dim=64,
    )
    encoder = ImageEncoderConfig(
        image_size=224, patch_size=14, dim=64, num_layers=1, num_heads=2, ffn_dim=64
    )
    config = MultimodalConfig(
        language=language,
        image_encoder=encoder,
        image_adapter=paper_adapter(language, feature_dim=encoder.feature_dim),
        tiles=TilesConfig(tile_size=224),
        extra_tokens=8,
    )
    return Processor(tokenizer, config)


def ours(folder: Path, processor: Processor, *, num_workers: int) -> None:
    """An epoch of :class:`PictureData`; the shards are indexed once, in the uncounted pair."""
    data = PictureData(
        train=[SourceConfig(path=str(folder / "*.tar"))],
        batch_size=BATCH_SIZE,
        num_workers=num_workers,
        cache=str(folder / "cache"),
    )
    data.processor = processor
    count(data.train_dataloader())


def theirs(folder: Path, processor: Processor, *, num_workers: int) -> None:
    """An epoch of a webdataset pipeline, shards and samples shuffled."""

    def encode(sample: dict[str, Any]) -> Any:
        picture = Image.open(io.BytesIO(sample["jpg"])).convert("RGB")
        return processor.encode_caption(picture, json.loads(sample["json"])["text"])

    dataset = (
        webdataset.WebDataset(
            sorted(map(str, folder.glob("*.tar"))), shardshuffle=NUM_SHARDS, empty_check=False
        )
        .shuffle(500)
        .map(encode)
        .batched(BATCH_SIZE, collation_fn=processor.collate)
    )
    count(DataLoader(dataset, batch_size=None, num_workers=num_workers))


def count(batches: Iterable[Any]) -> None:
    """Read everything; both sides must give every sample."""
    read = sum(len(batch.tokens) for batch in batches)
    torch.testing.assert_close(read, NUM_SHARDS * SAMPLES_PER_SHARD)
