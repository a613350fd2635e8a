"""Training over a mesh of processes: pipeline x data x tensor (paper section 7.3).

trainer:
  devices: 8
  strategy:
    class_path: multimodal.training.parallel.MeshStrategy
    init_args: {pipeline: 2, tensor: 2, micro_batches: 4}
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from lightning.fabric.utilities.optimizer import _optimizers_to_device
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer

from language.errors import InputError
from language.next_token import NextTokenTraining
from language.optimization import parameter_groups
from language.training import Training
from multimodal.data.module import SampleData
from multimodal.training.announce import announce
from multimodal.training.averaging import CheckpointAveraging
from multimodal.training.parallel.gradients import (
    Placed,
    gradient_norm,
    share_weights,
    sum_gradients,
)
from multimodal.training.parallel.layout import (
    check_training,
    core_of,
    depends_on_training,
    lay_out,
)
from multimodal.training.parallel.mesh import Mesh, data_size, make_mesh
from multimodal.training.parallel.pipeline import LOOPED, Pipeline, Placement, ScheduleName
from multimodal.training.parallel.shared_states import load_together, save_together
from multimodal.training.parallel.stages import split_model


class MeshStrategy(DDPStrategy):
    """Lays a training out over processes; the configs and the trainings stay what they are."""

    num_averaged = 1
    """Gradients are sums over all processes, and no mean."""

    def __init__(
        self,
        *,
        pipeline: int = 1,
        tensor: int = 1,
        micro_batches: int = 0,
        schedule: ScheduleName = "1f1b",
        stages_per_rank: int = 1,
        encoders: Placement = "spread",
        split_text: bool = False,
        shards: int = 1,
        shard_frozen: bool = True,
        timeout_minutes: float = 30.0,
        process_group_backend: str | None = None,
        start_method: Literal["popen", "spawn", "fork", "forkserver"] = "popen",
    ) -> None:
        """Take the layout; data ranks are what the other two leave of the processes.

        Args:
            pipeline: processes over which the blocks are spread.
            tensor: processes over which each matrix is spread.
            micro_batches: parts of a data rank's batch that go through the pipeline one after
                another; by default twice the pipeline.
            schedule: their order; "interleaved" and "looped" have several stages on a process.
            stages_per_rank: how many stages these have.
            encoders: where pictures, clips and recordings are encoded: on the processes of a
                pipeline in turn, or all on the first.
            split_text: split the text's tokens over tensor ranks between the matrices, which keeps
                less for the backward pass (sequence parallelism).
            shards: data ranks over which the weights of the core's blocks and of adapter layers are
                cut, to be put together where they are used (FSDP); with fewer than all data ranks
                the others have copies (HSDP).
            shard_frozen: cut frozen weights, too; without it they are whole on all data ranks and
                nothing of them is sent, where memory allows it.
            timeout_minutes: after which a process that waits for another gives up.
            process_group_backend: of torch.distributed; NCCL on GPUs and gloo elsewhere by default.
            start_method: how processes are started where no launcher did.
        """
        super().__init__(
            process_group_backend=process_group_backend,
            timeout=timedelta(minutes=timeout_minutes),
            start_method=start_method,
        )
        self.pipeline, self.tensor, self.schedule = pipeline, tensor, schedule
        self.micro_batches = micro_batches or max(1, 2 * pipeline * (pipeline > 1))
        self.stages_per_rank, self.encoders = stages_per_rank, encoders
        self.split_text, self.shards, self.shard_frozen = split_text, shards, shard_frozen
        self.placed: list[Placed] = []
        """What trains on this process."""

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        """The data rank: all processes of a plane read the same rows."""
        return {"num_replicas": self.mesh.data.size, "rank": self.mesh.data.rank}

    def _configure_launcher(self) -> None:
        """Start processes, if they can be laid out."""
        self._check_settings()
        data_size(
            world_size=self.num_nodes * self.num_processes,
            pipeline=self.pipeline,
            tensor=self.tensor,
            shards=self.shards,
        )
        super()._configure_launcher()

    def _check_settings(self) -> None:
        """Refuse settings that do not go together; here, since a parser would hide the reason."""
        schedule, micro_batches = self.schedule, self.micro_batches
        fault = ""
        if (schedule in LOOPED) != (self.stages_per_rank > 1):
            fault = (
                f"schedule {schedule} with stages_per_rank {self.stages_per_rank}: "
                f"{' and '.join(LOOPED)} have several stages on a process, the others one"
            )
        elif self.split_text and self.tensor == 1:
            fault = "split_text splits over tensor ranks: give tensor, too"
        elif micro_batches < 0:
            fault = f"micro_batches must be 0 or more, not {micro_batches}"
        elif schedule == "interleaved" and micro_batches % self.pipeline:
            fault = (
                f"schedule interleaved needs micro_batches that are a multiple of {self.pipeline}, "
                f"not {micro_batches}"
            )
        elif schedule == "1f1b" and micro_batches < self.pipeline:
            fault = (
                f"schedule 1f1b needs micro_batches for all {self.pipeline} stages, "
                f"not {micro_batches}"
            )
        if fault:
            raise InputError("trainer.strategy", fault)

    def setup_environment(self) -> None:
        """Connect the processes.

        Raises:
            InputError: the training, or a callback of it, cannot be laid out.
        """
        module = self.lightning_module
        assert module is not None
        own_loss = not isinstance(module, NextTokenTraining)
        if own_loss or type(module).loss is not NextTokenTraining.loss:  # type: ignore[attr-defined]
            raise InputError(
                "trainer.strategy",
                f"{type(module).__name__} is no walk over a core's blocks, and is trained over "
                "data ranks alone: use strategy ddp",
            )
        callbacks = module.trainer.callbacks  # type: ignore[attr-defined]
        averages = any(isinstance(each, CheckpointAveraging) for each in callbacks)
        if averages and self.pipeline * self.tensor * self.shards > 1:
            raise InputError(
                "trainer.callbacks",
                "CheckpointAveraging keeps no averages in states that processes have parts of: "
                "leave trainer.strategy.pipeline, tensor and shards at 1",
            )
        module.fills_model = False  # type: ignore[assignment]
        super().setup_environment()
        self.mesh: Mesh = make_mesh(
            self.root_device, pipeline=self.pipeline, tensor=self.tensor, shards=self.shards
        )

    @contextmanager
    def tensor_init_context(self, empty_init: bool | None = None) -> Iterator[None]:
        """Draft on the CPU: a process's part is read to its device when all is laid out."""
        with self.precision_plugin.tensor_init_context():
            yield

    def setup(self, trainer: Trainer) -> None:
        """Lay the training out and make its optimizer.

        Raises:
            InputError: the training, or its sizes, do not go with the layout.
        """
        assert self.accelerator is not None
        self.accelerator.setup(trainer)
        module = self.lightning_module
        assert isinstance(module, NextTokenTraining)
        self._check_batch(trainer)
        self._lay_out(module)
        self.model_to_device()
        is_fitting = trainer.state.fn == TrainerFn.FITTING
        if is_fitting:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()
        if is_fitting:
            _optimizers_to_device(self.optimizers, self.root_device)

    def teardown(self) -> None:
        """Put the model away, if there is one that could be."""
        module = self.lightning_module
        # What is cut over processes cannot go back to the one that they were forked from.
        goes_back = self._start_method != "popen" and self.shards > 1
        if module is not None and (goes_back or any(p.is_meta for p in module.parameters())):
            module.model = nn.Module()
        super().teardown()

    def _check_batch(self, trainer: Trainer) -> None:
        """Refuse a batch that does not divide, where its size is told beforehand."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, SampleData) or data.batch_key != "batch_size":
            return
        cuts = self.mesh.plane.size > 1 or self.mesh.shard.size > 1
        parts = self.mesh.data.size * (self.micro_batches if cuts else 1)
        if data.batch_size % parts:
            raise InputError(
                "data.batch_size",
                f"{data.batch_size} rows do not divide into {self.mesh.data.size} data ranks x "
                f"{self.micro_batches} micro-batches",
            )

    def _lay_out(self, training: NextTokenTraining) -> None:
        """Leave this process its part of the model, and its part of that to step."""
        self._keep_part(training)
        training.draft = None  # it holds what is too small to be read in parts
        if self.mesh.data.size > 1:
            training.is_whole = False
            training.stepped = {
                p.name: p.parameter
                for p in self.placed
                if p.owner is None or p.owner == self.mesh.data.rank
            }

    def _keep_part(self, training: NextTokenTraining) -> None:
        mesh, model = self.mesh, training.model
        assert training.draft is not None, "a training that makes its model from a draft"
        # Patterns that match nothing are refused here, where all names are known.
        parameter_groups(training.trainable(), training.optimizer_config)
        device = self.root_device
        training.is_whole = mesh.plane.size == mesh.shard.size == 1
        if training.is_whole:
            whole = range(core_of(model).config.num_layers)
            self.placed = lay_out(training.draft, mesh, [whole], device=device)
            return
        check_training(training, tensor=mesh.tensor.size, shards=mesh.shard.size)
        split = split_model(model, mesh.pipeline.size * self.stages_per_rank)
        if self.global_rank == 0 and mesh.pipeline.size > 1:
            announce(split.describe())
        needs_gradient, senses_train = depends_on_training(model, split.stages)
        dim = core_of(model).config.dim
        self.placed = lay_out(
            training.draft,
            mesh,
            split.stages,
            device=device,
            shard_frozen=self.shard_frozen,
            split_text=self.split_text,
        )
        training.pipeline = Pipeline(
            training,
            mesh,
            stages=split.stages,
            dim=dim,
            micro_batches=self.micro_batches,
            schedule=self.schedule,
            encoders=self.encoders,
            needs_gradient=needs_gradient,
            senses_train=senses_train,
        )

    def configure_ddp(self) -> None:
        """Nothing: gradients are summed once a step, in float32."""

    def optimizer_step(
        self,
        optimizer: Optimizer,
        closure: Callable[[], Any],
        model: LightningModule | nn.Module | None = None,
        **kwargs: Any,
    ) -> Any:
        """Step, once the gradients of all micro-batches are summed over the processes."""

        def summed() -> Any:
            result = closure()
            sum_gradients(self.placed, self.mesh)
            return result

        result = super().optimizer_step(optimizer, summed, model, **kwargs)
        optimizer.zero_grad()
        share_weights(self.placed, self.mesh)
        return result

    def gradient_norm(self, parameters: list[nn.Parameter]) -> Tensor:
        """Norm of the gradient of the whole model, on all processes the same."""
        return gradient_norm(self.placed, self.mesh, device=self.root_device)

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """A state is read once it is known which part of it this process needs."""
        return True

    @property
    def lightning_restore_optimizer(self) -> bool:
        """:meth:`load_checkpoint` does."""
        return False

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Nothing: what trains is written in pieces."""
        return {}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Nothing: moments are written in pieces."""
        return {}

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Nothing: :meth:`load_checkpoint` did."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None
    ) -> None:
        """Write a state together.

        Raises:
            InputError: a process could not write; the states before it are untouched.
        """
        directory = Path(self.broadcast(str(filepath)))
        save_together(directory, checkpoint, self.placed, self._optimizer, self.mesh)

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read of a state what this process needs, whatever layout wrote it.

        Raises:
            InputError: it is not whole, or another run's.
        """
        directory = Path(self.broadcast(str(checkpoint_path)))
        assert self.lightning_module is not None
        check = self.lightning_module.on_load_checkpoint
        return load_together(directory, check, self.placed, self._optimizer)

    @property
    def _optimizer(self) -> Optimizer | None:
        return self.optimizers[0] if self.optimizers else None

    def export(self, training: Training, directory: Path) -> None:
        """Write what the run gives: the first process puts the whole together."""
        whole = self.whole_weights()
        if self.global_rank == 0:
            assert isinstance(training, NextTokenTraining)
            if self.mesh.plane.size == self.mesh.shard.size == 1:
                training.export(directory)
            else:
                part, training.model = training.model, training.whole_model()
                training.model.load_state_dict(whole, strict=False)
                try:
                    training.export(directory)
                finally:
                    training.model = part
        self.barrier()

    def whole_weights(self) -> dict[str, Tensor]:
        """What trains, whole and by name, on the first process; the others get nothing."""
        own = [
            (each.name, each.whole, each.start, each.parameter.detach().cpu())
            for each in self.placed
            if each.is_first
        ]
        every: list[Any] | None = [None] * self.world_size if self.global_rank == 0 else None
        dist.gather_object(own, every)
        whole: dict[str, Tensor] = {}
        for name, shape, start, part in (each for some in every or () for each in some):
            tensor = whole.setdefault(name, torch.empty(shape, dtype=part.dtype))
            place = [slice(a, a + size) for a, size in zip(start, part.shape, strict=True)]
            tensor[tuple(place)] = part
        return whole

    def reduce(
        self, tensor: Tensor | Any, group: Any = None, reduce_op: Any = "mean"
    ) -> Tensor | Any:
        """Sum or mean over data ranks; all processes of a plane have the same numbers."""
        if not isinstance(tensor, Tensor):
            return tensor
        total = tensor.detach().clone().to(self.root_device)
        self.mesh.data.sum(total)
        return total if str(reduce_op).lower().endswith("sum") else total / self.mesh.data.size

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        """Whether all processes, or any of them, decide so."""
        votes = torch.tensor(int(decision), device=self.root_device)
        dist.all_reduce(votes)
        return int(votes) == self.world_size if all else bool(votes)
