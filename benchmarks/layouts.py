"""Layouts of processes for one training of the image adapter, one after another on CPU.

``python -m benchmarks.layouts`` prints the time of an optimizer step and the memory of the fullest
process for each. The rows of a step are the same for all. Cores are shared by the processes, so
what is seen here is what a layout costs, and not what it would gain on as many devices.
"""

import argparse
import contextlib
import io
import json
import logging
import resource
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch.utils.data import DataLoader

from benchmarks.paired import machine
from language.checkpoint import save_llama
from language.config import LlamaConfig
from language.model import Llama
from language.optimization import AdamWConfig, ScheduleConfig
from language.tokenizer import train_bpe
from multimodal.batch import Batch, Images
from multimodal.training.adapter import ImageAdapterTraining
from multimodal.training.parallel import MeshStrategy
from multimodal.training.parallel.micro_batches import split
from multimodal.training.parts import ModelParts
from vision.checkpoint import save_encoder
from vision.encoder import ImageEncoder, ImageEncoderConfig
from vision.tiles import TilesConfig

ROWS, TOKENS, TILE, STEPS = 16, 64, 56, 8
LAYOUTS: dict[str, tuple[int, dict[str, Any]]] = {
    "one process": (1, {}),
    "DP2": (2, {}),
    "DP2, weights cut": (2, {"shards": 2}),
    "DP2, weights cut but the frozen": (2, {"shards": 2, "shard_frozen": False}),
    "TP2": (2, {"tensor": 2, "micro_batches": 4}),
    "TP2, tokens split": (2, {"tensor": 2, "micro_batches": 4, "split_text": True}),
    "PP2, gpipe": (2, {"pipeline": 2, "micro_batches": 8, "schedule": "gpipe"}),
    "PP2, 1f1b": (2, {"pipeline": 2, "micro_batches": 8}),
    "PP2, interleaved": (
        2, {"pipeline": 2, "micro_batches": 8, "schedule": "interleaved", "stages_per_rank": 2},
    ),
    "PP2 x TP2": (4, {"pipeline": 2, "tensor": 2, "micro_batches": 8}),
    "PP2 x DP2": (4, {"pipeline": 2, "micro_batches": 4}),
}  # fmt: skip


class Data(LightningDataModule):
    """One batch, again and again."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(3, vocabulary, (ROWS, TOKENS + 1), generator=generator)
        self.batch = Batch(
            tokens=tokens[:, :-1],
            lengths=torch.full((ROWS,), TOKENS),
            targets=tokens[:, 1:],
            images=Images(
                tiles=torch.randn(ROWS, 3, TILE, TILE, generator=generator),
                arrangements=torch.ones(ROWS, 2, dtype=torch.long),
                rows=torch.arange(ROWS),
            ),
            visible=torch.ones(ROWS, TOKENS, 1, dtype=torch.bool),
        )

    def train_dataloader(self) -> DataLoader:
        """This data rank's rows."""
        assert self.trainer is not None
        place = self.trainer.distributed_sampler_kwargs
        assert place is not None
        mine = split(self.batch, place["num_replicas"])[place["rank"]]
        return DataLoader([mine] * STEPS, batch_size=None)  # type: ignore[arg-type]


class Clock(Callback):
    """Seconds of each step, and the memory of the fullest process, in a file."""

    def __init__(self, file: Path) -> None:
        self.file, self.seconds, self.started = file, [0.0][:0], 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop it."""
        self.seconds.append(time.perf_counter() - self.started)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write what was found."""
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        every = [torch.zeros(1) for _ in range(trainer.world_size)]
        torch.distributed.all_gather(every, torch.tensor([own]))
        if trainer.is_global_zero:
            found = {"s": statistics.median(self.seconds[2:]), "mb": float(max(every))}
            self.file.write_text(json.dumps(found))


def write_parts(folder: Path) -> ModelParts:
    """A core of 8 blocks and an encoder, random."""
    torch.manual_seed(0)
    tokenizer = train_bpe(["one two three"] * 3, num_merged=4)
    core = Llama(
        LlamaConfig(
            vocab_size=tokenizer.vocab_size, dim=512, num_layers=8, num_heads=8, num_kv_heads=4,
            ffn_dim=1408, max_positions=512,
        )
    )  # fmt: skip
    core.reset_parameters()
    (folder / "tokenizer").mkdir()
    tokenizer.save(folder / "tokenizer")
    save_llama(core, folder / "core", companions=folder / "tokenizer")
    encoder = ImageEncoderConfig(
        image_size=TILE, patch_size=14, dim=256, num_layers=6, num_heads=8, ffn_dim=1024,
        num_global_layers=2, intermediate_layers=(2,),
    )  # fmt: skip
    save_encoder(ImageEncoder(encoder), folder / "encoder", tiles=TilesConfig(tile_size=TILE))
    return ModelParts(core=str(folder / "core"), image_encoder=str(folder / "encoder"))


def measure(parts: ModelParts, name: str, folder: Path) -> dict[str, float]:
    """Train some steps under a layout."""
    processes, settings = LAYOUTS[name]
    file = folder / "found.json"
    trainer = Trainer(
        accelerator="cpu", devices=processes, max_steps=STEPS, max_epochs=-1, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        use_distributed_sampler=False, gradient_clip_val=1.0, callbacks=[Clock(file)],
        strategy=MeshStrategy(process_group_backend="gloo", start_method="fork", **settings),
    )  # fmt: skip
    module = ImageAdapterTraining(
        parts=parts, optimizer=AdamWConfig(learning_rate=1e-4), schedule=ScheduleConfig()
    )
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.fit(module, Data(vocabulary=200))
    return json.loads(file.read_text())


def main() -> None:
    """Measure every layout."""
    argparse.ArgumentParser(prog="python -m benchmarks.layouts", description=__doc__).parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print(machine(), end="\n\n")
    print("| layout | processes | step, ms | fullest process, MB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        parts = write_parts(Path(folder))
        for name, (processes, _) in LAYOUTS.items():
            found = measure(parts, name, Path(folder))
            print(f"| {name} | {processes} | {1000 * found['s']:.0f} | {found['mb']:.0f} |")


if __name__ == "__main__":
    main()
