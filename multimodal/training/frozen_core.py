"""What trainings of parts beside a frozen core share: what trains, the loss, what is exported.

What trains is given by patterns of names and printed before the first step. Everything else has no
gradient, no optimizer state, no place in saved states, and is afterwards what it was, bit for bit.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor, nn

from language.errors import InputError
from language.next_token import IGNORED, NextTokenTraining, next_token_loss
from language.optimization import AdamWConfig, ScheduleConfig, check_matched
from language.tokenizer import load_tokenizer
from multimodal.adapter_checkpoint import save_adapter, weights_hash
from multimodal.batch import Batch, Clips, Images, Recordings
from multimodal.checkpoint import save_model
from multimodal.config import MultimodalConfig
from multimodal.model import MultimodalLlama, Sensed
from multimodal.processor import Processor
from multimodal.training.announce import announce
from speech.frames import Frames


class FrozenCoreTraining(NextTokenTraining):
    """Trains parts for one medium beside a core; a subclass says which medium and which parts."""

    model: MultimodalLlama

    def __init__(
        self,
        *,
        optimizer: AdamWConfig,
        schedule: ScheduleConfig,
        core: str,
        train: Sequence[str],
        tokenizer: str,
        max_tokens: int,
        export_whole: bool,
        compile: bool,
    ) -> None:
        """Settings of the run; those not described are the subclass's.

        Args:
            optimizer: AdamW.
            schedule: course of the learning rate.
            core: directory of the core, or of the model that holds it.
            train: shell-style patterns of the names of what trains.
            tokenizer: directory of the tokenizer; "" is the core's.
            max_tokens: longest row in tokens; 0 is the core's context.
            export_whole: export the core, too.
            compile: whether blocks are compiled by torch.compile.
        """
        super().__init__(optimizer=optimizer, schedule=schedule)
        self.core_directory, self.patterns = Path(core), tuple(train)
        self.companions = Path(tokenizer or core)
        self.max_tokens, self.export_whole, self.compile_parts = max_tokens, export_whole, compile
        self._core_hash: str | None = None
        self._processor: Processor | None = None

    exported: tuple[str, ...]
    """Modules of the model that an export without the core holds."""

    def planned_config(self) -> MultimodalConfig:
        """The model that will be built."""
        raise NotImplementedError

    def compile_blocks(self) -> None:
        """Compile the core's blocks; a subclass adds its parts'."""
        for block in self.model.language.blocks:
            block.compile()

    def medium(self, batch: Batch) -> Images | Clips | Recordings | None:
        """What the trained parts see or hear of a batch."""
        raise NotImplementedError

    def change(self, features: Frames) -> Frames:
        """What becomes of the features of recordings before they are encoded."""
        return features

    @property
    def config(self) -> MultimodalConfig:
        """The model that is trained."""
        return self.model.config if hasattr(self, "model") else self.planned_config()

    @property
    def processor(self) -> Processor:
        """Makes rows of this model's tokens, tiles and places for recordings.

        Raises:
            InputError: the tokenizer does not go with the core.
        """
        if self._processor is None:
            tokenizer, config = load_tokenizer(self.companions), self.config
            if tokenizer.vocab_size > config.language.vocab_size:
                raise InputError(
                    self.companions,
                    f"has {tokenizer.vocab_size} tokens, the core {config.language.vocab_size}",
                )
            self._processor = Processor(tokenizer, config, max_tokens=self.max_tokens or None)
        return self._processor

    def configure_model(self) -> None:
        """Put the model together, freeze what does not train, and say which is which.

        Raises:
            InputError: a directory or a pattern is wrong.
        """
        if hasattr(self, "model"):
            return
        draft = self.draft_model()
        choose_trainable(draft.model, self.patterns)
        announce(describe(draft.model))
        self.take(draft)
        if self.compile_parts:
            self.compile_blocks()

    def sense(self, batch: Batch) -> Sensed:
        """Features of pictures and clips, embeddings of recordings."""
        return self.model.sense(batch, change=self.change)

    def embed(self, batch: Batch, sensed: Sensed) -> Tensor:
        """Embeddings of tokens, those of recordings in their places."""
        return self.model.embed_batch(batch, sensed)

    def walk(
        self, hidden: Tensor, batch: Batch, sensed: Sensed, blocks: range | None = None
    ) -> Tensor:
        """Over blocks of the core and the adapter layers between them."""
        return self.model.walk(
            hidden,
            documents=batch.documents,
            sights=self.model.look_at(batch, sensed),
            blocks=blocks,
        )

    def final_loss(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Next-token loss over the targets; logits are computed for these alone."""
        assert batch.targets is not None, "a batch to train on has targets"
        wanted = batch.targets != IGNORED
        logits = self.model.language.logits(hidden[wanted])
        total, count = next_token_loss(logits, batch.targets[wanted])
        return self.with_all_gradients(total, batch), count

    def with_all_gradients(self, total: Tensor, batch: Batch) -> Tensor:
        """The loss, with a gradient of 0 for what a batch without the medium does not use.

        Every rank must have a gradient for every parameter; in a pipeline they are made later.
        """
        if self.medium(batch) is None and self.pipeline is None and torch.is_grad_enabled():
            return total + sum(0 * parameter.sum() for _, parameter in self.trainable())
        return total

    def compared_loss(self, batch: Batch, *, counts: bool) -> tuple[Tensor, Tensor]:
        """Summed loss and number of targets of what validation compares with, 0 unless it counts.

        It is computed in any case: of ranks that wait for one another some may have such a batch.
        """
        total, count = self.loss(batch)
        return (total, count) if counts else (torch.zeros_like(total), torch.zeros_like(count))

    def whole_model(self) -> MultimodalLlama:
        """The model again: the parts that an export holds, or those and the core."""
        draft = self.draft_model()
        if self.export_whole:
            return draft.fill()
        self._core_hash = weights_hash(draft.of("language"))
        return draft.fill({*self.exported, "image_encoder"})  # video parts name their encoder

    def export(self, directory: Path) -> None:
        """Write the trained parts with the hash of their core, or the whole model."""
        if self.export_whole:
            save_model(self.model, directory, self.processor.tokenizer, companions=self.companions)
            return
        if self._core_hash is None:
            self._core_hash = weights_hash(self.model.language)
        save_adapter(
            self.model,
            directory,
            parts=self.exported,
            core_name=self.core_directory.name,
            known_hash=self._core_hash,
        )


