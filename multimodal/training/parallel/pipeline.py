"""Running a batch through the stages of a pipeline (paper sections 3.3.2 and 7.3).

What is sensed of media is computed before the pipeline starts, since layers of all stages read it:
micro-batch by micro-batch, each on one process of the plane, which gives it to the others. By
default these take turns, which balances an encoder over the plane as the paper does; or the first
process does it all. Then torch's schedules carry the hidden states from stage to stage. What the
layers of all stages say of the features is summed at last, and goes back through the encoder where
it was run.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.pipelining import (
    PipelineStage,
    Schedule1F1B,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
    ScheduleLoopedBFS,
)

from language.errors import InputError
from language.next_token import IGNORED, NextTokenTraining
from multimodal.batch import Batch
from multimodal.model import MultimodalLlama
from multimodal.training.parallel.media import agreed_number, with_blank_media
from multimodal.training.parallel.mesh import Mesh
from multimodal.training.parallel.micro_batches import split

ScheduleName = Literal["gpipe", "1f1b", "interleaved", "looped"]
SCHEDULES: dict[ScheduleName, Any] = {
    "gpipe": ScheduleGPipe,
    "1f1b": Schedule1F1B,
    "interleaved": ScheduleInterleaved1F1B,
    "looped": ScheduleLoopedBFS,
}
LOOPED: tuple[ScheduleName, ...] = ("interleaved", "looped")
"""Schedules in which a process has several stages."""
Placement = Literal["spread", "first"]
"""Where encoders run: on the processes of a plane in turn, or on its first one alone."""


class Stage(nn.Module):
    """Some blocks of the walk, which read from ``sensed`` what else their micro-batch needs."""

    def __init__(self, training: NextTokenTraining, blocks: range, *, is_last: bool) -> None:
        super().__init__()
        self.training_module = [training]  # in a list: its parameters are not this module's
        self.blocks, self.is_last = blocks, is_last
        self.batches: Sequence[Batch] = ()
        self.sensed: Sequence[dict[Any, Tensor]] = ()
        self.wire = torch.float32

    def forward(self, hidden: Tensor, *, micro_batch: Tensor) -> Tensor:
        """Hidden states after these blocks, or the summed loss [1] after the last ones.

        Args:
            hidden: [rows, tokens, dim]; the first stage is given anything.
            micro_batch: its number, [1].
        """
        training, index = self.training_module[0], int(micro_batch)
        batch, sensed = self.batches[index], self.sensed[index]
        if self.blocks.start == 0:
            hidden = training.embed(batch, sensed)
        hidden = training.walk(hidden, batch, sensed, self.blocks)
        if not self.is_last:
            return hidden.to(self.wire)
        return training.final_loss(hidden, batch)[0].unsqueeze(0)


class Pipeline:
    """One process's stages, and the running of batches through them."""

    def __init__(
        self,
        training: NextTokenTraining,
        mesh: Mesh,
        *,
        stages: Sequence[range],
        dim: int,
        micro_batches: int,
        schedule: ScheduleName,
        encoders: Placement,
        needs_gradient: Sequence[bool],
        senses_train: bool,
    ) -> None:
        """Take the stages that are this process's.

        Args:
            training: gives the parts of the loss.
            mesh: of the processes.
            stages: blocks of every stage of the pipeline.
            dim: width of the hidden states.
            micro_batches: of a training batch.
            schedule: order in which stages run micro-batches.
            encoders: where media are sensed.
            needs_gradient: whether a gradient goes back into each stage from its successor: of
                what it gives something before depends on a parameter that trains.
            senses_train: whether what is sensed of media depends on such a parameter.
        """
        self.training, self.mesh = training, mesh
        self.stages, self.dim = stages, dim
        self.micro_batches, self.schedule, self.encoders = micro_batches, schedule, encoders
        self.needs_gradient, self.senses_train = needs_gradient, senses_train
        ranks = mesh.pipeline
        self.mine = {
            index: Stage(training, stages[index], is_last=index == len(stages) - 1)
            for index in range(ranks.rank, len(stages), ranks.size)
        }
        self._ready: tuple[Any, Any] | None = None

    def run(self, batch: Batch, *, backward: bool) -> tuple[Tensor, Tensor]:
        """Loss summed over the targets of a batch, and their number, on all processes.

        Gradients of what trains are added up, if they are wanted.

        Raises:
            InputError: the rows do not divide into micro-batches.
        """
        rows, model = len(batch.tokens), self.training.model
        if backward and rows % self.micro_batches:
            raise InputError(
                "trainer.strategy.micro_batches",
                f"the {rows} rows of a data rank's batch do not divide into {self.micro_batches}",
            )
        number = self.micro_batches if backward else _divisor(rows, self.micro_batches)
        shares_weights = self.mesh.shard.size > 1
        if shares_weights and not backward:
            number = agreed_number(number, self.mesh.data, batch.tokens.device)
        batches = split(batch, number)
        if shares_weights and isinstance(model, MultimodalLlama):
            batches = with_blank_media(batches, model.config, self.mesh.data)
        own, sensed = self._sense(batches, backward=backward)
        for stage in self.mine.values():
            stage.batches, stage.sensed = batches, sensed
        total = self._step(batches, backward=backward)
        if backward:
            self._go_back(own, sensed)
        for stage in self.mine.values():
            stage.batches = stage.sensed = ()
        self.mesh.pipeline.broadcast(total, source=(len(self.stages) - 1) % self.mesh.pipeline.size)
        assert batch.targets is not None, "a batch to train on has targets"
        return total, (batch.targets != IGNORED).sum()

    def _source(self, micro_batch: int) -> int:
        """Process of the plane that senses a micro-batch's media."""
        return micro_batch % self.mesh.plane.size if self.encoders == "spread" else 0

    def _sense(
        self, batches: Sequence[Batch], *, backward: bool
    ) -> tuple[list[dict[Any, Tensor]], list[dict[Any, Tensor]]]:
        """What is sensed of each micro-batch: with its history where it was made, and as leaves."""
        own: list[dict[Any, Tensor]] = []
        leaves: list[dict[Any, Tensor]] = []
        for index, batch in enumerate(batches):
            is_mine = self._source(index) == self.mesh.plane.rank
            made: dict[Any, Tensor] = {}
            if is_mine:
                with torch.set_grad_enabled(backward and self.senses_train):
                    made = self.training.sense(batch)
            own.append(made)
            given = {}
            for medium in ("clips", "images", "recordings"):
                if getattr(batch, medium, None) is not None:
                    tensor = self._given(made.get(medium), index, batch.tokens.device)
                    given[medium] = tensor.requires_grad_(backward and self.senses_train)
            leaves.append(given)
        return own, leaves

    def _given(self, made: Tensor | None, index: int, device: torch.device) -> Tensor:
        """What one process made, on all of the plane."""
        plane, source = self.mesh.plane, self._source(index)
        if plane.size == 1:
            assert made is not None
            return made.detach()
        shape = torch.zeros(4, dtype=torch.long, device=device)
        if made is not None:
            facts = [_TYPES.index(made.dtype), *made.shape]
            shape[: len(facts)] = torch.tensor(facts, device=device)
        plane.broadcast(shape, source=source)
        kind, *sizes = shape.tolist()
        if made is None:
            made = torch.empty([size for size in sizes if size], dtype=_TYPES[kind], device=device)
        given = made.detach().clone()
        plane.broadcast(given, source=source)
        return given

    def _go_back(
        self, own: Sequence[dict[Any, Tensor]], leaves: Sequence[dict[Any, Tensor]]
    ) -> None:
        """Sum over stages what their layers say of the features; go back through the encoders."""
        if not self.senses_train:
            return
        pipeline, tensor = self.mesh.pipeline, self.mesh.tensor
        for index, (made, given) in enumerate(zip(own, leaves, strict=True)):
            stage, place = divmod(self._source(index), tensor.size)
            for medium, leaf in given.items():
                if tensor.rank != place:
                    continue
                gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
                pipeline.sum_to(gradient, target=stage)
                if medium in made and made[medium].requires_grad:
                    made[medium].backward(gradient)

    def _step(self, batches: Sequence[Batch], *, backward: bool) -> Tensor:
        """Run the schedule; the summed loss on the process of the last stage, else 0."""
        number, device = len(batches), batches[0].tokens.device
        if len(self.stages) == 1:
            return self._alone(number, device, backward=backward)
        index = torch.arange(number, device=device)
        schedule = self._schedule(batches, backward=backward)
        ends_here = len(self.stages) - 1 in self.mine
        words: tuple[Tensor, ...] = (index,) if 0 in self.mine else ()
        losses: list[Tensor] = []
        if backward:
            given = {"target": index, "losses": losses} if ends_here else {}
            schedule.step(*words, micro_batch=index, **given)
            total = torch.stack([loss.detach() for loss in losses]).sum() if losses else None
        else:
            with torch.no_grad():
                out = schedule.step(*words, micro_batch=index)
            total = out.sum() if ends_here else None
        return torch.zeros((), device=device) if total is None else total

    def _alone(self, number: int, device: torch.device, *, backward: bool) -> Tensor:
        """The only stage, on one micro-batch after another."""
        total = torch.zeros((), device=device)
        for index in range(number):
            loss = self.mine[0](total, micro_batch=torch.tensor([index]))[0]
            if backward:
                loss.backward()
            total = total + loss.detach()
        return total

    def _schedule(self, batches: Sequence[Batch], *, backward: bool) -> Any:
        """The schedule for batches of this shape: buffers are made for one shape."""
        tokens = batches[0].tokens
        key = (len(batches), tokens.shape, backward)
        if self._ready is not None and self._ready[0] == key:
            return self._ready[1]
        stages = [self._stage(index, tokens, backward=backward) for index in self.mine]
        make = SCHEDULES[self.schedule]
        loss = (lambda output, _: output[0]) if backward else None
        looped = self.schedule in LOOPED
        if not backward:  # nothing comes back that could be taken in between
            make = ScheduleLoopedBFS if looped else ScheduleGPipe
        made = make(stages if looped else stages[0], len(batches), loss_fn=loss, scale_grads=False)
        self._ready = key, made
        return made

    def _stage(self, index: int, tokens: Tensor, *, backward: bool) -> PipelineStage:
        """A stage as torch's schedules take it, the shapes of what comes and goes told."""
        last = len(self.stages) - 1
        stage = self.mine[index]

        def hidden(before: int) -> Tensor:
            needs = backward and self.needs_gradient[before]
            shape = (*tokens.shape, self.dim)
            return torch.empty(shape, dtype=stage.wire, device="meta", requires_grad=needs)

        number = torch.empty(1, dtype=torch.long, device="meta")
        loss = torch.empty(1, device="meta", requires_grad=backward)
        return PipelineStage(
            stage,
            index,
            len(self.stages),
            tokens.device,
            input_args=(number if index == 0 else hidden(index - 1),),
            output_args=(loss if index == last else hidden(index),),
            group=self.mesh.pipeline.group,
        )


_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def _divisor(rows: int, most: int) -> int:
    """The largest number of equal parts, ``most`` at best."""
    return max(number for number in range(1, most + 1) if rows % number == 0)
