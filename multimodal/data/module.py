"""Data modules that a YAML names: sources, mixture, batch size, and how they are loaded.

data:
  class_path: multimodal.data.module.PictureData
  init_args:
    train:
      - {path: "captions/{00000..00999}.tar", weight: 3}
      - {path: dialogues.jsonl, weight: 1}
    batch_size: 64
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import LightningDataModule

from language.errors import InputError
from language.tokenizer import load_tokenizer
from multimodal.data.batching import BatchPlan, Plan
from multimodal.data.contrastive import ContrastiveTask
from multimodal.data.faults import FaultBudget
from multimodal.data.files import default_cache
from multimodal.data.loader import Batches, Loader
from multimodal.data.order import Mixture
from multimodal.data.packing import Learn, PackedText
from multimodal.data.samples import Source
from multimodal.data.tasks import PictureTask, Task, TextTask, open_pictures
from multimodal.processor import Processor
from vision.tiles import TilesConfig

StartMethod = Literal["fork", "spawn", "forkserver"]


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One source of a mixture."""

    path: str
    """Tar shards or JSONL: a file, a folder, or many by braces and globs; local or a URL."""
    weight: float | None = None
    """Share of the mixture relative to the other sources; without weights each goes by its size."""
    name: str = ""
    """What logs call it; the path by default."""


class SampleData(LightningDataModule):
    """Sources, their mixture, and the loaders over them; a subclass says what samples become."""

    batch_key = "batch_size"
    """What its setting is called that must divide over the data ranks."""

    def __init__(
        self,
        *,
        train: Sequence[SourceConfig],
        validation: Sequence[SourceConfig] = (),
        test: Sequence[SourceConfig] = (),
        batch_size: int,
        num_workers: int = 2,
        prefetch: int = 2,
        window: int = 64,
        seed: int = 1,
        max_broken_share: float = 0.01,
        start_method: StartMethod | None = None,
        cache: str | None = None,
    ) -> None:
        """Settings of the data.

        Args:
            train: sources to learn from.
            validation: sources for validation, read once in order.
            test: sources for the test, read once in order.
            batch_size: samples of a batch over all data ranks together.
            num_workers: processes that decode, for each rank.
            prefetch: batches that each of them makes ahead.
            window: batches whose samples are sorted together, so that samples of like size share
                a batch and little is padded; 1 keeps the plain order.
            seed: decides the order of the samples.
            max_broken_share: share of broken samples beyond which the run stops.
            start_method: how worker processes start; the platform's way by default.
            cache: folder for indexes and copies of remote files; $OPENHERD_CACHE or the user's
                cache folder by default.
        """
        super().__init__()
        self.configs = {"train": list(train), "validation": list(validation), "test": list(test)}
        self.batch_size, self.window, self.seed = batch_size, window, seed
        self.num_workers, self.prefetch, self.start_method = num_workers, prefetch, start_method
        self.max_broken_share = max_broken_share
        self.cache = default_cache() if cache is None else Path(cache)
        self.train_loader: Loader | None = None
        """The loader of the running training; its `metrics` say what it met."""

    def open_source(self, config: SourceConfig) -> Source:
        """Index a source, or find its index."""
        raise NotImplementedError

    def task(self) -> Task:
        """What samples become."""
        raise NotImplementedError

    def evaluation_task(self) -> Task:
        """What samples become in validation and test."""
        return self.task()

    def plan(self, mixture: Mixture, sources: Sequence[Source], task: Task, *, once: bool) -> Plan:
        """How samples are put into batches, once or without end."""
        return BatchPlan(
            mixture=mixture,
            batch_size=self.batch_size,
            cost=_Cost(sources, task),
            window=self.window,
            once=once,
        )

    def prepare_data(self) -> None:
        """Index everything once on each machine, before the other ranks look for the indexes."""
        for configs in self.configs.values():
            for config in configs:
                self.open_source(config)

    def train_dataloader(self) -> Loader:
        """Endless shuffled batches.

        Raises:
            InputError: there is no source, or the batch does not divide over the ranks.
        """
        self.train_loader = self._loader("train")
        return self.train_loader

    def val_dataloader(self) -> Loader | list[Loader]:
        """Every validation sample once."""
        return self._loader("validation") if self.configs["validation"] else []

    def test_dataloader(self) -> Loader | list[Loader]:
        """Every test sample once."""
        return self._loader("test") if self.configs["test"] else []

    def _loader(self, part: str) -> Loader:
        configs = self.configs[part]
        if not configs:
            raise InputError(f"data.{part}", "no sources: give a list of {path, weight}")
        is_train = part == "train"
        weights = _weights(configs) if is_train else None
        rank, num_ranks = self._place()
        if self.batch_size % num_ranks:
            raise InputError(
                f"data.{self.batch_key}",
                f"{self.batch_size} samples do not divide over {num_ranks} data ranks",
            )
        sources = [self.open_source(config) for config in configs]
        task = self.task() if is_train else self.evaluation_task()
        mixture = Mixture(
            sizes=tuple(map(len, sources)), weights=weights, seed=self.seed, shuffle=is_train
        )
        plan = self.plan(mixture, sources, task, once=not is_train)
        return Loader(
            Batches(plan, sources, task, rank=rank, num_ranks=num_ranks),
            num_workers=self.num_workers,
            prefetch=self.prefetch,
            pin_memory=torch.cuda.is_available(),
            start_method=self.start_method,
            budget=FaultBudget(max_share=self.max_broken_share),
        )

    def _place(self) -> tuple[int, int]:
        """This process's data rank, and how many there are."""
        if self.trainer is None:
            return 0, 1
        place = self.trainer.distributed_sampler_kwargs or {"rank": 0, "num_replicas": 1}
        return place["rank"], place["num_replicas"]


