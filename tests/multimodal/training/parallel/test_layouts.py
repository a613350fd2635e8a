"""Every layout of processes trains what one process trains: losses, norms, weights."""

from pathlib import Path

import pytest
import torch

from tests.multimodal.training.parallel.layouts import Case, Outcome, run
from tests.multimodal.training.test_ranks import write_parts

LAYOUTS = {
    "pp2": (2, {"pipeline": 2, "micro_batches": 4}),
    "tp2": (2, {"tensor": 2, "micro_batches": 2}),
    "dp2": (2, {}),
    "pp2-tp2": (4, {"pipeline": 2, "tensor": 2, "micro_batches": 4}),
    "pp2-dp2": (4, {"pipeline": 2, "micro_batches": 2}),
    "dp2-tp2": (4, {"tensor": 2}),
    "pp2-dp2-tp2": (8, {"pipeline": 2, "tensor": 2, "micro_batches": 2}),
}
SHORT = ("pp2", "tp2", "dp2", "pp2-tp2")
SPLIT = {  # rows of 12, 7 and 20 tokens do not all divide
    "sp2": (2, {"tensor": 2, "micro_batches": 2, "split_text": True}),
    "pp2-sp2": (4, {"pipeline": 2, "tensor": 2, "micro_batches": 4, "split_text": True}),
}
# Micro-batches of one row: where one data rank has a picture another one may have none.
SHARDED = {
    "fsdp2": (2, {"shards": 2, "micro_batches": 4}),
    "pp2-fsdp2": (4, {"pipeline": 2, "shards": 2, "micro_batches": 4}),
}
EVERY_SHARDED = {
    "frozen-whole": (2, {"shards": 2, "shard_frozen": False}),
    "hsdp": (4, {"shards": 2}),
    "fsdp2-tp2": (4, {"tensor": 2, "shards": 2, "micro_batches": 2}),
    "looped": (
        4,
        {
            "pipeline": 2, "shards": 2, "micro_batches": 2, "schedule": "looped",
            "stages_per_rank": 2,
        },
    ),
    "pp2-fsdp2-tp2": (8, {"pipeline": 2, "tensor": 2, "shards": 2, "micro_batches": 2}),
}  # fmt: skip
LAYOUTS |= SHARDED | EVERY_SHARDED | SPLIT


SEEN: list[list[float]] = []


def cases(kind: str, names, **more) -> list[Case]:
    one = Case(name=f"{kind}-one", kind=kind, **more)
    return [one] + [
        Case(name=f"{kind}-{name}", kind=kind, processes=LAYOUTS[name][0],
             strategy=LAYOUTS[name][1], **more)
        for name in names
    ]  # fmt: skip


def check(one: Outcome, other: Outcome, *, tolerance: float = 1e-5, same_rows: bool = True) -> None:
    assert one.losses and one.losses[0] != one.losses[-1] and any(one.norms)
    note_worst(one, other)
    assert other.losses == pytest.approx(one.losses, rel=tolerance)
    assert other.norms == pytest.approx(one.norms, rel=10 * tolerance)
    assert "val/loss" in one.measured
    # Media are exchanged within what a data rank reads.
    compared = [name for name in one.measured if same_rows or "_without" in name]
    for name in ("val/loss", *compared):
        assert other.measured[name] == pytest.approx(one.measured[name], rel=tolerance)
    assert sorted(other.weights) == sorted(one.weights)
    for name, weight in one.weights.items():
        torch.testing.assert_close(other.weights[name], weight, atol=tolerance, rtol=tolerance)


@pytest.fixture(autouse=True)
def said(record_property):
    """What each comparison came to, for the line at the end: see conftest.py."""
    SEEN.clear()
    yield
    for worst in SEEN:
        record_property("worst", worst)


