"""How a run goes: loss, speed, honest MFU, the share of time spent waiting for data, what is left.

Model FLOPs utilisation divides the operations that the model *needs* (:mod:`language.flops`) by
what the devices could do in the time; frozen weights need no gradients, padding and recomputation
count for nothing. Sums stay on the device between reports, so that no step waits for one.
"""

import resource
import time
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.trainer.states import TrainerFn

from language.training import Training
from multimodal.data.module import SampleData
from multimodal.training.announce import announce
from multimodal.training.steps import StepCallback

PEAK_FLOPS = {
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
    "GH200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "4090": 165e12,
    "3090": 71e12,
}
"""Dense bfloat16 operations a second by a part of the device's name, from the data sheets."""


def peak_flops(device_name: str) -> float | None:
    """Peak of a device, by the longest name that its own holds; None where it is not known."""
    known = [name for name in PEAK_FLOPS if name in device_name]
    return PEAK_FLOPS[max(known, key=len)] if known else None


class DataWait(Profiler):
    """Counts the seconds in which the training loop waits for its next batch."""

    def __init__(self) -> None:
        """Count from 0."""
        super().__init__()
        self.seconds = 0.0
        self._started = 0.0

    def start(self, action_name: str) -> None:
        """Note when a fetch begins."""
        if action_name.endswith("train_dataloader_next"):
            self._started = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """Add the time of a fetch."""
        if action_name.endswith("train_dataloader_next"):
            self.seconds += time.perf_counter() - self._started


class Progress(StepCallback):
    """Prints and logs how the run goes, and stops it where the loss is no number any more."""

    def __init__(self, *, every_n_steps: int = 50) -> None:
        """How often to report.

        Args:
            every_n_steps: optimizer steps between reports.
        """
        self.every_n_steps = every_n_steps

    def on_begin(self, trainer: Trainer, training: Training) -> None:
        """Start the clocks."""
        self._first = self._reported = trainer.global_step
        self._begun = time.perf_counter()
        device = training.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        self._peak = peak_flops(name)
        profiler = trainer.profiler  # type: ignore[attr-defined]
        self._wait = profiler if isinstance(profiler, DataWait) else None
        self._restart(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count what the batch asks for."""
        assert isinstance(pl_module, Training)
        work = pl_module.work(batch)
        amounts = (work.samples.double(), work.tokens.double(), work.flops)
        self._sums += torch.stack(amounts)

    def on_step(self, trainer: Trainer, training: Training) -> None:
        """Add the loss of the step; report when it is time."""
        self._loss += training.step_loss
        if self._step % self.every_n_steps == 0 or self._step == trainer.max_steps:
            self._report(trainer, training)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._paused_at = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Run the clock again, and print what validation found."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._start += time.perf_counter() - self._paused_at
        _announce_found(trainer, "val/")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what the test found."""
        _announce_found(trainer, "test/")

    def _restart(self, trainer: Trainer) -> None:
        device = trainer.strategy.root_device
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)
        self._loss = torch.zeros((), device=device)
        self._start = time.perf_counter()
        self._waited = self._wait.seconds if self._wait else 0.0

    def _report(self, trainer: Trainer, training: Training) -> None:
        samples, tokens, flops = trainer.strategy.reduce(self._sums, reduce_op="sum").tolist()
        now = time.perf_counter()
        seconds, steps = now - self._start, self._step - self._reported
        left = (now - self._begun) / (self._step - self._first) * (trainer.max_steps - self._step)
        metrics = {
            "train/loss": float(self._loss) / steps,
            "train/learning_rate": max(g["lr"] for g in trainer.optimizers[0].param_groups),
            "speed/step_seconds": seconds / steps,
            "speed/samples": samples / seconds,
            "speed/tokens": tokens / seconds,
            "speed/memory_gb": memory_gb(trainer.strategy.root_device),
        }
        if training.gradient_norm is not None:
            metrics["train/gradient_norm"] = float(training.gradient_norm)
        if self._peak is not None:
            metrics["speed/mfu"] = flops / seconds / (self._peak * trainer.world_size)
        if self._wait:
            metrics["speed/data_wait"] = (self._wait.seconds - self._waited) / seconds
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, SampleData) and data.train_loader is not None:
            metrics |= data.train_loader.metrics()
        training.record(metrics)
        announce(line(metrics, step=self._step, num_steps=trainer.max_steps, seconds_left=left))
        training.check_finite()
        self._reported = self._step
        self._restart(trainer)


def line(metrics: dict[str, float], *, step: int, num_steps: int, seconds_left: float) -> str:
    """A report for people."""
    parts = [
        f"step {step:,}/{num_steps:,}",
        f"loss {metrics['train/loss']:.4f}",
        f"rate {metrics['train/learning_rate']:.2e}",
        f"{metrics['speed/step_seconds']:.3g} s",
        f"{metrics['speed/samples']:,.1f} samples/s",
        f"{metrics['speed/tokens']:,.0f} tokens/s",
    ]
    if "speed/mfu" in metrics:
        parts.append(f"MFU {metrics['speed/mfu']:.1%}")
    if "speed/data_wait" in metrics:
        parts.append(f"data wait {metrics['speed/data_wait']:.0%}")
    parts.append(f"{metrics['speed/memory_gb']:.1f} GB")
    parts.append(f"left {timedelta(seconds=round(seconds_left))}")
    return "  ".join(parts)


def memory_gb(device: torch.device) -> float:
    """Most memory that was in use: of the GPU, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _announce_found(trainer: Trainer, prefix: str) -> None:
    found = {k: v for k, v in trainer.callback_metrics.items() if k.startswith(prefix)}
    parts = [f"{name} {float(value):.4f}" for name, value in found.items()]
    announce(f"step {trainer.global_step:,}  " + "  ".join(parts))
