"""Training state in pieces, which any layout can be resumed from.

Each process writes what it alone has of the weights that train and of the optimizer's moments, as
safetensors: whole tensors, or rectangular parts of them. A process that resumes reads of all files
what its own place in its own layout needs.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
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
class Piece:
    """Where a part of a tensor lies."""

    path: Path
    whole: tuple[int, ...]
    """Shape of the whole tensor."""
    start: tuple[int, ...]
    """Where in the whole the part begins."""
    shape: tuple[int, ...]
    """Of the part."""


def file_name(mesh: Mesh) -> str:
    """File of this process's pieces."""
    return f"pieces-{mesh.data.rank * mesh.plane.size + mesh.plane.rank:05d}.safetensors"


def own_pieces(
    placed: list[Placed], optimizer: Optimizer | None
) -> Iterator[tuple[str, Tensor, tuple[int, ...], tuple[int, ...]]]:
    """What this process writes, and nothing that another one has, too.

    Gives key, tensor, shape of the whole and place in it.
    """
    for each in (each for each in placed if each.is_first):
        for kind, tensor in _tensors(each, optimizer).items():
            key = f"{kind}/{each.name}"
            if _is_like(tensor, each):
                if tensor.numel():
                    yield key, tensor, each.whole, each.start
            elif not any(each.start):  # a number of steps: the first part's is every part's
                yield key, tensor, tuple(tensor.shape), (0,) * tensor.dim()


def write_pieces(file: BinaryIO, placed: list[Placed], optimizer: Optimizer | None) -> None:
    """Write this process's file."""
    tensors, places = {}, {}
    for key, tensor, whole, start in own_pieces(placed, optimizer):
        tensors[key] = tensor.detach().cpu().contiguous().clone()
        places[key] = [list(whole), list(start)]
    file.write(save(tensors, metadata={"places": json.dumps(places)}))


class Pieces:
    """The pieces of a state."""

    def __init__(self, directory: Path) -> None:
        """Find what is where.

        Raises:
            InputError: no pieces, or damaged ones.
        """
        self.directory = directory
        self._found: dict[str, list[Piece]] = {}
        files = sorted(directory.glob("pieces-*.safetensors"))
        if not files:
            raise InputError(directory, "holds no pieces: it is the state of another strategy")
        for path in files:
            try:
                with safe_open(path, "pt") as file:
                    metadata = file.metadata() or {}
                    if "cuts" in metadata:
                        raise ValueError("a state of an earlier version, which is not read")
                    for key, (whole, start) in json.loads(metadata["places"]).items():
                        shape = tuple(file.get_slice(key).get_shape())
                        if not len(whole) == len(start) == len(shape):
                            raise ValueError(f"no place for {key}")
                        piece = Piece(
                            path=path, whole=tuple(whole), start=tuple(start), shape=shape
                        )
                        self._found.setdefault(key, []).append(piece)
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                raise InputError(path, f"damaged: {error}") from None

    @property
    def names(self) -> list[str]:
        """Parameters that were trained."""
        prefix = f"{WEIGHT}/"
        return sorted(key.removeprefix(prefix) for key in self._found if key.startswith(prefix))

    def kinds(self, name: str) -> list[str]:
        """What there is of a parameter beside its weight."""
        suffix = f"/{name}"
        found = (key.removesuffix(suffix) for key in self._found if key.endswith(suffix))
        return sorted(kind for kind in found if kind != WEIGHT and "/" not in kind)

    def whole(self, key: str) -> tuple[int, ...]:
        """Shape of a whole tensor.

        Raises:
            InputError: it is not there.
        """
        if key not in self._found:
            raise InputError(self.directory, f"lacks {key}")
        return self._found[key][0].whole

    def read(
        self,
        key: str,
        *,
        start: Sequence[int] | None = None,
        shape: Sequence[int] | None = None,
    ) -> Tensor:
        """A tensor, or the part of it that begins at ``start`` and has ``shape``.

        Raises:
            InputError: it is not there, or not all of it.
        """
        whole = self.whole(key)
        start = [0] * len(whole) if start is None else start
        shape = whole if shape is None else shape
        wanted = [range(first, first + size) for first, size in zip(start, shape, strict=True)]
        out, copied = None, 0
        for piece in self._found[key]:
            there = [
                range(first, first + size)
                for first, size in zip(piece.start, piece.shape, strict=True)
            ]
            both = [
                range(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(wanted, there, strict=True)
            ]
            if not all(both):
                continue
            part = _slice(piece.path, key, both, there)
            if out is None:
                out = torch.empty(tuple(shape), dtype=part.dtype)
            out[_slices(both, wanted)] = part
            copied += part.numel()
        size = torch.Size(shape).numel()
        if copied != size:
            raise InputError(self.directory, f"holds not all of {key}, or some of it twice")
        return torch.empty(tuple(shape)) if out is None else out


def read_pieces(pieces: Pieces, placed: list[Placed], optimizer: Optimizer | None) -> None:
    """Fill what this process trains, and its optimizer's moments.

    Raises:
        InputError: something is missing, or of another shape.
    """
    stepped = {
        parameter
        for group in (optimizer.param_groups if optimizer is not None else ())
        for parameter in group["params"]
    }
    for each in placed:
        parameter, weight = each.parameter, f"{WEIGHT}/{each.name}"
        whole = pieces.whole(weight)
        if whole != each.whole:
            raise InputError(
                pieces.directory, f"{each.name} is {list(whole)}, this run's {list(each.whole)}"
            )
        with torch.no_grad():
            parameter.copy_(pieces.read(weight, start=each.start, shape=parameter.shape))
        if optimizer is not None and parameter in stepped:
            state = optimizer.state[parameter]
            for kind in pieces.kinds(each.name):
                key = f"{kind}/{each.name}"
                value = (
                    pieces.read(key, start=each.start, shape=parameter.shape)
                    if pieces.whole(key) == each.whole
                    else pieces.read(key)
                )
                # The fused optimizer takes moments to lie in memory as their parameter does.
                state[kind] = value.to(parameter.device).contiguous()


def _tensors(each: Placed, optimizer: Optimizer | None) -> Mapping[str, Tensor]:
    tensors = {WEIGHT: each.parameter.detach()}
    if optimizer is not None:
        state = optimizer.state.get(each.parameter, {})
        tensors |= {kind: value for kind, value in state.items() if isinstance(value, Tensor)}
    return tensors


def _is_like(tensor: Tensor, each: Placed) -> bool:
    """Whether a tensor has a value for each weight."""
    return tensor.shape == each.parameter.shape


def _slice(path: Path, key: str, inside: Sequence[range], there: Sequence[range]) -> Tensor:
    with safe_open(path, "pt") as file:
        if not there:
            return file.get_tensor(key)
        return file.get_slice(key)[_slices(inside, there)]


def _slices(inside: Sequence[range], outer: Sequence[range]) -> tuple[slice, ...]:
    """``inside`` as places in ``outer``."""
    return tuple(
        slice(a.start - b.start, a.stop - b.start) for a, b in zip(inside, outer, strict=True)
    )
