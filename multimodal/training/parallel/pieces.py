"""Training state in pieces, which any layout can be resumed from.

Each process writes what it alone has of the weights that train and of the optimizer's moments, as
safetensors: whole tensors, or equal parts of them along one dimension. A process that resumes reads
of all files what its own place in its own layout needs.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from language.errors import InputError
from multimodal.training.parallel.gradients import Placed
from multimodal.training.parallel.mesh import Mesh

WEIGHT = "weight"
"""Kind of a parameter itself; an optimizer's kinds are its own names, such as "exp_avg"."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Which part of a tensor a piece is."""

    along: int | None
    """Dimension along which it is cut; None if it is whole."""
    part: int = 0
    parts: int = 1

    def within(self, size: int) -> range:
        """Entries of a dimension of ``size`` that the part has."""
        share = size // self.parts
        return range(self.part * share, (self.part + 1) * share)


def file_name(mesh: Mesh) -> str:
    """File of this process's pieces."""
    return f"pieces-{mesh.data.rank * mesh.plane.size + mesh.plane.rank:05d}.safetensors"


def own_pieces(
    placed: list[Placed], optimizer: Optimizer | None, mesh: Mesh
) -> Iterator[tuple[str, Tensor, Cut]]:
    """What this process writes: nothing that another one has, too."""
    for each in placed:
        if each.owner != mesh.data.rank:
            continue
        if each.in_all_stages and mesh.pipeline.rank:
            continue
        if each.cut_along is None and mesh.tensor.rank:
            continue
        for kind, tensor in _tensors(each, optimizer).items():
            yield f"{kind}/{each.name}", tensor, _cut(each, tensor, mesh)


def write_pieces(
    file: BinaryIO, placed: list[Placed], optimizer: Optimizer | None, mesh: Mesh
) -> None:
    """Write this process's file."""
    tensors, cuts = {}, {}
    for key, tensor, cut in own_pieces(placed, optimizer, mesh):
        tensors[key] = tensor.detach().cpu().contiguous().clone()
        cuts[key] = [cut.along, cut.part, cut.parts]
    file.write(save(tensors, metadata={"cuts": json.dumps(cuts)}))


class Pieces:
    """The pieces of a state."""

    def __init__(self, directory: Path) -> None:
        """Find what is where.

        Raises:
            InputError: no pieces, or damaged ones.
        """
        self.directory = directory
        self._where: dict[str, list[tuple[Path, Cut]]] = {}
        files = sorted(directory.glob("pieces-*.safetensors"))
        if not files:
            raise InputError(directory, "holds no pieces: it is the state of another strategy")
        for path in files:
            try:
                with safe_open(path, "pt") as file:
                    metadata = file.metadata() or {}
                    for key, (along, part, parts) in json.loads(metadata["cuts"]).items():
                        cut = Cut(along=along, part=part, parts=parts)
                        self._where.setdefault(key, []).append((path, cut))
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                raise InputError(path, f"damaged: {error}") from None

    @property
    def names(self) -> list[str]:
        """Parameters that were trained."""
        prefix = f"{WEIGHT}/"
        return sorted(key.removeprefix(prefix) for key in self._where if key.startswith(prefix))

    def kinds(self, name: str) -> list[str]:
        """What there is of a parameter beside its weight."""
        suffix = f"/{name}"
        found = (key.removesuffix(suffix) for key in self._where if key.endswith(suffix))
        return sorted(kind for kind in found if kind != WEIGHT and "/" not in kind)

    def read(self, key: str, wanted: Cut) -> Tensor:
        """A tensor, or the part of it that is wanted.

        Raises:
            InputError: it is not there, or not all of it.
        """
        found = self._where.get(key, [])
        if not found:
            raise InputError(self.directory, f"lacks {key}")
        along = next((cut.along for _, cut in found if cut.along is not None), wanted.along)
        if along is None:
            return _slice(found[0][0], key, None, range(0))
        by_start = sorted(found, key=lambda each: each[1].part)
        sizes = [_size(path, key, along) for path, _ in by_start]
        total = sum(sizes)
        if by_start[0][1].parts != len(by_start) or total % wanted.parts:
            raise InputError(self.directory, f"holds not all of {key}, or parts of other sizes")
        inside = Cut(along=along, part=wanted.part, parts=wanted.parts).within(total)
        pieces, start = [], 0
        for (path, _), size in zip(by_start, sizes, strict=True):
            first, last = max(inside.start, start), min(inside.stop, start + size)
            if first < last:
                pieces.append(_slice(path, key, along, range(first - start, last - start)))
            start += size
        return torch.cat(pieces, dim=along) if len(pieces) > 1 else pieces[0]


def read_pieces(
    pieces: Pieces, placed: list[Placed], optimizer: Optimizer | None, mesh: Mesh
) -> None:
    """Fill what this process trains, and its optimizer's moments.

    Raises:
        InputError: something is missing, or of another shape.
    """
    for each in placed:
        parameter = each.parameter
        value = pieces.read(f"{WEIGHT}/{each.name}", _cut(each, parameter, mesh))
        if value.shape != parameter.shape:
            raise InputError(
                pieces.directory,
                f"{each.name} is {list(value.shape)}, this run's {list(parameter.shape)}",
            )
        with torch.no_grad():
            parameter.copy_(value)
        if optimizer is not None and each.owner == mesh.data.rank:
            state = optimizer.state[parameter]
            for kind in pieces.kinds(each.name):
                key = f"{kind}/{each.name}"
                whole = pieces.read(key, Cut(along=None)) if kind == "step" else None
                value = pieces.read(key, _cut(each, parameter, mesh)) if whole is None else whole
                # The fused optimizer takes moments to lie in memory as their parameter does.
                state[kind] = value.to(parameter.device).contiguous()


def _tensors(each: Placed, optimizer: Optimizer | None) -> Mapping[str, Tensor]:
    tensors = {WEIGHT: each.parameter.detach()}
    if optimizer is not None:
        state = optimizer.state.get(each.parameter, {})
        tensors |= {kind: value for kind, value in state.items() if isinstance(value, Tensor)}
    return tensors


def _cut(each: Placed, tensor: Tensor, mesh: Mesh) -> Cut:
    if each.cut_along is None or tensor.shape != each.parameter.shape:
        return Cut(along=None)
    return Cut(along=each.cut_along, part=mesh.tensor.rank, parts=mesh.tensor.size)


def _size(path: Path, key: str, along: int) -> int:
    with safe_open(path, "pt") as file:
        return file.get_slice(key).get_shape()[along]


def _slice(path: Path, key: str, along: int | None, inside: range) -> Tensor:
    with safe_open(path, "pt") as file:
        if along is None:
            return file.get_tensor(key)
        whole = [slice(None)] * along
        return file.get_slice(key)[tuple([*whole, slice(inside.start, inside.stop)])]
