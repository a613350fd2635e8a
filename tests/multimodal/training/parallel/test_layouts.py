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


def cases(kind: str, names, **more) -> list[Case]:
    one = Case(name=f"{kind}-one", kind=kind, **more)
    return [one] + [
        Case(name=f"{kind}-{name}", kind=kind, processes=LAYOUTS[name][0],
             strategy=LAYOUTS[name][1], **more)
        for name in names
    ]  # fmt: skip


def check(one: Outcome, other: Outcome, *, tolerance: float = 1e-5) -> None:
    assert one.losses and one.losses[0] != one.losses[-1]
    assert other.losses == pytest.approx(one.losses, rel=tolerance)
    assert other.norms == pytest.approx(one.norms, rel=10 * tolerance)
    assert sorted(other.weights) == sorted(one.weights)
    for name, weight in one.weights.items():
        torch.testing.assert_close(other.weights[name], weight, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("kind", ["pictures", "clips", "recordings", "text"])
def test_layouts_are_as_one_process(core, encoder, tmp_path: Path, kind: str):
    write_parts(tmp_path, kind, core=core, encoder=encoder)
    found = run(cases(kind, SHORT), tmp_path)
    one = found.pop(f"{kind}-one")
    for other in found.values():
        check(one, other)
