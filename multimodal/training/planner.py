"""What a training would cost on so many GPUs, said before it is begun (paper section 7.3).

The operations of a sample are counted from the config (`multimodal.training.flops`), memory from
the sizes of what each process holds. Time is a model: operations at the share of the peak that
products reach, a constant for each weight that trains and micro-batch, the bubble of the pipeline,
the imbalance of its stages, and messages at the speed of the links. Its constants are fitted to
measured steps of one H100 (``benchmarks/results``); links were never measured.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product

import torch

from language.flops import block_weights, causal_pairs, core_flops
from multimodal.batch import Recordings
from multimodal.config import MultimodalConfig
from multimodal.model import MultimodalLlama
from multimodal.training.devices import Device
from multimodal.training.flops import Trained, adapter_flops, hearing_flops
from multimodal.training.parallel.layout import SENSES
from multimodal.training.parallel.stages import block_costs, positions, split
from speech.audio import SAMPLE_RATE
from vision.flops import encoder_flops

SHARE_OF_PEAK = 0.50
"""Of the device's peak, in what grows with the rows of a micro-batch; fitted."""
SECONDS_PER_WEIGHT = 44.5e-12
"""For each weight that trains and micro-batch: casts, sums of gradients, the optimizer; fitted."""
BYTES_PER_WEIGHT = {"frozen": 2, "trained": 10, "moments": 8}
"""bfloat16; float32 with its gradient and a copy in bfloat16; two moments, over all data ranks."""
KEPT = {"core": 48, "encoder": 38}
"""Bytes kept for the backward pass by token and width of a block; fitted."""
RECOMPUTED = 4
"""The same where blocks are recomputed: their input alone."""
ROOM = 0.92
"""Share of a device's memory that may be taken."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The sample that a plan reckons with; by default the paper's text, four tiles, or 12 s."""

    tokens: int = 192
    targets: int = 0
    """Tokens that carry loss; 0 is all."""
    tiles: int = 4
    seconds: float = 12.0


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Operations of a sample by where they are done."""

    walk: float
    """Over the core's blocks and the layers between them."""
    senses: float
    """In encoders and projections."""

    @property
    def total(self) -> float:
        """Of both."""
        return self.walk + self.senses


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a training asks for, whatever the layout."""

    config: MultimodalConfig
    sample: Sample
    needed: Operations
    """Forward and backward, as the model needs them."""
    forward: Operations
    """Forward alone."""
    again: Operations
    """What activation checkpointing does a second time."""
    frozen: dict[str, int]
    """Frozen weights: of the "walk", of "senses", of the "tables" of the vocabulary."""
    trained: dict[str, int]
    """The same of what trains."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How processes share the work."""

    pipeline: int
    tensor: int
    data: int
    rows: int
    """Samples of a micro-batch."""
    micro_batches: int
    shards: int = 1
    """Data ranks over which weights of the walk are cut."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a layout would come to."""

    layout: Layout
    seconds: float
    """Of an optimizer step."""
    parts: dict[str, float]
    """Seconds of compute, weights, bubble, and messages of tensor, pipeline and data ranks and of
    shards."""
    memory: dict[str, float]
    """Bytes of the fullest device: frozen weights, those that train, moments, layers that are put
    together, what is kept."""
    imbalance: float
    """What the slowest stage takes of the mean."""
    mfu: float
    why_not: str = ""
    """Why it cannot be; "" if it fits."""


