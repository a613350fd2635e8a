"""The planner's curve: samples a second for each GPU, from 8 to 16,384 of them.

``python -m benchmarks.plan_curve docs/scale.png`` draws what `openherd plan` says of the best
layout of each number of H100s. It is a model and no measurement, and says so.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from multimodal.config import MultimodalConfig
from multimodal.training.devices import DEVICES
from multimodal.training.planned_model import planned_model
from multimodal.training.planner import Sample, plan, workload

CONFIGS = ("image/pretrain-8b.yaml", "image/pretrain-70b.yaml", "image/pretrain-405b.yaml")
COLOURS = ("#1f6fb4", "#d1611b", "#3c8a3c")
GPUS = tuple(2**power for power in range(3, 15))
BATCH = 16_384
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 760, 420, 80, 60, 50
Points = list[tuple[int, float]]


def curve(name: str) -> Points:
    """Samples a second for each GPU, at the numbers of GPUs on which the training fits."""
    _, config, patterns = planned_model(f"configs/{name}")
    assert isinstance(config, MultimodalConfig)
    work = workload(config, patterns, Sample())
    points = []
    for gpus in GPUS:
        fits, _ = plan(work, gpus=gpus, global_batch=BATCH, device=DEVICES["h100"])
        if fits:
            points.append((gpus, BATCH / fits[0].seconds / gpus))
    return points


def draw(curves: Sequence[tuple[str, Points]]) -> Image.Image:
    """All curves over logarithmic axes."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    rates = [rate for _, points in curves for _, rate in points]
    low, high = math.floor(math.log10(min(rates))), math.ceil(math.log10(max(rates)))

    def place(gpus: float, rate: float) -> tuple[float, float]:
        across = (math.log2(gpus) - 3) / 11
        up = (math.log10(rate) - low) / (high - low)
        return LEFT + across * (WIDTH - LEFT - 40), HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP)

    for gpus in GPUS[::2] + GPUS[-1:]:
        x, y = place(gpus, 10**low)
        pen.line([(x, y), place(gpus, 10**high)], fill="#e4e4e4")
        pen.text((x, y + 8), f"{gpus:,}", fill="black", font=font, anchor="ma")
    for power in range(low, high + 1):
        start = place(GPUS[0], 10**power)
        pen.line([start, place(GPUS[-1], 10**power)], fill="#e4e4e4")
        pen.text((start[0] - 8, start[1]), f"{10**power:g}", fill="black", font=font, anchor="rm")
    for (name, points), colour in zip(curves, COLOURS, strict=True):
        places = [place(*point) for point in points]
        pen.line(places, fill=colour, width=3)
        for x, y in places:
            pen.ellipse([(x - 3, y - 3), (x + 3, y + 3)], fill=colour)
        pen.text((places[-1][0], places[-1][1] - 10), name, fill=colour, font=font, anchor="rs")
    title = f"samples a second for each H100, {BATCH:,} a step: a model, not a measurement"
    pen.text((WIDTH / 2, 20), title, fill="black", font=font, anchor="mm")
    pen.text((WIDTH / 2, HEIGHT - 16), "GPUs", fill="black", font=font, anchor="mm")
    return image


def main() -> None:
    """Draw the curve into a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_curve", description=__doc__)
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    curves = [(Path(name).stem.removeprefix("pretrain-").upper(), curve(name)) for name in CONFIGS]
    for name, points in curves:
        print(name, ", ".join(f"{gpus:,}: {rate:.3g}" for gpus, rate in points))
    draw(curves).save(options.file)


if __name__ == "__main__":
    main()
