"""`openherd plan --config FILE --gpus N`: what a training would cost, and how to lay it out."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from language.errors import InputError
from multimodal.commands.options import new_parser, parse

if TYPE_CHECKING:
    from multimodal.training.planner import Forecast, Workload

SHOWN, REFUSED = 8, 4
"""Layouts that a table shows: of those that fit, and of those that do not."""


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status."""
    parser = new_parser(
        "plan",
        "Say what a training on pictures or recordings would cost on so many GPUs: operations, "
        "memory, and the layouts of processes in order of the time of a step. No weight is read. "
        "Times are a model, fitted to measured steps of one H100; messages were never measured.",
    )
    parser.add_argument("--config", type=str, required=True, help="a training config")
    parser.add_argument("--gpus", type=int, required=True, help="how many")
    parser.add_argument("--gpu", type=str, default="h100", help="which: h100, h200 or a100")
    parser.add_argument(
        "--global_batch", type=int, default=0, help="samples of a step; 0 is 32 for each GPU"
    )
    parser.add_argument("--tokens", type=int, default=192, help="text tokens of a sample")
    parser.add_argument("--tiles", type=int, default=4, help="tiles of its picture")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of its recording")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parse(parser, words)
    from multimodal.config import MultimodalConfig
    from multimodal.training.devices import DEVICES
    from multimodal.training.planned_model import planned_model
    from multimodal.training.planner import Sample, plan, workload

    if options.gpu not in DEVICES:
        raise InputError("--gpu", f"{options.gpu!r} is none of {', '.join(DEVICES)}")
    for name in ("gpus", "tokens", "tiles"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name}", f"must be 1 or more, not {getattr(options, name)}")
    if options.seconds <= 0:
        raise InputError("--seconds", f"must be above 0, not {options.seconds:g}")
    if options.global_batch < 0:
        raise InputError("--global_batch", f"must be 0 or more, not {options.global_batch}")
    _, config, patterns = planned_model(options.config)
    if not isinstance(config, MultimodalConfig):
        raise InputError(options.config, "trains an encoder alone: that is not planned for")
    sample = Sample(tokens=options.tokens, tiles=options.tiles, seconds=options.seconds)
    try:
        work = workload(config, patterns, sample)
    except ValueError as error:
        raise InputError(options.config, str(error)) from None
    batch = options.global_batch or 32 * options.gpus
    fits, others = plan(work, gpus=options.gpus, global_batch=batch, device=DEVICES[options.gpu])
    if options.json:
        print(json.dumps(_as_json(work, fits, others), ensure_ascii=False))
        return 0
    print("\n".join(_describe(options.config, work)))
    print(f"\n{options.gpus} x {options.gpu}, {batch:,} samples a step\n")
    if not fits:
        raise InputError(options.config, _nothing_fits(others, gpus=options.gpus, batch=batch))
    print("\n".join(_table(fits[:SHOWN])))
    if len(fits) > SHOWN:
        print(f"and {len(fits) - SHOWN} slower layouts that fit")
    if others:
        print(f"\n{len(others)} layouts do not fit, the nearest of them:")
        for other in others[:REFUSED]:
            print(f"  {_name(other)}: {other.why_not}")
    return 0


def _describe(what: str, work: "Workload") -> list[str]:
    frozen, trained = sum(work.frozen.values()), sum(work.trained.values())
    again = work.again.total / work.needed.total
    return [
        f"{what}: {frozen + trained:,} parameters, of which {trained:,} train",
        f"  {work.needed.total / 1e12:.1f} TFLOP a sample: {work.needed.senses / 1e12:.1f} in "
        f"encoders and projections, {work.needed.walk / 1e12:.1f} in the core and its adapter; "
        f"{again:.0%} more is done again to spare memory",
        f"  6 x parameters x text tokens would say "
        f"{6 * (frozen + trained) * work.sample.tokens / 1e12:.1f} TFLOP",
    ]


def _name(forecast: "Forecast") -> str:
    layout = forecast.layout
    return (
        f"pipeline {layout.pipeline} x data {layout.data} x tensor {layout.tensor}, "
        f"{layout.shards} shards, "
        f"{layout.micro_batches} micro-batches of {layout.rows}"
    )


def _table(forecasts: "Sequence[Forecast]") -> list[str]:
    columns = (
        "pipeline",
        "data",
        "tensor",
        "shards",
        "rows",
        "micro-batches",
        "step, s",
        "MFU",
        "GB",
    )
    rows: list[tuple[str, ...]] = [(*columns, "bubble", "imbalance", "messages")]
    for each in forecasts:
        layout, parts = each.layout, each.parts
        messages = sum(parts[kind] for kind in ("tensor", "pipeline", "data", "shards"))
        over = (layout.pipeline, layout.data, layout.tensor, layout.shards)
        rows.append(
            (
                *map(str, (*over, layout.rows, layout.micro_batches)),
                f"{each.seconds:.2f}",
                f"{each.mfu:.1%}",
                f"{sum(each.memory.values()) / 1e9:.0f}",
                f"{parts['bubble'] / each.seconds:.1%}",
                f"{each.imbalance:.2f}",
                f"{messages / each.seconds:.1%}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]


def _nothing_fits(others: "Sequence[Forecast]", *, gpus: int, batch: int) -> str:
    if not others:
        return f"no layout of {gpus} GPUs divides {batch:,} samples"
    nearest = others[0]
    return f"no layout of {gpus} GPUs fits; the nearest, {_name(nearest)}, takes {nearest.why_not}"


def _as_json(
    work: "Workload", fits: "Sequence[Forecast]", others: "Sequence[Forecast]"
) -> dict[str, Any]:
    return {
        "parameters": {"frozen": work.frozen, "trained": work.trained},
        "flops": {name: asdict(getattr(work, name)) for name in ("needed", "forward", "again")},
        "layouts": [asdict(forecast) for forecast in (*fits, *others)],
    }
