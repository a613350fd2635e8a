"""What every training of this project shares: AdamW on what trains, its schedule, states, records.

Master weights are float32 whatever the compute type is. A saved state holds what trains and
nothing that is frozen; settings come from the config even when a state is resumed.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from language.errors import InputError
from language.flops import Work
from language.optimization import AdamWConfig, ScheduleConfig, adamw


class Training(LightningModule):
    """Trains those parameters of ``self.model`` that require gradients.

    A subclass builds ``self.model`` in ``configure_model``, sets ``step_loss`` at every optimizer
    step, and gives :meth:`work` and :meth:`export`.
    """

    model: nn.Module

    def __init__(self, *, optimizer: AdamWConfig, schedule: ScheduleConfig) -> None:
        """Nothing is built before Lightning asks for it."""
        super().__init__()
        self.optimizer_config, self.schedule = optimizer, schedule
        self.strict_loading = False  # states hold what trains; on_load_checkpoint checks them
        self.is_whole = True
        """Whether all of what trains is stepped here, and not a part of it."""
        self.stepped: dict[str, nn.Parameter] | None = None
        """What this process steps of what it trains, by name; None is all."""
        self.judge: Callable[[Tensor, Tensor], bool] | None = None
        """Says of a step's loss and gradient norm whether the step is to be left out."""
        self.rate_scale = 1.0
        """Multiplies the whole schedule; see :meth:`scale_rates`."""
        self.step_loss = torch.zeros(())
        """Mean loss of the latest optimizer step."""
        self._sound: tuple[Tensor, Tensor | None] = self.step_loss, None
        """Loss and norm of the latest step that was not left out."""
        self.gradient_norm: Tensor | None = None
        """Norm of the latest gradient before it was clipped, where clipping is on."""

    def work(self, batch: Any) -> Work:
        """What a batch asks for."""
        raise NotImplementedError

    def export(self, directory: Path) -> None:
        """Write what the run gives, as safetensors."""
        raise NotImplementedError

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """Names within ``self.model``, and parameters, of what trains."""
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    @property
    def data_rank(self) -> int:
        """This process's number among those that read other data."""
        place = self.trainer.distributed_sampler_kwargs
        return 0 if place is None else int(place["rank"])

    def record(self, metrics: dict[str, Tensor | float]) -> None:
        """Write to the run's loggers, at the step that was last taken."""
        for logger in self.loggers:
            logger.log_metrics({k: float(v) for k, v in metrics.items()}, self.global_step)

    def check_finite(self) -> None:
        """Stop a run that has diverged.

        Raises:
            InputError: the latest loss is infinite or not a number.
        """
        loss = float(self.step_loss)
        if not math.isfinite(loss):
            raise InputError(
                f"step {self.global_step}",
                f"the loss is {loss}: lower the learning rate and go on with --ckpt_path last",
            )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW over what trains, its rate set anew at every step.

        Raises:
            InputError: the run has no number of steps to spread the schedule over.
        """
        num_steps = self.trainer.max_steps
        if num_steps < 1:
            raise InputError("trainer.max_steps", "give the number of steps: the schedule spans it")
        mine = self.trainable() if self.stepped is None else list(self.stepped.items())
        optimizer = adamw(mine, self.optimizer_config, is_whole=self.is_whole)
        self._settings = [
            {key: value for key, value in group.items() if key != "params"}
            for group in optimizer.param_groups
        ]
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: self.rate_scale * self.schedule.factor(step, num_steps=num_steps),
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of the whole gradient, and remember it; drop one that would do harm."""
        if gradient_clip_val or self.judge is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            norm_of = getattr(self.trainer.strategy, "gradient_norm", _gradient_norm)
            self.gradient_norm = norm_of(parameters)
            if self.judge is not None and self.judge(self.step_loss, self.gradient_norm):
                for parameter in parameters:
                    parameter.grad = None  # the optimizer passes over what has no gradient
                self.step_loss, self.gradient_norm = self._sound
                return
            self._sound = self.step_loss, self.gradient_norm
            if gradient_clip_val:
                nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, self.gradient_norm)

    def on_train_start(self) -> None:
        """Let the config win over what a resumed state says of rates and decays."""
        self.scale_rates(self.rate_scale)

    def scale_rates(self, scale: float) -> None:
        """Multiply the whole schedule by ``scale`` from the next step on."""
        self.rate_scale = scale
        scheduler = self.lr_schedulers()
        assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
        scheduler.base_lrs = [settings["initial_lr"] for settings in self._settings]
        factor = scheduler.lr_lambdas[0](scheduler.last_epoch)
        for group, settings in zip(scheduler.optimizer.param_groups, self._settings, strict=True):
            group.update(settings)
            group["lr"] = settings["initial_lr"] * factor

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what trains; the frozen rest is read from its own directory again."""
        frozen = {name for name, p in self.named_parameters() if not p.requires_grad}
        checkpoint["state_dict"] = {
            name: value for name, value in checkpoint["state_dict"].items() if name not in frozen
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the state of another run.

        Raises:
            InputError: it trained other parameters than this config does.
        """
        parameters = dict(self.named_parameters())
        wanted = {name for name, p in parameters.items() if p.requires_grad}
        stored = {name for name in checkpoint["state_dict"] if name in parameters}
        if different := sorted(wanted ^ stored):
            name, does = different[0], "trains" if different[0] in wanted else "does not train"
            raise InputError("ckpt_path", f"the state is of another run: this one {does} {name}")


def _gradient_norm(parameters: list[nn.Parameter]) -> Tensor:
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
