"""Training steps at the paper's sizes on one GPU: how much of it the needed operations use.

``python -m benchmarks.h100 --output record.json`` builds the 8B model with random weights, as many
blocks of its core as are asked for, and takes optimizer steps of several micro-batches on random
pictures, or recordings, and texts. *MFU* divides the operations that the model needs
(`multimodal.training.flops`: frozen weights need no gradients, recomputation counts for nothing) by
what the device could do in the time. ``--dry-run`` shows on any machine that all variants run.
"""

import argparse
import gc
import json
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.paired import machine
from language.config import LLAMA_CONFIGS, LlamaConfig
from language.next_token import NextTokenTraining
from language.optimization import AdamWConfig, ScheduleConfig, adamw
from multimodal.batch import Batch, Images, Recordings
from multimodal.config import MULTIMODAL_CONFIGS, MultimodalConfig, paper_adapter
from multimodal.model import MultimodalLlama
from multimodal.training.adapter import ImageAdapterTraining
from multimodal.training.parts import ModelParts
from multimodal.training.progress import peak_flops
from multimodal.training.speech import SpeechTraining
from multimodal.training.speech_parts import SpeechParts

IMAGE = ("image_encoder.*", "image_adapter.*", "extra_embedding.*")
SPEECH = ("speech_encoder.*", "speech_adapter.*")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way of training."""

    name: str
    medium: str
    """"image" or "speech"."""
    layers: int
    """Blocks of the core."""
    rows: int
    """Samples of a micro-batch."""
    compile: bool = True
    checkpoint_core: bool = False
    checkpoint_encoder: bool = False
    train: tuple[str, ...] = IMAGE
    frozen_aware: bool = True
    """Whether frozen weights go without gradients; without, they get them and nobody reads them."""


VARIANTS = (
    Variant(name="whole core, all recomputed", medium="image", layers=32, rows=8,
            checkpoint_core=True, checkpoint_encoder=True),
    Variant(name="whole core, all recomputed, eager", medium="image", layers=32, rows=8,
            checkpoint_core=True, checkpoint_encoder=True, compile=False),
    Variant(name="whole core, encoder recomputed", medium="image", layers=32, rows=4,
            checkpoint_encoder=True),
    Variant(name="half the core, encoder recomputed", medium="image", layers=16, rows=8,
            checkpoint_encoder=True),
    Variant(name="half the core, nothing recomputed", medium="image", layers=16, rows=4),
    Variant(name="the same, six rows", medium="image", layers=16, rows=6),
    Variant(name="four rows, no gradient below the adapter", medium="image", layers=16, rows=4,
            train=IMAGE[:2]),
    Variant(name="four rows, gradients of frozen weights too", medium="image", layers=16, rows=4,
            frozen_aware=False),
    Variant(name="speech, whole core, core recomputed", medium="speech", layers=32, rows=32,
            checkpoint_core=True, train=SPEECH),
    Variant(name="speech, whole core, nothing recomputed", medium="speech", layers=32, rows=16,
            train=SPEECH),
    Variant(name="speech, the same, eager", medium="speech", layers=32, rows=16, compile=False,
            train=SPEECH),
)  # fmt: skip


def sizes(variant: Variant, *, dry: bool) -> MultimodalConfig:
    """The 8B model with so many blocks, or a toy of the same make."""
    core = replace(
        LLAMA_CONFIGS["3.1-8b"],
        num_layers=variant.layers,
        activation_checkpointing=variant.checkpoint_core,
    )
    if dry:
        core = LlamaConfig(
            vocab_size=500, dim=64, num_layers=8, num_heads=4, num_kv_heads=2, ffn_dim=96,
            activation_checkpointing=variant.checkpoint_core,
        )  # fmt: skip
    if variant.medium == "image":
        whole = MULTIMODAL_CONFIGS["8b"]
        assert whole.image_encoder is not None
        encoder = replace(whole.image_encoder, activation_checkpointing=variant.checkpoint_encoder)
        if dry:
            encoder = replace(
                encoder, dim=32, num_layers=4, num_heads=2, ffn_dim=64, num_global_layers=1,
                intermediate_layers=(1,), image_size=28,
            )  # fmt: skip
        adapter = paper_adapter(core, feature_dim=encoder.feature_dim)
        assert whole.tiles is not None
        tiles = replace(whole.tiles, tile_size=encoder.image_size)
        return replace(
            whole, language=core, image_encoder=encoder, image_adapter=adapter, tiles=tiles
        )
    whole = MULTIMODAL_CONFIGS["8b-speech"]
    assert whole.speech_encoder is not None and whole.speech_encoder.conformer is not None
    conformer = replace(
        whole.speech_encoder.conformer, activation_checkpointing=variant.checkpoint_encoder
    )
    speech_adapter = whole.speech_adapter
    if dry:
        assert speech_adapter is not None
        conformer = replace(conformer, dim=32, num_layers=2, num_heads=2, ffn_dim=48)
        speech_adapter = replace(
            speech_adapter, input_dim=32, output_dim=64, dim=32, ffn_dim=48, num_heads=2
        )
    speech_encoder = replace(whole.speech_encoder, conformer=conformer)
    return replace(
        whole, language=core, speech_encoder=speech_encoder, speech_adapter=speech_adapter
    )


def random_model(config: MultimodalConfig, device: torch.device) -> MultimodalLlama:
    """A model with random weights: the core in bfloat16, the rest in float32."""
    with torch.device("meta"):
        model = MultimodalLlama(config)
    model.language.to(torch.bfloat16)
    model.to_empty(device=device)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.5 * parameter.shape[-1] ** -0.5)
        else:
            nn.init.constant_(parameter, 0.5)
    return model


def training_of(model: MultimodalLlama, variant: Variant) -> NextTokenTraining:
    """The training of the image or the speech adapter, on a model that is on no disk."""
    parts: Any
    if variant.medium == "image":
        kind, parts = ImageAdapterTraining, ModelParts(core="none", image_encoder="none")
    else:
        kind, parts = SpeechTraining, SpeechParts(core="none", speech_encoder="none")
    module = kind(
        parts=parts,
        optimizer=AdamWConfig(learning_rate=1e-5),
        schedule=ScheduleConfig(),
        train=variant.train,
        compile=variant.compile,
    )
    module.build_model = lambda: model  # type: ignore[method-assign]
    return module


def some_rows(config: MultimodalConfig, variant: Variant, *, dry: bool) -> Batch:
    """Random rows: the paper's 192 tokens beside a picture of four tiles, or 12 s of speech."""
    rows = 2 if dry else variant.rows
    vocabulary = config.language.vocab_size
    if variant.medium == "image":
        assert config.image_encoder is not None
        size, tokens = config.image_encoder.image_size, 192
        text = torch.randint(vocabulary, (rows, tokens))
        text[:, 0] = vocabulary  # the picture's place
        return Batch(
            tokens=text,
            lengths=torch.full((rows,), tokens),
            targets=torch.randint(vocabulary, (rows, tokens)),
            images=Images(
                tiles=torch.randn(4 * rows, 3, size, size),
                arrangements=torch.full((rows, 2), 2),
                rows=torch.arange(rows),
            ),
            visible=torch.ones(rows, tokens, 1, dtype=torch.bool),
        )
    seconds = 1 if dry else 12
    heard = -(-25 * seconds // 2) + 2  # a frame for every 40 ms, halved; and the two ends
    tokens = heard + 48
    spoken = torch.zeros(rows, tokens, dtype=torch.bool)
    spoken[:, :heard] = True
    targets = torch.randint(vocabulary, (rows, tokens)).masked_fill(spoken, -100)
    return Batch(
        tokens=torch.randint(vocabulary, (rows, tokens)),
        lengths=torch.full((rows,), tokens),
        targets=targets,
        recordings=Recordings(
            waveforms=0.1 * torch.randn(rows, 16_000 * seconds),
            lengths=torch.full((rows,), 16_000 * seconds),
            rows=torch.arange(rows),
        ),
        spoken=spoken,
    )


def measure(
    variant: Variant,
    *,
    device: torch.device,
    steps: int,
    micro_batches: int,
    dry: bool,
    profile: Path | None = None,
) -> dict[str, Any]:
    """Time optimizer steps of one variant after one that does not count."""
    torch.manual_seed(0)
    config = sizes(variant, dry=dry)
    module = training_of(random_model(config, device), variant)
    module.configure_model()
    optimizer = adamw(module.trainable(), module.optimizer_config)
    if not variant.frozen_aware:
        module.model.requires_grad_(True)
    batch = some_rows(config, variant, dry=dry).to(device)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def step() -> None:
        for _ in range(micro_batches):
            with torch.autocast(device.type, torch.bfloat16):
                total, count = module.loss(batch)
            (total / count / micro_batches).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        module.model.zero_grad()

    wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    began = time.perf_counter()
    step()
    wait()
    first = time.perf_counter() - began
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        wait()
        seconds.append(time.perf_counter() - start)
    if profile is not None:
        with torch.profiler.profile() as found:
            step()
            wait()
        order = f"self_{device.type}_time_total"
        table = found.key_averages().table(sort_by=order, row_limit=40, max_name_column_width=90)
        with profile.open("a") as file:
            file.write(f"{variant.name}\n{table}\n")
    median = statistics.median(seconds)
    work = module.work(batch)
    flops = float(work.flops) * micro_batches
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    peak = peak_flops(name)
    return asdict(variant) | {
        "parameters": sum(parameter.numel() for parameter in module.model.parameters()),
        "trained": sum(parameter.numel() for parameter in trained),
        "micro_batches": micro_batches,
        "first_step_s": round(first, 2),
        "step_s": round(median, 4),
        "step_s_least_most": [round(min(seconds), 4), round(max(seconds), 4)],
        "samples_per_s": round(int(work.samples) * micro_batches / median, 2),
        "teraflop_per_step": round(flops / 1e12, 2),
        "mfu": None if peak is None else round(flops / median / peak, 4),
        "memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 1) if peak else None,
    }


def row(found: dict[str, Any]) -> str:
    """One row of a Markdown table."""
    if "error" in found:
        return f"| {found['name']} | {found['layers']} | {found['rows']} | {found['error']} |"
    mfu = "" if found["mfu"] is None else f"**{100 * found['mfu']:.1f} %**"
    return (
        f"| {found['name']} | {found['layers']} | {found['rows']} | {found['step_s']:.3f} "
        f"| {found['samples_per_s']:.1f} | {found['memory_gb']} | {mfu} |"
    )


def main() -> None:
    """Measure the variants whose names hold ``--only``, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.h100", description=__doc__)
    parser.add_argument("--only", default="", help="variants whose names hold this")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--micro-batches", type=int, default=4)
    parser.add_argument("--dry-run", action="store_true", help="toy sizes, on any machine")
    parser.add_argument("--output", type=Path, help="where the record goes, as JSON")
    parser.add_argument("--profile", type=Path, help="where tables of kernels go")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    record: dict[str, Any] = {
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "variants": [],
    }
    print(record["machine"], end="\n\n")
    print("| variant | core blocks | rows | step, s | samples/s | memory, GB | MFU |")
    print("|---|---|---|---|---|---|---|")
    for variant in VARIANTS:
        if options.only not in variant.name:
            continue
        try:
            found = measure(
                variant,
                device=device,
                steps=options.steps,
                micro_batches=options.micro_batches,
                dry=options.dry_run,
                profile=options.profile,
            )
        except torch.OutOfMemoryError:
            found = asdict(variant) | {"error": "does not fit"}
        record["variants"].append(found)
        print(row(found), flush=True)
        if options.output:
            options.output.write_text(json.dumps(record, indent=1) + "\n")
        torch.compiler.reset()
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