def choose_trainable(model: MultimodalLlama, patterns: Sequence[str]) -> None:
    """Let the parameters train whose names match, and freeze the rest in eval mode.

    Raises:
        InputError: a pattern matches nothing, or a weight of the frozen core.
    """
    matched: set[str] = set()
    for name, parameter in model.named_parameters():
        fits = [pattern for pattern in patterns if fnmatchcase(name, pattern)]
        if fits and name.startswith("language."):
            raise InputError("model.train", f"{fits[0]!r} matches {name}, but the core is frozen")
        matched.update(fits)
        # What is built frozen, such as a table of fixed positions, never trains.
        parameter.requires_grad = bool(fits) and parameter.requires_grad
    check_matched(patterns, matched, key="model.train")
    if not matched:
        raise InputError("model.train", "no pattern: nothing would train")
    _set_modes(model, is_training=False)


def _set_modes(module: nn.Module, *, is_training: bool) -> None:
    """Train what has weights that train; what has none, such as dropout, does as its parent."""
    parameters = list(module.parameters())
    if parameters:
        is_training = any(parameter.requires_grad for parameter in parameters)
    module.training = is_training
    for child in module.children():
        _set_modes(child, is_training=is_training)


def describe(model: MultimodalLlama) -> str:
    """A table of the parts: how many of their parameters train, and their types."""
    lines = [f"{'part':<18}{'parameters':>18}{'of these train':>18}  type"]
    for name, module in model.named_children():
        parameters = list(module.parameters())
        total = sum(parameter.numel() for parameter in parameters)
        trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        kinds = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in parameters})
        share = f"{trained:,}" if trained else "frozen"
        lines.append(f"{name:<18}{total:>18,}{share:>18}  {', '.join(kinds)}")
    return "\n".join(lines)
