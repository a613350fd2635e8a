"""Muon for matrices beside AdamW for everything else (Jordan et al. 2024; arXiv 2502.16982).

A matrix moves along its momentum made orthogonal, so that no direction is starved by the few that
dominate the gradient. Small models learn in markedly fewer steps; the paper itself uses AdamW.
torch's own Muon iterates in bfloat16, which is slow on CPUs without such arithmetic.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_SIZE = 0.2
"""Root mean square of an update at rate 1, about AdamW's (arXiv 2502.16982, section 2.2)."""


def orthogonal(matrices: Tensor) -> Tensor:
    """Bring all singular values of matrices [number, rows, columns], rows <= columns, near 1.

    Five steps of a quintic Newton-Schulz iteration: they end between about 0.7 and 1.2.
    """
    a, b, c = _COEFFICIENTS
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class MuonWithAdamW(torch.optim.AdamW):
    """Steps groups with ``orthogonal: True``, which hold matrices alone, by Muon."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change all parameters that have gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            if group.get("orthogonal"):
                members = [p for p in group["params"] if p.grad is not None]
                self._step_matrices(members, rate=group["lr"], decay=group["weight_decay"])
                gradients += [(p, p.grad) for p in members]
        for parameter, _ in gradients:
            parameter.grad = None  # so that AdamW leaves it alone
        super().step()
        for parameter, gradient in gradients:
            parameter.grad = gradient
        return loss

    def _step_matrices(self, members: list[Tensor], *, rate: float, decay: float) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for parameter in members:
            by_shape.setdefault(parameter.shape, []).append(parameter)
        for shape, alike in by_shape.items():
            directions = torch.stack([self._direction(parameter) for parameter in alike])
            wide = shape[0] <= shape[1]
            updates = orthogonal(directions if wide else directions.mT)
            updates = updates if wide else updates.mT
            for parameter, update in zip(alike, updates, strict=True):
                parameter.mul_(1 - rate * decay)
                parameter.add_(update, alpha=-rate * _SIZE * max(shape) ** 0.5)

    def _direction(self, parameter: Tensor) -> Tensor:
        """Nesterov momentum."""
        assert parameter.grad is not None, "only members with gradients are stepped"
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
            state["step"] = torch.zeros(())  # which AdamW looks for when a state is loaded
        momentum: Tensor = state["momentum"]
        momentum.lerp_(parameter.grad, 1 - _MOMENTUM)
        return parameter.grad.lerp(momentum, _MOMENTUM)
