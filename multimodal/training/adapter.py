"""Training of the image encoder and adapter beside a frozen core (paper sections 7.3 to 7.5).

The stages differ in config alone: *pretrain* (a new adapter on captions), *anneal* (``parts.start``
from it, larger tiles, a fresh optimizer warmed up to a small rate), *finetune* (dialogues;
``parts.core`` names the instruction-tuned sibling, ``parts.other_core`` says so). The core is
frozen (`multimodal.training.frozen_core`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from language.draft import Draft
from language.flops import Work
from language.optimization import AdamWConfig, ScheduleConfig
from multimodal.adapter_checkpoint import IMAGE_PARTS
from multimodal.batch import Batch, Images
from multimodal.config import MultimodalConfig
from multimodal.model import MultimodalLlama
from multimodal.training.flops import Trained, step_work
from multimodal.training.frozen_core import FrozenCoreTraining
from multimodal.training.parts import ModelParts, config_of, draft


class ImageAdapterTraining(FrozenCoreTraining):
    """Trains image parts so that the frozen core says what is in a picture."""

    exported = IMAGE_PARTS

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
        super().__init__(
            optimizer=optimizer,
            schedule=schedule,
            core=parts.core or parts.start,
            train=train,
            tokenizer=tokenizer,
            max_tokens=max_tokens,
            export_whole=export_whole,
            compile=compile,
        )
        self.parts, self.compare_pictures = parts, compare_pictures

    def planned_config(self) -> MultimodalConfig:
        """The model that will be built."""
        return config_of(self.parts)

    def draft_model(self) -> Draft[MultimodalLlama]:
        """Put the model together."""
        return draft(self.parts)

    def compile_blocks(self) -> None:
        """Compile core, adapter and encoder."""
        super().compile_blocks()
        for layer in self.model.image_adapter.layers:
            layer.compile()
        self.model.image_encoder.compile_blocks()

    def medium(self, batch: Batch) -> Images | None:
        """The pictures of a batch."""
        return batch.images

    def validation_losses(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Losses with the true pictures, with others in their places, and with none."""
        total, count = self.loss(batch)
        losses = {"loss": (total, count)}
        if self.compare_pictures:  # the same names on every rank, whatever its batch holds
            images = batch.images
            several = images is not None and len(images.rows) > 1
            exchanged = batch if images is None else replace(batch, images=rolled(images))
            without = replace(batch, images=None, visible=None)
            losses["loss_shuffled"] = self.compared_loss(exchanged, counts=several)
            losses["loss_without"] = self.compared_loss(without, counts=several)
        return losses

    def work(self, batch: Batch) -> Work:
        """What a batch asks for."""
        names = {name.split(".")[0] for name, _ in self.trainable()}
        parts = ("image_encoder", "image_adapter", "extra_embedding")
        trained = Trained(**{part: part in names for part in parts})
        return step_work(self.model.config, batch, trained=trained)


def rolled(images: Images) -> Images:
    """Other pictures of the batch in each one's place: each takes the next one's."""
    counts = cast(list[int], images.arrangements.prod(dim=1).tolist())
    return Images(
        tiles=torch.cat([images.tiles[counts[0] :], images.tiles[: counts[0]]]),
        arrangements=images.arrangements.roll(-1, dims=0),
        rows=images.rows,
    )
