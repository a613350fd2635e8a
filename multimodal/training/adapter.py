"""Training of the image encoder and adapter beside a frozen core (paper sections 7.3 to 7.5).

The stages differ in config alone: *pretrain* (a new adapter on captions), *anneal* (``parts.start``
from it, larger tiles, a fresh optimizer warmed up to a small rate), *finetune* (dialogues;
``parts.core`` names the instruction-tuned sibling, ``parts.other_core`` says so). What trains is
given by patterns of names and printed before the first step. Everything else has no gradient, no
optimizer state, no place in saved states, and is afterwards what it was, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from language.errors import InputError
from language.flops import Work
from language.next_token import IGNORED, NextTokenTraining, next_token_loss
from language.optimization import AdamWConfig, ScheduleConfig, check_matched
from language.tokenizer import load_tokenizer
from multimodal.adapter_checkpoint import core_hash, save_adapter
from multimodal.batch import Batch, Images
from multimodal.checkpoint import save_model
from multimodal.config import MultimodalConfig
from multimodal.model import MultimodalLlama
from multimodal.processor import Processor
from multimodal.training.announce import announce
from multimodal.training.flops import Trained, step_work
from multimodal.training.parts import ModelParts, build, config_of


class ImageAdapterTraining(NextTokenTraining):
    """Trains image parts so that the frozen core says what is in a picture."""

    model: MultimodalLlama

    def __init__(
        self,
        *,
        parts: ModelParts,
        optimizer: AdamWConfig,
        schedule: ScheduleConfig,
        train: Sequence[str] = ("image_encoder.*", "image_adapter.*", "extra_embedding.*"),
        tokenizer: str = "",
        max_tokens: int = 0,
        compare_pictures: bool = True,
        export_whole: bool = False,
        compile: bool = False,
    ) -> None:
        """Settings of the run.

        Args:
            parts: where the model comes from.
            optimizer: AdamW.
            schedule: course of the learning rate.
            train: shell-style patterns of the names of what trains, none of the core's.
            tokenizer: directory of the tokenizer; by default the core's.
            max_tokens: longest row in tokens; 0 is the core's context. Longer samples are dropped.
            compare_pictures: validate also with pictures shuffled and without any, which shows
                whether the model looks at them.
            export_whole: export the core, too, as a directory that needs nothing else.
            compile: whether blocks are compiled by torch.compile.
        """
        super().__init__(optimizer=optimizer, schedule=schedule)
        self.parts, self.patterns, self.compare_pictures = parts, tuple(train), compare_pictures
        self.companions = Path(tokenizer or parts.core or parts.start)
        self.max_tokens, self.export_whole, self.compile_blocks = max_tokens, export_whole, compile
        self._core_hash: str | None = None
        self._processor: Processor | None = None

    @property
    def config(self) -> MultimodalConfig:
        """The model that is trained."""
        return self.model.config if hasattr(self, "model") else config_of(self.parts)

    @property
    def processor(self) -> Processor:
        """Makes rows of this model's tokens and tiles.

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
        model = build(self.parts)
        choose_trainable(model, self.patterns)
        announce(describe(model))
        if self.compile_blocks:
            for block in (*model.language.blocks, *model.image_adapter.layers):
                block.compile()
            model.image_encoder.compile_blocks()
        self.model = model

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Next-token loss over the targets; logits are computed for these alone."""
        model = self.model
        assert batch.targets is not None, "a batch to train on has targets"
        memory = None if batch.images is None else model.remember(batch.images, len(batch.tokens))
        hidden = model.walk(
            model.embed_batch(batch),
            documents=batch.documents,
            memory=memory,
            visible=batch.visible,
        )
        wanted = batch.targets != IGNORED
        total, count = next_token_loss(model.language.logits(hidden[wanted]), batch.targets[wanted])
        if memory is None and torch.is_grad_enabled():
            # every rank must have a gradient for every parameter, be it 0
            total = total + sum(0 * parameter.sum() for _, parameter in self.trainable())
        return total, count

    def validation_losses(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Losses with the true pictures, with others in their places, and with none."""
        total, count = self.loss(batch)
        losses = {"loss": (total, count)}
        if self.compare_pictures:  # the same names on every rank, whatever its batch holds
            nothing = torch.zeros_like(total), torch.zeros_like(count)
            losses |= {"loss_shuffled": nothing, "loss_without": nothing}
            if batch.images is not None and len(batch.images.rows) > 1:
                exchanged = replace(batch, images=rolled(batch.images))
                losses["loss_shuffled"] = self.loss(exchanged)
                losses["loss_without"] = self.loss(replace(batch, images=None, visible=None))
        return losses

    def work(self, batch: Batch) -> Work:
        """What a batch asks for."""
        names = {name.split(".")[0] for name, _ in self.trainable()}
        parts = ("image_encoder", "image_adapter", "extra_embedding")
        trained = Trained(**{part: part in names for part in parts})
        return step_work(self.model.config, batch, trained=trained)

    def export(self, directory: Path) -> None:
        """Write the image parts with the hash of their core, or the whole model."""
        if self.export_whole:
            save_model(self.model, directory, self.processor.tokenizer, companions=self.companions)
            return
        if self._core_hash is None:
            self._core_hash = core_hash(self.model.language)
        name = Path(self.parts.core or self.parts.start).name
        save_adapter(self.model, directory, core_name=name, known_hash=self._core_hash)


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


def rolled(images: Images) -> Images:
    """Other pictures of the batch in each one's place: each takes the next one's."""
    counts = cast(list[int], images.arrangements.prod(dim=1).tolist())
    return Images(
        tiles=torch.cat([images.tiles[counts[0] :], images.tiles[: counts[0]]]),
        arrangements=images.arrangements.roll(-1, dims=0),
        rows=images.rows,
    )
