"""Next-token training in which every target weighs the same, wherever it stands.

Gradients of the *sum* of losses are gathered, in float32, over micro-batches and ranks and divided
by the number of targets once, before clipping (paper section 7.4 gathers them in float32 too). So
accumulation, and a batch spread over ranks, give the gradient of the one big batch, however
unequally its targets are spread.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from language.draft import Draft
from language.optimization import AdamWConfig, ScheduleConfig
from language.training import Training

IGNORED = -100
"""Target of a position that carries no loss."""


def next_token_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy summed over the targets, and their number.

    Args:
        logits: [..., vocabulary].
        targets: the token wanted at each position, [...]; ``IGNORED`` carries no loss.
    """
    total = nn.functional.cross_entropy(
        logits.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total, (targets != IGNORED).sum()


class Pipeline(Protocol):
    """What computes losses over several processes, such as `multimodal.training.parallel` has."""

    def run(self, batch: Any, *, backward: bool) -> tuple[Tensor, Tensor]:
        """Loss summed over the targets, and their number; with ``backward`` gradients are added."""


class NextTokenTraining(Training):
    """A training whose subclass gives the four parts of :meth:`loss`, or another one whole.

    The parts are apart because the stages of a pipeline run some of them: what is sensed of media,
    embeddings, a walk over blocks, and the loss.
    """

    def __init__(self, *, optimizer: AdamWConfig, schedule: ScheduleConfig) -> None:
        """Begin with nothing gathered."""
        super().__init__(optimizer=optimizer, schedule=schedule)
        self.draft: Draft[Any] | None = None
        """What the model is made from, as long as it is not filled."""
        self.fills_model = True
        """Whether the whole model is read here, and not by the strategy, in parts."""
        self.pipeline: Pipeline | None = None
        """Computes the loss, and in training its gradient, where several processes work on a row.
        """
        self._total = self._count = torch.zeros(())
        self._measured: dict[str, Tensor] = {}

    def draft_model(self) -> Draft[Any]:
        """The model as the run begins with it, before it takes memory."""
        raise NotImplementedError

    def whole_model(self) -> nn.Module:
        """The model again, as far as :meth:`export` reads it; what trained is then put into it."""
        return self.draft_model().fill()

    def take(self, draft: Draft[Any]) -> None:
        """Make the drafted model this run's, and fill it, unless the strategy does in parts."""
        if self.global_rank == 0:  # it reads much
            draft.check()
        if self.fills_model:
            self.model = draft.fill()
        else:
            self.model, self.draft = draft.model, draft

    def sense(self, batch: Any) -> dict[Any, Tensor]:
        """What is computed of a batch's media before its text is read, by medium."""
        return {}

    def embed(self, batch: Any, sensed: dict[Any, Tensor]) -> Tensor:
        """What the first block takes, [batch, tokens, dim]."""
        raise NotImplementedError

    def walk(
        self, hidden: Tensor, batch: Any, sensed: dict[Any, Tensor], blocks: range | None = None
    ) -> Tensor:
        """``hidden`` [batch, tokens, dim] after some of the core's blocks, by default all."""
        raise NotImplementedError

    def final_loss(self, hidden: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """Loss summed over the targets, and their number, from what the last block gave."""
        raise NotImplementedError

    def loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Loss summed over the targets of a batch, and their number.

        In a pipeline its gradient has been computed, too, if one is wanted.
        """
        if self.pipeline is not None:
            return self.pipeline.run(batch, backward=torch.is_grad_enabled())
        sensed = self.sense(batch)
        hidden = self.walk(self.embed(batch, sensed), batch, sensed)
        return self.final_loss(hidden, batch)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Gather the gradient of the summed loss."""
        total, count = self.loss(batch)
        self._total = self._total.to(total.device) + total.detach()
        self._count = self._count.to(total.device) + count
        # undoes the means that Lightning takes over micro-batches and DDP over ranks
        averaged = getattr(self.trainer.strategy, "num_averaged", self.trainer.world_size)
        return total * (self.trainer.accumulate_grad_batches * averaged)

    def optimizer_zero_grad(self, *args: Any, **kwargs: Any) -> None:
        """Clear gradients before the loss goes back; with a pipeline, it has gone back already."""
        if self.pipeline is None:
            super().optimizer_zero_grad(*args, **kwargs)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Go back from the loss, unless the pipeline did."""
        if self.pipeline is None:
            super().backward(loss, *args, **kwargs)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gathered gradients by the number of targets."""
        sums = torch.stack((self._total.double(), self._count.double()))
        total, count = self.trainer.strategy.reduce(sums, reduce_op="sum")
        count = count.clamp(min=1)
        self.step_loss = (total / count).float()
        self._total = self._count = torch.zeros((), device=sums.device)
        grads = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        if grads:  # a stage of a pipeline may have nothing that trains
            torch._foreach_div_(grads, count.float())

    def validation_losses(self, batch: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """What validation measures, by name; each is summed over targets, with their number."""
        return {"loss": self.loss(batch)}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to what is measured."""
        for name, parts in self.validation_losses(batch).items():
            sums = torch.stack(parts).double()
            self._measured[name] = self._measured.get(name, torch.zeros_like(sums)) + sums

    def on_validation_epoch_end(self) -> None:
        """Log means per target as ``val/loss`` and the like."""
        self._log_means("val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to what is measured."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log means per target as ``test/loss`` and the like."""
        self._log_means("test")

    def _log_means(self, stage: str) -> None:
        for name in sorted(self._measured):
            sums = self.trainer.strategy.reduce(self._measured[name], reduce_op="sum")
            mean = (sums[0] / sums[1].clamp(min=1)).float()
            self.log(f"{stage}/{name}", mean, logger=False)
            self.record({f"{stage}/{name}": mean})
        self._measured = {}
