"""States are whole under every layout: written by one, gone on with by another."""

import itertools
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from language.errors import InputError
from multimodal.training.parallel.pieces import Pieces
from tests.multimodal.training.parallel.layouts import Case, run
from tests.multimodal.training.parallel.test_layouts import LAYOUTS
from tests.multimodal.training.test_ranks import write_parts

ORDER = [
    ("pp2-tp2", "dp2"),
    ("dp2", "one"),
    ("one", "pp2-tp2"),
    ("pp2-tp2", "tp2"),
    ("one", "pp2-fsdp2"),
    ("pp2-fsdp2", "fsdp2-tp2"),
    ("fsdp2-tp2", "hsdp"),
]


def case(kind: str, layout: str, name: str, **more) -> Case:
    processes, strategy = LAYOUTS.get(layout, (1, {}))
    return Case(name=name, kind=kind, processes=processes, strategy=strategy, **more)


@pytest.mark.parametrize("kind", ["pictures", "text"])
def test_another_layout_goes_on_as_the_first_would_have(core, encoder, tmp_path: Path, kind: str):
    write_parts(tmp_path, kind, core=core, encoder=encoder)
    wrote = {layout for layout, _ in ORDER}
    every = [case(kind, layout, layout, save=True) for layout in sorted(wrote)]
    every += [case(kind, layout, layout + "-again", resume=layout) for layout in sorted(wrote)]
    every += [case(kind, new, f"{old}-{new}", resume=old) for old, new in ORDER]
    found = run(every, tmp_path)
    for layout in wrote:  # the same layout: to the last bit
        whole, again = found[layout], found[layout + "-again"]
        assert again.losses == whole.losses[1:] and again.norms == whole.norms[1:]
        assert all(torch.equal(again.weights[n], weight) for n, weight in whole.weights.items())
    for old, new in ORDER:
        whole, other = found[old], found[f"{old}-{new}"]
        assert other.losses == pytest.approx(whole.losses[1:], rel=1e-5)
        for name, weight in whole.weights.items():
            torch.testing.assert_close(other.weights[name], weight, atol=1e-5, rtol=1e-5)

    # Each of two data ranks has, and writes, its own half of weights and moments.
    halves = sorted((tmp_path / "dp2" / "checkpoints" / "step-1").glob("pieces-*"))
    held = [set(load_file(half)) for half in halves]
    assert len(held) == 2 and not held[0] & held[1]
    names = {f"exp_avg/{name}" for name in found["dp2"].weights}
    assert names == {key for some in held for key in some if key.startswith("exp_avg/")}

    # Of a matrix that is cut both ways each process writes its own quarter.
    quarters = sorted((tmp_path / "fsdp2-tp2" / "checkpoints" / "step-1").glob("pieces-*"))
    name = next(n for n in found["dp2"].weights if n.endswith("attention.output.weight"))
    rows, columns = found["dp2"].weights[name].shape
    for part in map(load_file, quarters):
        assert part[f"exp_avg/{name}"].shape == (rows // 2, columns // 2)
    assert len(quarters) == 4

    folder = tmp_path / "pp2-tp2" / "checkpoints" / "step-1"
    pieces = Pieces(folder)
    assert sorted(found["pp2-tp2"].weights) == pieces.names
    name = next(n for n in pieces.names if n.endswith("attention.query.weight"))
    key = f"weight/{name}"
    whole = pieces.read(key)
    rows, columns = whole.shape
    for top, left in itertools.product((0, 5, rows // 2 - 1), (0, 3)):
        shape = (rows - top - 1, columns - left)
        inner = pieces.read(key, start=(top, left), shape=shape)
        assert torch.equal(inner, whole[top : rows - 1, left:])

    lacking = tmp_path / "lacking"
    shutil.copytree(folder, lacking)
    (lacking / "pieces-00001.safetensors").unlink()
    with pytest.raises(InputError, match="holds not all of"):
        Pieces(lacking).read(key)
    (lacking / "pieces-00000.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="damaged"):
        Pieces(lacking)
    with pytest.raises(InputError, match="no pieces"):
        Pieces(tmp_path)