def note_worst(one: Outcome, other: Outcome) -> None:
    """How far losses and norms, by their size, and weights were from one process's."""
    pairs = [*zip(one.losses, other.losses, strict=True)]
    norms = [*zip(one.norms, other.norms, strict=True)]
    weights = [float((other.weights[name] - w).abs().max()) for name, w in one.weights.items()]
    SEEN.append(
        [max(abs(a - b) / max(abs(a), 1e-12) for a, b in some) for some in (pairs, norms)]
        + [max(weights)]
    )


@pytest.mark.parametrize("kind", ["pictures", "clips", "recordings", "text"])
def test_layouts_are_as_one_process(core, encoder, tmp_path: Path, kind: str):
    write_parts(tmp_path, kind, core=core, encoder=encoder)
    found = run(cases(kind, SHORT), tmp_path)
    one = found.pop(f"{kind}-one")
    for name, other in found.items():
        check(one, other, same_rows="dp" not in name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pictures", "clips", "recordings", "text"])
def test_every_product_of_layouts(core, encoder, tmp_path: Path, kind: str):
    write_parts(tmp_path, kind, core=core, encoder=encoder)
    names = [name for name in LAYOUTS if name not in {*SHORT, *SHARDED, *EVERY_SHARDED, *SPLIT}]
    found = run(cases(kind, names), tmp_path)
    one = found.pop(f"{kind}-one")
    for name, other in found.items():
        check(one, other, same_rows="dp" not in name)


@pytest.mark.parametrize("kind", ["pictures", "clips", "recordings", "text"])
def test_tokens_split_over_tensor_ranks(core, encoder, tmp_path: Path, kind: str):
    write_parts(tmp_path, kind, core=core, encoder=encoder)
    more = {} if kind == "recordings" else {"settings": {"lengths": (12, 7, 20)}}
    every = cases(kind, SPLIT, **more)
    strategy = SPLIT["sp2"][1] | {"shards": 2}
    every.append(
        Case(name="shards", kind=kind, processes=4, strategy=strategy, checkpointing=True, **more)
    )
    found = run(every, tmp_path)
    one = found.pop(f"{kind}-one")
    for name, other in found.items():
        check(one, other, same_rows=name != "shards")


@pytest.mark.parametrize("kind", ["pictures", "clips", "recordings", "text"])
def test_weights_cut_over_data_ranks(core, encoder, tmp_path: Path, kind: str):
    write_parts(tmp_path, kind, core=core, encoder=encoder)
    every = cases(kind, SHARDED) + [
        Case(name="again", kind=kind, processes=2, strategy={"shards": 2}, checkpointing=True)
    ]
    found = run(every, tmp_path)
    one = found.pop(f"{kind}-one")
    for other in found.values():
        check(one, other, same_rows=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pictures", "clips", "recordings", "text"])
def test_weights_cut_over_data_ranks_in_every_layout(core, encoder, tmp_path: Path, kind: str):
    write_parts(tmp_path, kind, core=core, encoder=encoder)
    names = list(EVERY_SHARDED)
    if kind == "recordings":
        names.remove("looped")  # its core has 3 blocks
    if kind == "text":
        names.remove("frozen-whole")  # nothing is frozen
    found = run(cases(kind, names), tmp_path)
    one = found.pop(f"{kind}-one")
    for name, other in found.items():
        if "hsdp" in name:  # a rank that reads one picture has none to compare it with
            other.measured.update({k: v for k, v in one.measured.items() if k != "val/loss"})
        check(one, other, same_rows=False)


SCHEDULES = {
    "gpipe": {"pipeline": 2, "micro_batches": 4, "schedule": "gpipe"},
    "1f1b": {"pipeline": 2, "micro_batches": 8, "schedule": "1f1b"},
    "interleaved": {
        "pipeline": 2, "micro_batches": 4, "schedule": "interleaved", "stages_per_rank": 2,
    },
    "looped": {"pipeline": 2, "micro_batches": 2, "schedule": "looped", "stages_per_rank": 2},
    "first": {"pipeline": 2, "micro_batches": 4, "encoders": "first"},
}  # fmt: skip


@pytest.mark.parametrize("kind", ["pictures", "recordings"])
def test_every_schedule_and_both_places_of_encoders(core, encoder, tmp_path: Path, kind: str):
    write_parts(tmp_path, kind, core=core, encoder=encoder)
    one = Case(name="one", kind=kind)
    others = [
        Case(name=name, kind=kind, processes=2, strategy=strategy)
        for name, strategy in SCHEDULES.items()
        if kind == "pictures" or "stages_per_rank" not in strategy  # the other core has 3 blocks
    ]
    found = run([one, *others], tmp_path)
    for case in others:
        check(found["one"], found[case.name])


TRAINED = {
    "adapter": ("image_adapter.*",),
    "encoder": ("image_encoder.*",),
    "first-layer": ("image_adapter.layers.0.*",),
    "last-layer": ("image_adapter.layers.1.*",),
    "projection": ("image_adapter.projection.*",),
    "tokens": ("extra_embedding.*",),
    "gates": ("image_adapter.layers.*_gate",),
}


def test_whatever_trains(core, encoder, tmp_path: Path):
    """Also where a stage has nothing that trains, or gets no gradient back."""
    write_parts(tmp_path, "pictures", core=core, encoder=encoder)
    layouts = {
        "parts": {"pipeline": 2, "tensor": 2, "micro_batches": 4},
        "shards": {"pipeline": 2, "shards": 2, "micro_batches": 4},
    }
    every = []
    for name, patterns in TRAINED.items():
        every.append(Case(name=f"{name}-one", train=patterns))
        for layout, strategy in layouts.items():
            case = Case(name=f"{name}-{layout}", train=patterns, processes=4, strategy=strategy)
            every.append(case)
    found = run(every, tmp_path)
    for name in TRAINED:
        for layout in layouts:
            check(found[f"{name}-one"], found[f"{name}-{layout}"], same_rows=layout == "parts")


@pytest.mark.parametrize("kind", ["pictures", "recordings"])
def test_bfloat16_with_float32_weights(core, encoder, tmp_path: Path, kind: str):
    """Hidden states travel in float32: what rounds is what rounds in one process."""
    write_parts(tmp_path, kind, core=core, encoder=encoder)
    found = run(cases(kind, ("pp2", "pp2-tp2", "fsdp2"), precision="bf16-mixed"), tmp_path)
    one = found.pop(f"{kind}-one")
    for other in found.values():
        assert {weight.dtype for weight in other.weights.values()} == {torch.float32}
        assert other.losses == pytest.approx(one.losses, rel=5e-3)
        assert other.norms == pytest.approx(one.norms, rel=5e-2)


def test_all_processes_leave_out_the_same_step(core, encoder, tmp_path: Path):
    write_parts(tmp_path, "pictures", core=core, encoder=encoder)
    names = ("dp2", "pp2-tp2", "fsdp2")
    found = run(cases("pictures", names, settings={"poisoned": 1}), tmp_path)
    one = found.pop("pictures-one")
    assert one.losses[1] == one.losses[0]  # the latest that was sound
    for name, other in found.items():
        check(one, other, same_rows="dp" not in name)


def test_text_alone_other_lengths_and_tied_embeddings(core, encoder, tmp_path: Path):
    """A step without any picture; steps of other widths; a table that first and last stage use."""
    write_parts(tmp_path, "pictures", core=core, encoder=encoder)
    layout = {"processes": 4, "strategy": {"pipeline": 2, "tensor": 2, "micro_batches": 4}}
    media = {"without_media": 1}
    lengths = {"lengths": (12, 7, 20)}
    every = [
        Case(name="media-one", settings=media),
        Case(name="media", settings=media, **layout),
        Case(name="lengths-one", settings=lengths),
        Case(name="lengths", settings=lengths, **layout),
        Case(name="tied-one", kind="text"),
        Case(name="tied", kind="text", **layout),
    ]
    found = run(every, tmp_path)
    for name in ("media", "lengths", "tied"):
        check(found[f"{name}-one"], found[name])
