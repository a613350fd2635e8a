"""Models before they take memory: modules on the meta device, and where their weights come from.

A run lays a draft out over its processes, and each reads of every matrix what it keeps: no process
ever holds the whole of a model that would not fit. Fresh weights are drawn tensor by tensor from
seeds of their own, so that they are the same in whatever part they are asked for.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from language.weights import StoredTensor, fill

M = TypeVar("M", bound=nn.Module)


class Drawn(Protocol):
    """A module that knows how each of its parameters begins."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As every module."""

    def draw(self, name: str, tensor: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Draw fresh values for the parameter ``name``, in place."""


@dataclass(frozen=True, kw_only=True)
class Draft(Generic[M]):
    """A model without memory."""

    model: M
    """On the meta device, its parameters of the types that they will have."""
    sources: Mapping[str, StoredTensor]
    """Where each parameter comes from, by name."""
    checks: tuple[Callable[[], object], ...] = ()
    """Read what is needed to refuse parts that do not belong together; once in a run is enough."""

    def fill(self, children: Collection[str] | None = None) -> M:
        """Read weights to the default device, and give the model.

        Args:
            children: modules that are filled; by default all are.

        Raises:
            InputError: a tensor is not as large as the model wants it, or broken.
        """
        modules: dict[str, nn.Module] = {"": self.model}
        if children is not None:
            modules = {n: m for n, m in self.model.named_children() if n in children}
        for name, module in modules.items():
            own = self.of(name) if name else self.sources
            fill(module, own, device=torch.get_default_device(), own_types=True)
        return self.model

    def check(self) -> None:
        """Refuse parts that do not belong together.

        Raises:
            InputError: which.
        """
        for check in self.checks:
            check()

    def of(self, child: str) -> dict[str, StoredTensor]:
        """Sources of one of the model's modules, by its own names."""
        prefix = f"{child}."
        return {n.removeprefix(prefix): t for n, t in self.sources.items() if n.startswith(prefix)}


def fresh(module: Drawn, *, prefix: str = "") -> dict[str, StoredTensor]:
    """Sources of a module's weights that are drawn when they are read.

    Args:
        module: on the meta device.
        prefix: of its names in the model.
    """
    return {
        f"{prefix}{name}": drawn(
            f"{prefix}{name}", tuple(parameter.shape), partial(module.draw, name)
        )
        for name, parameter in module.named_parameters()
    }


def drawn(name: str, shape: tuple[int, ...], draw: Callable[..., object]) -> StoredTensor:
    """A tensor whose values depend on its name and the run's seed alone.

    Args:
        name: in the model.
        shape: of the tensor.
        draw: fills a tensor in place, given a ``generator``.
    """
    digest = hashlib.sha256(f"{torch.initial_seed()} {name}".encode()).digest()
    seed = int.from_bytes(digest[:8], "big") >> 1

    def read() -> Tensor:
        tensor = torch.empty(shape, dtype=torch.float32, device="cpu")
        draw(tensor, generator=torch.Generator("cpu").manual_seed(seed))
        return tensor

    return StoredTensor(file=Path("fresh weights"), name=name, shape=shape, read=read)


def held(module: nn.Module, *, prefix: str = "") -> dict[str, StoredTensor]:
    """Sources that a small module, built already, has in memory."""
    return {
        f"{prefix}{name}": StoredTensor(
            file=Path(f"{prefix}*"), name=name, shape=tuple(p.shape), read=p.detach
        )
        for name, p in module.named_parameters()
    }
