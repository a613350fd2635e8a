"""A report in one file that needs no network: figures, groups, the worst and best samples."""

import base64
import html
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from PIL import Image

from language.errors import InputError
from multimodal.evaluation.benchmark import Benchmark, Outcome
from multimodal.evaluation.predictions import Prediction
from multimodal.evaluation.results import Figure, Figures, Results, written
from vision.pictures import SUFFIXES, open_picture

FILE = "report.html"
SHOWN = 12
"""Samples of either end."""
EDGE = 240
"""Longer edge of a shown picture, in pixels."""
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1c2430;background:#fff;max-width:64rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}
p{margin:.3rem 0}.small{color:#566172;font-size:.875rem}
.figure{font-size:3rem;font-weight:600;line-height:1.1;margin:1rem 0 0}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #e3e7ec;vertical-align:top}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.bar{position:relative;height:.75rem;background:#eef1f5;border-radius:2px;min-width:9rem}
.bar i{position:absolute;height:100%;background:#9db7e8;border-radius:2px}
.bar b{position:absolute;width:2px;top:-2px;height:calc(100% + 4px);background:#1c2430}
.samples{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:1rem}
.sample{border:1px solid #e3e7ec;border-radius:6px;padding:.75rem;overflow-wrap:anywhere}
.sample img{max-width:100%;height:auto;display:block;margin:0 auto .5rem}
.right{color:#176236}.wrong{color:#a02018}
"""


def write_report(folder: Path, results: Results, content: dict[str, Any]) -> Path:
    """Write ``report.html``.

    Args:
        folder: of the run.
        results: what came of it.
        content: of ``metrics.json``.
    """
    benchmark, whole = results.benchmark, results.main.whole
    order = sorted(
        range(len(results.outcomes)), key=lambda i: _goodness(benchmark, results.outcomes[i])
    )
    worst, best = order[:SHOWN], order[::-1][: min(SHOWN, len(order) // 2)]
    body = [
        f"<h1>{_text(benchmark.title)}, {_text(content['split'])}</h1>",
        f'<p class="small">{_text(content["model"]["name"])} · {_text(benchmark.source)}</p>',
        f'<p class="figure">{whole.value:.1f}</p>',
        f"<p>{_text(benchmark.metric)}; 95 % interval {whole.low:.1f} to "
        f"{whole.high:.1f}, {whole.number:,} samples</p>",
        _table("Figures", results.main, paper=content["paper"]),
        *(_table(name, figures) for name, figures in results.further.items()),
        _confusion(results),
        "<h2>Worst samples</h2>",
        _samples(benchmark, results, worst),
        "<h2>Best samples</h2>" if best else "",
        _samples(benchmark, results, best),
        "<h2>How it was measured</h2>",
        _facts(content),
    ]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_text(benchmark.title)}: {whole.value:.1f}</title>"
        f"<style>{_STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )
    return written(folder / FILE, page)


def _goodness(benchmark: Benchmark, outcome: Outcome) -> float:
    """How good one sample is, by the metric of it alone; larger is better."""
    import numpy as np

    value = float(benchmark.total(np.array(outcome.sums)))
    return -value if benchmark.lower_is_better else value


def _table(name: str, figures: Figures, *, paper: Mapping[str, float] | None = None) -> str:
    """The figures of a metric, and those that the paper gives for it."""
    rows = [(figures.name, figures.whole)]
    rows += [
        (f"{what}: {group}", figure)
        for what, groups in figures.groups.items()
        for group, figure in groups.items()
    ]
    most = max(figures.most, *(figure.high for _, figure in rows))
    cells = "".join(
        f'<tr><td>{_text(what)}</td><td class="number">{figure.value:.1f}</td>'
        f'<td class="number">{figure.low:.1f} to {figure.high:.1f}</td>'
        f'<td class="number">{figure.number:,}</td><td>{_bar(figure, most)}</td></tr>'
        for what, figure in rows
    )
    published = "".join(
        f'<tr><td>paper, {_text(size)}</td><td class="number">{value:.1f}</td>'
        f"<td></td><td></td><td>{_bar(Figure(value=value, low=value, high=value, number=0), most)}"
        "</td></tr>"
        for size, value in (paper or {}).items()
    )
    head = (
        '<tr><th>samples</th><th class="number">value</th><th class="number">95 % interval</th>'
        '<th class="number">number</th><th>of the scale</th></tr>'
    )
    return f"<h2>{_text(name)}</h2><table>{head}{cells}{published}</table>"


def _confusion(results: Results) -> str:
    """How often each option was named where another, or it, was right; "" of open answers."""
    references = [prediction.references for prediction in results.predictions]
    if not all(isinstance(each, dict) and "options" in each for each in references):
        return ""
    most = max(len(each["options"]) for each in references)
    named = [*ascii_uppercase[:most], ""]
    pairs = Counter(
        (ascii_uppercase[each["right"]], outcome.answer)
        for each, outcome in zip(references, results.outcomes, strict=True)
    )
    head = "".join(f'<th class="number">{name or "none"}</th>' for name in named)
    rows = "".join(
        f"<tr><th>{right}</th>"
        + "".join(f'<td class="number">{pairs[right, name]:,}</td>' for name in named)
        + "</tr>"
        for right in named[:-1]
    )
    return f"<h2>Options: right, and named</h2><table><tr><th>right</th>{head}</tr>{rows}</table>"


def _bar(figure: Figure, most: float) -> str:
    low, high, value = (100 * x / most for x in (figure.low, figure.high, figure.value))
    return (
        f'<div class="bar" role="img" aria-label="{figure.value:.1f}">'
        f'<i style="left:{low:.2f}%;width:{max(high - low, 0.4):.2f}%"></i>'
        f'<b style="left:{min(value, 99.5):.2f}%"></b></div>'
    )


def _samples(benchmark: Benchmark, results: Results, chosen: Sequence[int]) -> str:
    boxes = "".join(_sample(benchmark, results.predictions[i], results.outcomes[i]) for i in chosen)
    return f'<div class="samples">{boxes}</div>'


def _sample(benchmark: Benchmark, prediction: Prediction, outcome: Outcome) -> str:
    value = abs(_goodness(benchmark, outcome))
    is_good = value < 10 if benchmark.lower_is_better else value >= 50
    kind = "right" if is_good else "wrong"
    pictures = "".join(_picture(path) for path in prediction.media)
    read = outcome.answer or "nothing could be read"
    return (
        f'<div class="sample">{pictures}<p class="small">{_text(prediction.key)}</p>'
        f"<p>{_text(prediction.about)}</p>"
        f'<p class="{kind}">{_text(prediction.answer) or "(no answer)"}</p>'
        f'<p class="small">read as: {_text(read)}<br>wanted: {_text(_wanted(prediction))}<br>'
        f"{value:.0f}</p></div>"
    )


def _wanted(prediction: Prediction) -> str:
    references = prediction.references
    if isinstance(references, dict) and "options" in references:
        return str(references["options"][references["right"]])
    if isinstance(references, dict):
        return str(references.get("text", references))
    if isinstance(references, list):
        return ", ".join(dict.fromkeys(map(str, references)))
    return str(references)


def _picture(path: str) -> str:
    """A small copy of a picture; nothing for another medium, or one that is gone."""
    if Path(path).suffix.lower() not in SUFFIXES:
        return f'<p class="small">{_text(Path(path).name)}</p>'
    try:
        picture: Image.Image = open_picture(path).convert("RGB")
    except (InputError, OSError):
        return f'<p class="small">{_text(Path(path).name)} is gone</p>'
    picture.thumbnail((EDGE, EDGE))
    stored = io.BytesIO()
    picture.save(stored, "JPEG", quality=80)
    data = base64.b64encode(stored.getvalue()).decode()
    width, height = picture.size
    return f'<img src="data:image/jpeg;base64,{data}" width="{width}" height="{height}" alt="">'


def _facts(content: dict[str, Any]) -> str:
    names = ("prompt", "normalizer", "decoding", "judge", "version", "settings", "model",
             "software", "note")  # fmt: skip
    rows = "".join(
        f"<tr><th>{name}</th><td>{_text(_flat(content[name]))}</td></tr>"
        for name in names
        if content[name]
    )
    return f"<table>{rows}</table>"


def _flat(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{name} {_flat(part)}" for name, part in value.items() if part not in ("", 0))


def _text(value: Iterable[str] | Any) -> str:
    return html.escape(str(value))