class PictureData(SampleData):
    """Pictures with captions or dialogues, for the adapter's stages.

    They are encoded by the `processor` of the module that is trained, so that tiles and tokens are
    those of its model.
    """

    processor: Processor | None = None

    def open_source(self, config: SourceConfig) -> Source:
        """Shards or JSONL."""
        return open_pictures(config.path, name=config.name, cache=self.cache)

    def task(self) -> Task:
        """Next token by next token."""
        if self.processor is not None:
            return PictureTask(self.processor)
        assert self.trainer is not None, "set data.processor, or use a trainer"
        processor = self.trainer.lightning_module.processor
        assert isinstance(processor, Processor)
        return PictureTask(processor)


class ContrastiveData(SampleData):
    """Pictures with captions, for the image encoder's own pre-training.

    Pictures are cut by the `tiles` of the module that is trained.
    """

    def __init__(
        self,
        *,
        train: Sequence[SourceConfig],
        validation: Sequence[SourceConfig] = (),
        test: Sequence[SourceConfig] = (),
        batch_size: int,
        tokenizer: str,
        max_tokens: int = 128,
        num_negatives: int = 0,
        num_workers: int = 2,
        prefetch: int = 2,
        window: int = 64,
        seed: int = 1,
        max_broken_share: float = 0.01,
        start_method: StartMethod | None = None,
        cache: str | None = None,
    ) -> None:
        """Settings of the data; those not described are `SampleData`'s.

        Args:
            train: sources to learn from.
            validation: sources for validation, read once in order.
            test: sources for the test, read once in order.
            batch_size: pictures of a batch over all data ranks together.
            tokenizer: directory or file of the text tower's tokenizer.
            max_tokens: longest caption; longer ones are dropped and counted.
            num_negatives: wrong captions of each picture that are used.
            num_workers: processes that decode, for each rank.
            prefetch: batches that each of them makes ahead.
            window: batches whose samples are sorted together by size.
            seed: decides the order of the samples.
            max_broken_share: share of broken samples beyond which the run stops.
            start_method: how worker processes start.
            cache: folder for indexes and copies of remote files.
        """
        super().__init__(
            train=train,
            validation=validation,
            test=test,
            batch_size=batch_size,
            num_workers=num_workers,
            prefetch=prefetch,
            window=window,
            seed=seed,
            max_broken_share=max_broken_share,
            start_method=start_method,
            cache=cache,
        )
        self.tokenizer = load_tokenizer(Path(tokenizer))
        self.max_tokens, self.num_negatives = max_tokens, num_negatives

    def open_source(self, config: SourceConfig) -> Source:
        """Shards or JSONL."""
        return open_pictures(config.path, name=config.name, cache=self.cache)

    def task(self) -> Task:
        """Pictures beside captions."""
        assert self.trainer is not None, "the tiles are those of the trained module"
        tiles = self.trainer.lightning_module.tiles
        assert isinstance(tiles, TilesConfig)
        return ContrastiveTask(
            tokenizer=self.tokenizer,
            tiles=tiles,
            num_negatives=self.num_negatives,
            max_tokens=self.max_tokens,
        )


class TextData(SampleData):
    """Texts packed into rows, for the core's own pre-training."""

    def __init__(
        self,
        *,
        train: Sequence[SourceConfig],
        validation: Sequence[SourceConfig] = (),
        test: Sequence[SourceConfig] = (),
        batch_size: int,
        tokenizer: str,
        max_tokens: int,
        learn: Learn = "everything",
        num_workers: int = 1,
        seed: int = 1,
        max_broken_share: float = 0.01,
        cache: str | None = None,
    ) -> None:
        """Settings of the data.

        Args:
            train: sources to learn from: ``.txt``, ``.jsonl`` or ``.tar``.
            validation: sources for validation, read once in order.
            test: sources for the test, read once in order.
            batch_size: rows of a batch over all data ranks together.
            tokenizer: directory or file of the tokenizer.
            max_tokens: tokens of a row.
            learn: tokens of dialogues that carry loss; of plain texts all do.
            num_workers: processes that read, for each rank.
            seed: decides the order of the rows.
            max_broken_share: share of broken samples beyond which packing stops.
            cache: folder for what was packed; see `SampleData`.
        """
        super().__init__(
            train=train,
            validation=validation,
            test=test,
            batch_size=batch_size,
            num_workers=num_workers,
            window=1,
            seed=seed,
            max_broken_share=max_broken_share,
            cache=cache,
        )
        self.tokenizer = load_tokenizer(Path(tokenizer))
        self.max_tokens, self.learn = max_tokens, learn

    def open_source(self, config: SourceConfig) -> Source:
        """Tokenized, packed rows."""
        return PackedText(
            config.path,
            tokenizer=self.tokenizer,
            max_tokens=self.max_tokens,
            learn=self.learn,
            max_broken_share=self.max_broken_share,
            name=config.name,
            cache=self.cache,
        )

    def task(self) -> Task:
        """Rows as they are packed."""
        return TextTask(pad_id=self.tokenizer.pad_id)


class _Cost:
    """Cost of a sample by source and index; a class, so that it can be sent to workers."""

    def __init__(self, sources: Sequence[Source], task: Task) -> None:
        self.sources, self.task = sources, task

    def __call__(self, source: int, index: int) -> float:
        return self.task.cost(self.sources[source].extent(index))


def _weights(configs: list[SourceConfig]) -> tuple[float, ...] | None:
    given = [config.weight for config in configs if config.weight is not None]
    if not given:
        return None
    if len(given) != len(configs):
        raise InputError("data.train", "give a weight to every source, or to none")
    return tuple(given)
