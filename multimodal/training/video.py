"""Training of the temporal aggregator and the video layers (paper sections 7.3 to 7.5).

Image encoder, image layers and core stay as the annealed image model has them, bit for bit; so the
features of a clip's frames are the same in every epoch, and may be kept on disk
(`multimodal.data.feature_cache`).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from language.draft import Draft
from language.flops import Work
from language.optimization import AdamWConfig, ScheduleConfig
from multimodal.adapter_checkpoint import VIDEO_PARTS
from multimodal.batch import Batch, Clips
from multimodal.config import MultimodalConfig
from multimodal.data.feature_cache import FeatureCache
from multimodal.model import MultimodalLlama, Sensed
from multimodal.training.flops import hearing_flops
from multimodal.training.frozen_core import FrozenCoreTraining
from multimodal.training.video_flops import video_step_work
from multimodal.training.video_parts import VideoParts, draft_video, video_config_of


class VideoAdapterTraining(FrozenCoreTraining):
    """Trains video parts so that a model that sees pictures says what happens in a clip."""

    exported = VIDEO_PARTS

    def __init__(
        self,
        *,
        parts: VideoParts,
        optimizer: AdamWConfig,
        schedule: ScheduleConfig,
        train: Sequence[str] = ("video_aggregator.*", "video_adapter.*"),
        tokenizer: str = "",
        max_tokens: int = 0,
        feature_cache: str = "",
        feature_cache_gb: float = 0.0,
        compare_clips: bool = True,
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
            feature_cache: folder that the image features of clips are kept in, keyed by the clip's
                content and the encoder; "" encodes every frame anew.
            feature_cache_gb: most 10^9 bytes that this folder may take; clips beyond are encoded
                anew each time. 0 sets no bound.
            compare_clips: validate also with clips exchanged, with their frames in disorder, and
                without any, which shows whether the model watches them, and in time.
            export_whole: export the core, too, as a directory that needs nothing else.
            compile: whether blocks are compiled by torch.compile.

        Raises:
            ValueError: features are to be kept, but the image encoder trains; a negative bound.
        """
        super().__init__(
            optimizer=optimizer,
            schedule=schedule,
            core=parts.core,
            train=train,
            tokenizer=tokenizer,
            max_tokens=max_tokens,
            export_whole=export_whole,
            compile=compile,
        )
        if feature_cache and any(pattern.startswith("image_encoder") for pattern in train):
            raise ValueError("model.feature_cache: the features of an encoder that trains change")
        self.parts, self.compare_clips = parts, compare_clips
        if feature_cache_gb < 0:
            raise ValueError(f"model.feature_cache_gb must be 0 or more, not {feature_cache_gb}")
        self.feature_cache, self.feature_cache_gb = feature_cache, feature_cache_gb
        self._cache: FeatureCache | None = None

    def planned_config(self) -> MultimodalConfig:
        """The model that will be built."""
        return video_config_of(self.parts)

    def draft_model(self) -> Draft[MultimodalLlama]:
        """Put the model together."""
        return draft_video(self.parts)

    def compile_blocks(self) -> None:
        """Compile core, encoder, aggregator and video layers."""
        super().compile_blocks()
        self.model.image_encoder.compile_blocks()
        for layer in (*self.model.video_adapter.layers, *self.model.video_aggregator.layers):
            layer.compile()

    def medium(self, batch: Batch) -> Clips | None:
        """The clips of a batch."""
        return batch.clips

    def cache(self) -> FeatureCache | None:
        """Where features are kept; None if they are not."""
        if self.feature_cache and self._cache is None:
            self._cache = FeatureCache.of(
                self.feature_cache,
                self.model,
                max_bytes=self.feature_cache_gb * 1e9 or math.inf,
                sharers=self.trainer.world_size,
            )
        return self._cache

    def sense(self, batch: Batch) -> Sensed:
        """Merged frames and embeddings of recordings; image features are computed once for all."""
        return super().sense(self.with_features(batch))

    @torch.no_grad()
    def with_features(self, batch: Batch) -> Batch:
        """The batch with the image features of its frames in place of their tiles."""
        clips = batch.clips
        if clips is None:
            return batch
        if clips.known is not None and bool(clips.known.all()):
            return batch
        features = self.model.frame_features(clips)
        if (cache := self.cache()) is not None:
            cache.keep(clips, features)
        known = torch.ones_like(clips.lengths, dtype=torch.bool)
        clips = replace(clips, tiles=clips.tiles[:0], features=features, known=known)
        return replace(batch, clips=clips)

    def validation_losses(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Losses with the true clips, with others, with frames in disorder, and without any."""
        batch = self.with_features(batch)
        total, count = self.loss(batch)
        losses = {"loss": (total, count)}
        if self.compare_clips:  # the same names on every rank, whatever its batch holds
            clips = batch.clips
            several = clips is not None and len(clips.rows) > 1
            others = None if clips is None else exchanged_clips(clips)
            mixed = None if clips is None else disordered(clips)
            compared = {
                "loss_shuffled": replace(batch, clips=others),
                "loss_disordered": replace(batch, clips=mixed),
                "loss_without": replace(batch, clips=None, visible_clips=None),
            }
            for name, other in compared.items():
                losses[name] = self.compared_loss(other, counts=several)
        return losses

    def work(self, batch: Batch) -> Work:
        """What a batch asks for."""
        work = video_step_work(self.model.config, batch)
        if batch.recordings is None:
            return work
        hearing = hearing_flops(self.model, batch.recordings, trained=())
        return replace(work, flops=work.flops + hearing)


def exchanged_clips(clips: Clips) -> Clips:
    """Other clips of the batch in each one's place: each takes the next one's.

    Args:
        clips: with their features, so that clips may differ in size.
    """
    assert clips.features is not None
    first = int(clips.tiles_per_clip[0])
    return replace(
        clips,
        features=torch.cat([clips.features[first:], clips.features[:first]]),
        arrangements=clips.arrangements.roll(-1, dims=0),
        lengths=clips.lengths.roll(-1, dims=0),
        keys=clips.keys[1:] + clips.keys[:1],
    )


def disordered(clips: Clips, *, seed: int = 0) -> Clips:
    """The same clips with the frames of each in random order.

    Args:
        clips: with their features.
        seed: of the order.
    """
    assert clips.features is not None
    generator = torch.Generator().manual_seed(seed)
    order, start = [], 0
    for length, tiles in zip(clips.lengths.tolist(), clips.arrangements.tolist(), strict=True):
        size = tiles[0] * tiles[1]
        frames = torch.arange(start, start + length * size).view(length, size)
        order.append(frames[torch.randperm(length, generator=generator)].flatten())
        start += length * size
    return replace(clips, features=clips.features[torch.cat(order).to(clips.features.device)])
