"""Saving and loading a state by all processes of a run: all succeed, or all fail alike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch.optim import Optimizer

from language.errors import InputError
from multimodal.training.checkpoints import FILE
from multimodal.training.parallel.gradients import Placed
from multimodal.training.parallel.mesh import Mesh
from multimodal.training.parallel.pieces import Pieces, file_name, read_pieces, write_pieces
from multimodal.training.states import (
    add_file,
    begin_state,
    check_state,
    finish_state,
    given_up,
)


def save_together(
    directory: Path,
    checkpoint: dict[str, Any],
    placed: list[Placed],
    optimizer: Optimizer | None,
    mesh: Mesh,
) -> None:
    """Write a state: each process its pieces, the first one the rest and, at last, the name.

    Args:
        directory: the state's, ``.../step-N``.
        checkpoint: what Lightning wants to find again, without weights and moments.
        placed: what trains on this process.
        optimizer: steps some of it.
        mesh: of the processes.

    Raises:
        InputError: a process could not write; the states before it are untouched.
    """
    is_first = dist.get_rank() == 0

    def write() -> dict[str, Any]:
        facts = {}
        if is_first:
            facts[FILE] = add_file(directory, FILE, lambda file: torch.save(checkpoint, file))
        name = file_name(mesh)
        facts[name] = add_file(directory, name, lambda file: write_pieces(file, placed, optimizer))
        return facts

    _together(directory, lambda: begin_state(directory) if is_first else None)
    every = _together(directory, write)
    facts = {name: fact for some in every for name, fact in some.items()}
    _together(directory, lambda: finish_state(directory, facts) if is_first else None)


def load_together(
    directory: Path,
    check: Callable[[dict[str, Any]], None],
    placed: list[Placed],
    optimizer: Optimizer | None,
) -> dict[str, Any]:
    """Read of a state what this process needs; gives the rest of it.

    Args:
        directory: the state's.
        check: refuses the state of another run, before anything is overwritten.
        placed: what trains on this process.
        optimizer: steps some of it.

    Raises:
        InputError: it is not whole, or another run's.
    """
    fault: list[tuple[str, str] | None] = [None]
    if dist.get_rank() == 0:  # one process reads all of it, for the others
        try:
            check_state(directory)
        except InputError as error:
            fault = [(error.source, error.fault)]
    dist.broadcast_object_list(fault, 0)
    if fault[0] is not None:
        raise InputError(*fault[0])
    pieces = Pieces(directory)
    checkpoint = torch.load(directory / FILE, map_location="cpu", weights_only=True)
    checkpoint["state_dict"] = {f"model.{name}": None for name in pieces.names}
    check(checkpoint)
    read_pieces(pieces, placed, optimizer)
    return checkpoint


def _together(directory: Path, act: Callable[[], Any]) -> list[Any]:
    """Act on all processes; all fail where one does. Gives what each one's action gave."""
    result, fault = None, None
    try:
        result = act()
    except (OSError, RuntimeError, SafetensorError) as error:
        fault = str(error)
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, (result, fault))
    if faults := [fault for _, fault in every if fault]:
        raise given_up(directory, faults[0])
    return [result for result, _ in every]
