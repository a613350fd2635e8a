"""What ran: versions, commit and what trained, kept beside the config of a run."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from language.training import Training
from multimodal.software import software
from multimodal.training.steps import StepCallback

FILE = "run.json"


class RunRecord(StepCallback):
    """Adds an entry to ``run.json`` each time that a run is begun or resumed."""

    def on_begin(self, trainer: Trainer, training: Training) -> None:
        """Write the entry."""
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        file = Path(trainer.default_root_dir) / FILE
        entries = [*_entries(file), _entry(trainer, training)]
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(file.name + ".partial")
        partial.write_text(json.dumps(entries, indent=1) + "\n")
        os.replace(partial, file)

    def on_step(self, trainer: Trainer, training: Training) -> None:
        """Nothing changes on the way."""


def _entry(trainer: Trainer, training: Training) -> dict[str, Any]:
    device = training.device
    cuda = device.type == "cuda"
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "from_step": trainer.global_step,
        "processes": trainer.world_size,
        "device": torch.cuda.get_device_name(device) if cuda else platform.processor() or "cpu",
        "python": platform.python_version(),
        **software(),
        "parameters": _parameters(training),
    }


def _parameters(training: Training) -> dict[str, dict[str, int]]:
    """Of each part, how many parameters there are and how many of them train."""
    table: dict[str, dict[str, int]] = {}
    for name, parameter in training.model.named_parameters():
        row = table.setdefault(name.split(".")[0], {"all": 0, "trained": 0})
        row["all"] += parameter.numel()
        row["trained"] += parameter.numel() * parameter.requires_grad
    return table


def _entries(file: Path) -> list[Any]:
    """What earlier starts of the run left; unreadable records are begun anew."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []
