"""AdamW by groups of names, and the learning rate's course (paper sections 3.1 and 7.4).

Settings of the optimizer are read from the config alone: a resumed run takes moments and step from
its checkpoint, but rates and decays from what the user says now.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import nn

from language.errors import InputError
from language.muon import MuonWithAdamW


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Settings of the parameters whose names match; the first group that matches a name wins."""

    pattern: str
    """Shell-style pattern of names, such as "*.attention_gate" or "image_encoder.*"."""
    learning_rate_scale: float = 1.0
    """Multiplies the learning rate."""
    weight_decay: float | None = None
    """Replaces the optimizer's; without it, matrices decay and everything else does not."""


@dataclass(frozen=True, kw_only=True)
class AdamWConfig:
    """AdamW (arXiv 1711.05101)."""

    learning_rate: float
    """The highest, reached after the warm-up."""
    weight_decay: float = 0.1
    """Of matrices; gates, norms and biases do not decay unless a group says so."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    groups: tuple[ParameterGroup, ...] = ()
    """Other rates and decays by name."""
    orthogonal: tuple[str, ...] = ()
    """Patterns of matrices that Muon steps in AdamW's stead; small models learn faster by it."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(
                f"optimizer.learning_rate must be above 0, which {self.learning_rate} is not"
            )


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate rises and falls over the run's ``trainer.max_steps`` steps."""

    shape: Literal["cosine", "linear", "constant"] = "cosine"
    """Way down after the warm-up; the paper anneals linearly to 0."""
    warmup_steps: int = 0
    """Steps of the linear rise to the highest rate."""
    final: float = 0.1
    """Share of the highest rate that the last step ends at; unused by "constant"."""

    def __post_init__(self) -> None:
        if self.warmup_steps < 0 or not 0 <= self.final <= 1:
            raise ValueError(
                f"schedule: warmup_steps ({self.warmup_steps}) must be 0 or more, "
                f"and final ({self.final}) between 0 and 1"
            )

    def factor(self, step: int, *, num_steps: int) -> float:
        """Share of the highest learning rate that step ``step`` (from 0) of ``num_steps`` uses."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.shape == "constant":
            return 1.0
        progress = (step - self.warmup_steps) / max(num_steps - self.warmup_steps, 1)
        left = 1 - min(progress, 1.0)
        if self.shape == "cosine":
            left = (1 - math.cos(math.pi * left)) / 2
        return self.final + (1 - self.final) * left


def parameter_groups(
    parameters: Iterable[tuple[str, nn.Parameter]], config: AdamWConfig, *, is_whole: bool = True
) -> list[dict[str, Any]]:
    """Split named parameters into groups of equal settings, for ``torch.optim``.

    Raises:
        InputError: a group's pattern matches no parameter, though they are those of a whole model.
    """
    matched: set[str] = set()
    # By what they are, not by their values: a run resumes with other rates and the same groups.
    by_kind: dict[tuple[str, bool, bool], list[nn.Parameter]] = {}
    values: dict[tuple[str, bool, bool], tuple[float, float]] = {}
    for name, parameter in parameters:
        scale, decay, chosen = 1.0, None, ""
        for group in config.groups:
            if fnmatchcase(name, group.pattern):
                matched.add(group.pattern)
                scale, decay, chosen = group.learning_rate_scale, group.weight_decay, group.pattern
                break
        if decay is None:
            decay = config.weight_decay if parameter.dim() > 1 else 0.0
        muon = [pattern for pattern in config.orthogonal if fnmatchcase(name, pattern)]
        matched.update(muon)
        kind = (chosen, parameter.dim() > 1, bool(muon) and parameter.dim() == 2)
        by_kind.setdefault(kind, []).append(parameter)
        values[kind] = config.learning_rate * scale, decay
    if is_whole:
        check_matched([group.pattern for group in config.groups], matched, key="optimizer.groups")
        check_matched(config.orthogonal, matched, key="optimizer.orthogonal")
    return [
        {
            "params": members,
            "lr": values[kind][0],
            "initial_lr": values[kind][0],
            "weight_decay": values[kind][1],
        }
        | ({"orthogonal": True} if kind[2] else {})
        for kind, members in by_kind.items()
    ]


def check_matched(patterns: Sequence[str], matched: set[str], *, key: str) -> None:
    """Refuse patterns that match nothing: a misspelt one would quietly change what is trained.

    Raises:
        InputError: names ``key`` and the first such pattern.
    """
    for pattern in patterns:
        if pattern not in matched:
            raise InputError(key, f"{pattern!r} matches no parameter that trains")


def adamw(
    parameters: Iterable[tuple[str, nn.Parameter]], config: AdamWConfig, *, is_whole: bool = True
) -> torch.optim.AdamW:
    """The optimizer of the named parameters, one kernel for all of a group.

    Args:
        parameters: of a model, or of the part of it that is here, which may have none.
        config: settings.
        is_whole: whether they are those of a whole model.

    Raises:
        InputError: a group's pattern matches no parameter of a whole model.
    """
    groups = parameter_groups(parameters, config, is_whole=is_whole)
    groups = groups or [{"params": [], "lr": config.learning_rate, "initial_lr": 0.0}]
    if config.orthogonal:
        return MuonWithAdamW(groups, betas=config.betas, eps=config.eps, fused=True)
    return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=True)