def workload(config: MultimodalConfig, patterns: Sequence[str], sample: Sample) -> Workload:
    """Count what training the parts whose names match asks for.

    Raises:
        ValueError: a model with video parts, or one with no image encoder and no Conformer.
    """
    if config.video_aggregator is not None:
        raise ValueError("plans are made for trainings on pictures and on recordings, not on clips")
    with torch.device("meta"):
        model = MultimodalLlama(config)
    frozen = dict.fromkeys(("walk", "senses", "tables"), 0)
    trained = dict(frozen)
    parts = set()
    for name, parameter in model.named_parameters():
        kind = "walk"
        if any(fnmatchcase(name, pattern) for pattern in SENSES):
            kind = "senses"
        elif "embedding" in name or name == "language.head.weight":
            kind = "tables"
        trains = any(fnmatchcase(name, pattern) for pattern in patterns)
        (trained if trains else frozen)[kind] += parameter.numel()
        parts |= {name.split(".")[0]} if trains else set()
    core = config.language
    tokens = torch.tensor(float(sample.tokens))
    targets = torch.tensor(float(sample.targets or sample.tokens))
    pairs = causal_pairs(torch.tensor([sample.tokens]))
    if config.image_encoder is not None and config.image_adapter is not None:
        encoder, adapter = config.image_encoder, config.image_adapter
        tiles = torch.tensor([[1, sample.tiles]])
        chosen = Trained(
            **{p: p in parts for p in ("image_encoder", "image_adapter", "extra_embedding")}
        )
        features = sample.tiles * encoder.num_tokens
        seen = {
            "seeing": tokens,
            "features": torch.tensor(features),
            "pairs": tokens * features,
        }
        lowest = 0 if chosen.extra_embedding else min(adapter.positions)
        projection = 2.0 * adapter.feature_dim * adapter.dim * features
        passes = 1 + chosen.image_adapter + chosen.image_encoder
        nothing = Trained(image_encoder=False, image_adapter=False, extra_embedding=False)
        sensing = float(encoder_flops(encoder, tiles, trained=chosen.image_encoder))
        sensing_forward = float(encoder_flops(encoder, tiles, trained=False))
        layers = float(adapter_flops(adapter, **seen, trained=chosen)) - passes * projection
        layers_forward = float(adapter_flops(adapter, **seen, trained=nothing)) - projection
        sensing += passes * projection
        sensing_forward += projection
        checkpointed = encoder.activation_checkpointing
    elif config.speech_encoder is not None and config.speech_encoder.conformer is not None:
        samples = torch.tensor([int(sample.seconds * SAMPLE_RATE)])
        heard = Recordings(waveforms=samples, lengths=samples, rows=torch.zeros(1).long())
        sensing = float(hearing_flops(model, heard, trained=parts))
        sensing_forward = float(hearing_flops(model, heard, trained=()))
        layers = layers_forward = 0.0
        lowest = 0
        checkpointed = config.speech_encoder.conformer.activation_checkpointing
    else:
        raise ValueError("plans are made for trainings on pictures and on recordings")
    walk = float(
        core_flops(core, tokens=tokens, pairs=pairs, logits=targets, trained=False,
                   first_block=lowest)
    )  # fmt: skip
    blocks_forward = core.num_layers * float(
        2 * block_weights(core) * tokens + 4 * core.num_heads * core.head_dim * pairs
    )
    forward = Operations(walk=blocks_forward + layers_forward, senses=sensing_forward)
    return Workload(
        config=config,
        sample=sample,
        needed=Operations(walk=walk + layers, senses=sensing),
        forward=forward,
        again=Operations(
            walk=forward.walk if core.activation_checkpointing else 0.0,
            senses=forward.senses if checkpointed else 0.0,
        ),
        frozen=frozen,
        trained=trained,
    )


def forecast(work: Workload, layout: Layout, device: Device) -> Forecast:
    """Reckon time and memory of a layout."""
    plane = layout.pipeline * layout.tensor
    rows = layout.rows * layout.micro_batches  # of a data rank
    stages = split(
        block_costs(work.config),
        layout.pipeline,
        ends=positions(work.config),
        num_blocks=work.config.language.num_layers,
    )
    imbalance = stages.imbalance if layout.pipeline > 1 else 1.0
    rate = SHARE_OF_PEAK * device.flops
    walk = rows * (work.needed.walk + work.again.walk) / plane / rate * imbalance
    senses = rows * (work.needed.senses + work.again.senses) / plane / rate
    mine = work.trained["senses"] + (work.trained["walk"] + work.trained["tables"]) / plane
    weights = layout.micro_batches * SECONDS_PER_WEIGHT * mine
    bubble = walk * (layout.pipeline - 1) / layout.micro_batches
    parts = {"compute": walk + senses, "weights": weights, "bubble": bubble}
    parts |= _messages(work, layout, device)
    seconds = sum(parts.values())
    gpus = plane * layout.data
    memory = _memory(work, layout)
    why_not = ""
    if sum(memory.values()) > ROOM * device.memory:
        why_not = f"{sum(memory.values()) / 1e9:.0f} GB of {ROOM * device.memory / 1e9:.0f}"
    return Forecast(
        layout=layout,
        seconds=seconds,
        parts=parts,
        memory=memory,
        imbalance=imbalance,
        mfu=rows * layout.data * work.needed.total / (seconds * gpus * device.flops),
        why_not=why_not,
    )


def _messages(work: Workload, layout: Layout, device: Device) -> dict[str, float]:
    """Seconds of messages, none of which is hidden behind work."""
    core, sample = work.config.language, work.sample
    hidden = 4.0 * layout.rows * sample.tokens * core.dim  # bytes of a micro-batch's states
    layers = core.num_layers + len(positions(work.config))
    sums = 4 + 2 * (work.again.walk > 0)  # two a layer forward and backward, and done again
    link = device.link if layout.tensor <= device.node else device.network
    tensor = (
        layout.micro_batches
        * layers
        / layout.pipeline
        * sums
        * _ring(layout.tensor)
        * hidden
        / link
    )
    within = layout.pipeline * layout.tensor <= device.node
    pipeline = 0.0
    if layout.pipeline > 1:
        hops = 2 * layout.micro_batches * hidden
        pipeline = hops / (device.link if within else device.network)
    if layout.pipeline * layout.tensor > 1 and work.config.image_encoder is not None:
        features = sample.tiles * work.config.image_encoder.num_tokens * core.dim
        given = 2 * 2.0 * layout.rows * layout.micro_batches * features
        pipeline += given / (device.link if within else device.network)
    plane, shards = layout.pipeline * layout.tensor, layout.shards
    trained, frozen = work.trained["walk"] / plane, work.frozen["walk"] / plane
    whole = work.trained["senses"] + work.trained["tables"] / plane
    near = plane * layout.data <= device.node
    data = 4.0 * (_ring(layout.data) * whole + _ring(layout.data // shards) * trained / shards)
    data /= device.link if near else device.network
    # Put together forward and backward; gradients are summed as they arrive.
    moved = layout.micro_batches * _ring(shards) / 2 * (2 * 2 * frozen + 3 * 4 * trained)
    cut = moved / (device.link if plane * shards <= device.node else device.network)
    return {"tensor": tensor, "pipeline": pipeline, "data": data, "shards": cut}


def _ring(ranks: int) -> float:
    """How often each byte is sent when so many ranks sum, and all get the sum."""
    return 2 * (ranks - 1) / ranks


def _memory(work: Workload, layout: Layout) -> dict[str, float]:
    """Bytes of the fullest device."""
    plane = layout.pipeline * layout.tensor
    core, sample = work.config.language, work.sample

    def walked(counts: dict[str, int]) -> float:
        return counts["walk"] / plane / layout.shards

    def whole(counts: dict[str, int]) -> float:
        tables = counts["tables"] / (layout.tensor if layout.pipeline == 1 else 1) / 2
        tables = counts["tables"] if plane == 1 else tables  # one of two, or the cut head
        return tables + counts["senses"]

    def weights(counts: dict[str, int]) -> float:
        return walked(counts) + whole(counts)

    rows = layout.rows * layout.micro_batches
    flight = layout.rows * min(layout.micro_batches, layout.pipeline)
    kept = RECOMPUTED if work.again.walk else KEPT["core"]
    layers = core.num_layers + len(positions(work.config))
    walk = flight * sample.tokens * core.dim * (kept * layers / plane + KEPT["core"])
    # Without a plane each micro-batch goes back through its encoder before the next one begins.
    held = layout.rows if plane == 1 else rows / plane
    senses = 0.0
    if work.config.image_encoder is not None:
        encoder = work.config.image_encoder
        blocks = encoder.num_layers + encoder.num_global_layers
        kept = RECOMPUTED if work.again.senses else KEPT["encoder"]
        wide = 10 * encoder.feature_dim + 6 * core.dim
        token = encoder.dim * (kept * blocks + KEPT["encoder"]) + wide
        senses = held * sample.tiles * encoder.num_tokens * token
    elif work.config.speech_encoder is not None:
        conformer = work.config.speech_encoder.conformer
        assert conformer is not None
        kept = RECOMPUTED if work.again.senses else 2 * KEPT["encoder"]
        frames = 25 * sample.seconds
        senses = held * frames * conformer.dim * kept * conformer.num_layers
    together = 0.0
    if layout.shards > 1:  # two layers at once: one that runs, and the next
        together = 2 * sum(
            BYTES_PER_WEIGHT[kind] * counts["walk"] / layers / layout.tensor
            for kind, counts in (("frozen", work.frozen), ("trained", work.trained))
        )
    moments = whole(work.trained) / layout.data + walked(work.trained) / (
        1 if layout.shards > 1 else layout.data
    )
    return {
        "frozen": BYTES_PER_WEIGHT["frozen"] * weights(work.frozen),
        "trained": BYTES_PER_WEIGHT["trained"] * weights(work.trained),
        "moments": BYTES_PER_WEIGHT["moments"] * moments,
        "together": together,
        "kept": walk + senses,
    }


def layouts(work: Workload, *, gpus: int, global_batch: int, device: Device) -> Iterator[Layout]:
    """Layouts of so many devices: matrices within a node, at least one row a micro-batch.

    Weights are whole on data ranks, cut over those of a node, or cut over all.
    """
    core = work.config.language
    for tensor in (1, 2, 4, 8, 16):
        if tensor > device.node or core.num_kv_heads % tensor:
            continue
        for pipeline in range(1, min(core.num_layers, gpus) + 1):
            if gpus % (tensor * pipeline):
                continue
            data = gpus // (tensor * pipeline)
            if pipeline > len(positions(work.config)) + 1 or global_batch % data:
                continue
            share = global_batch // data
            within = device.node // (pipeline * tensor)
            cuts = {1, data} | ({within} if within and data % within == 0 else set())
            for rows, shards in product((1, 2, 4, 8, 16, 32), sorted(cuts)):
                if share % rows == 0 and share // rows >= pipeline:
                    yield Layout(
                        pipeline=pipeline,
                        tensor=tensor,
                        data=data,
                        rows=rows,
                        micro_batches=share // rows,
                        shards=shards,
                    )


def plan(
    work: Workload, *, gpus: int, global_batch: int, device: Device
) -> tuple[list[Forecast], list[Forecast]]:
    """All layouts: those that fit, the fastest first, and those that do not.

    Args:
        work: of the training.
        gpus: devices.
        global_batch: samples of an optimizer step.
        device: kind of GPU.
    """
    every = [
        forecast(work, layout, device)
        for layout in layouts(work, gpus=gpus, global_batch=global_batch, device=device)
    ]
    fits = sorted((f for f in every if not f.why_not), key=lambda f: f.seconds)
    return fits, sorted((f for f in every if f.why_not), key=lambda f: sum(f.memory.values()))
