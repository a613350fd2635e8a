"""The composition: a frozen Llama core that sees through adapter layers and hears in its input.

``MultimodalLlama.walk`` goes over the core's blocks and calls an adapter layer at the
positions that the config names (section 7): for clips first, then for pictures. Embeddings of
speech stand among those of the tokens (section 8). Without media the walk is the core's own, to
the last bit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from language.cache import KeyValueCache
from language.model import Llama
from multimodal.batch import Batch, Clips, Recordings
from multimodal.config import MultimodalConfig
from speech.adapter import SpeechAdapter
from speech.encoder import build_encoder
from speech.frames import Frames
from video.adapter import VideoAdapter
from video.aggregator import TemporalAggregator
from vision.adapter import (
    CrossAttentionContext,
    CrossAttentionLayer,
    ImageAdapter,
    ImageMemory,
    cross_attention_context,
)
from vision.encoder import ImageEncoder

Look = Callable[[CrossAttentionLayer, Tensor, Tensor, CrossAttentionContext], None]
"""Called with a layer, its input, its keys and the mask, just before the layer runs."""
Seen = Literal["clips", "images"]
SEEN: tuple[Seen, ...] = ("clips", "images")
"""Media that are looked at, in the order in which their layers come where both stand."""
TILES_AT_ONCE = 64
"""Tiles of clips that go through the image encoder together."""
Sensed = dict[Literal["clips", "images", "recordings"], Tensor]
"""What :meth:`MultimodalLlama.sense` makes of a batch's media."""
Change = Callable[[Frames], Frames]
"""What training does to the features of recordings, such as masking some."""


class MultimodalLlama(nn.Module):
    """Tokens, pictures, clips and recordings in, next-token logits out."""

    def __init__(self, config: MultimodalConfig) -> None:
        """Build under ``torch.device("meta")`` where weights are read from a file anyway."""
        super().__init__()
        self.config = config
        self.language = Llama(config.language)
        if config.extra_tokens:
            self.extra_embedding = nn.Embedding(config.extra_tokens, config.language.dim)
        if config.image_encoder is not None and config.image_adapter is not None:
            self.image_encoder = ImageEncoder(config.image_encoder)
            self.image_adapter = ImageAdapter(config.image_adapter)
        if config.speech_encoder is not None and config.speech_adapter is not None:
            self.speech_encoder = build_encoder(config.speech_encoder)
            self.speech_adapter = SpeechAdapter(config.speech_adapter)
        if config.video_aggregator is not None and config.video_adapter is not None:
            self.video_aggregator = TemporalAggregator(config.video_aggregator)
            self.video_adapter = VideoAdapter(config.video_adapter)

    def forward(self, batch: Batch) -> Tensor:
        """Logits of the token after each position, [batch, tokens, vocabulary].

        Raises:
            ValueError: media for a model that lacks their parts.
        """
        batch = batch.to(self.language.embedding.weight.device)
        sensed = self.sense(batch)
        hidden = self.walk(
            self.embed_batch(batch, sensed),
            documents=batch.documents,
            sights=self.look_at(batch, sensed),
        )
        return self.language.logits(hidden)

    def sense(self, batch: Batch, *, change: Change | None = None) -> Sensed:
        """What is computed of a batch's media before the walk, whatever layers will read it.

        Args:
            batch: its media are encoded.
            change: what becomes of the features of recordings before they are encoded, in training.

        Returns:
            By medium: features of "clips" [pieces, features, dim] and of "images" [tiles, patches,
            dim] in the core's width, and what :meth:`hear` gives of "recordings" [positions, dim].

        Raises:
            ValueError: media for a model that lacks their parts.
        """
        sensed: Sensed = {}
        if batch.clips is not None:
            merged = self.merge_frames(batch.clips)
            sensed["clips"] = self.video_adapter.projection(merged)
        if batch.images is not None:
            if self.config.image_encoder is None:
                raise ValueError("this model has no image encoder: it reads text alone")
            features = self.image_encoder(batch.images.tiles, batch.images.arrangements)
            sensed["images"] = self.image_adapter.projection(features)
        if batch.recordings is not None:
            sensed["recordings"] = self.hear(batch.recordings, change=change)
        return sensed

    def look_at(self, batch: Batch, sensed: Sensed) -> "list[Sight]":
        """What the text of a batch may look at."""
        return self.sights(self.remember(batch, sensed), visible_in(batch))

    def remember(self, batch: Batch, sensed: Sensed) -> dict[Seen, ImageMemory]:
        """Keys and values of a batch's clips and of its pictures, for the layers that are here."""
        memories: dict[Seen, ImageMemory] = {}
        rows = len(batch.tokens)
        if batch.clips is not None:
            clips = batch.clips
            pieces = self.video_aggregator.num_pieces(clips.lengths, clips.arrangements.prod(dim=1))
            memories["clips"] = self.video_adapter.lay_out(
                sensed["clips"],
                images=torch.arange(len(pieces), device=pieces.device).repeat_interleave(pieces),
                rows=clips.rows,
                batch_size=rows,
            )
        if batch.images is not None:
            memories["images"] = self.image_adapter.lay_out(
                sensed["images"],
                images=batch.images.of_tiles,
                rows=batch.images.rows,
                batch_size=rows,
            )
        return memories

    def sights(
        self, memories: Mapping[Seen, ImageMemory], visible: Mapping[Seen, Tensor | None]
    ) -> "list[Sight]":
        """What :meth:`walk` takes, in the order of the layers: clips, then pictures.

        Args:
            memories: of clips and pictures.
            visible: which of them each token sees, [batch, tokens, media] each.
        """
        sights = []
        for kind in SEEN:
            if kind in memories:
                mask = visible[kind]
                assert mask is not None, f"a batch with {kind} says which tokens see them"
                adapter = self.video_adapter if kind == "clips" else self.image_adapter
                sights.append(Sight(adapter, memories[kind], mask))
        return sights

    def merge_frames(self, clips: Clips) -> Tensor:
        """Features of groups of frames of all clips, [pieces, features of a piece, dim].

        Raises:
            ValueError: this model has no video parts.
        """
        if self.config.video_aggregator is None:
            raise ValueError("this model has no video parts: it cannot watch clips")
        features, tiles = self.frame_features(clips), clips.arrangements.prod(dim=1)
        return self.video_aggregator(features, lengths=clips.lengths, tiles=tiles)

    def frame_features(self, clips: Clips) -> Tensor:
        """Image features of all frames, [tiles, tokens, feature_dim], known ones in their places.

        Tiles are encoded some at a time: what a long clip holds at once does not grow with it.
        """
        counts = clips.tiles_per_clip
        known = torch.zeros_like(counts, dtype=torch.bool) if clips.known is None else clips.known
        arrangements = clips.arrangements[~known].repeat_interleave(clips.lengths[~known], dim=0)
        encoded: list[Tensor] = []
        start = first = 0
        for stop, end in _pieces(arrangements.prod(dim=1).tolist(), most=TILES_AT_ONCE):
            encoded.append(self.image_encoder(clips.tiles[start:end], arrangements[first:stop]))
            first, start = stop, end
        if clips.features is None:
            return torch.cat(encoded) if len(encoded) > 1 else encoded[0]
        places = known.repeat_interleave(counts)
        out = clips.features.new_empty(len(places), *clips.features.shape[1:])
        out[places] = clips.features
        if encoded:
            out[~places] = torch.cat(encoded).to(out.dtype)
        return out

    def hear(self, recordings: Recordings, *, change: Change | None = None) -> Tensor:
        """Embeddings of recordings, each between the two special ones, [positions, dim].

        They stand in the order of the recordings, :meth:`Processor.num_positions` for each.

        Args:
            recordings: of the batch.
            change: what becomes of the features before they are encoded, in training.
        """
        if self.config.speech_encoder is None:
            raise ValueError("this model has no speech encoder: it cannot hear")
        adapter = self.speech_adapter
        frames = self.speech_frames(recordings, change=change)
        return enclosed(frames, adapter.start, adapter.end)

    def speech_frames(self, recordings: Recordings, *, change: Change | None = None) -> Frames:
        """Embeddings of recordings without the special ones, [recordings, embeddings, dim]."""
        encoder = self.speech_encoder
        features = encoder.features(recordings.waveforms, recordings.lengths)
        features = features if change is None else change(features)
        kind = next(encoder.parameters()).dtype
        features = Frames(values=features.values.to(kind), lengths=features.lengths)
        return self.speech_adapter(encoder(features))

    def embed_batch(self, batch: Batch, sensed: Sensed) -> Tensor:
        """Embeddings [batch, tokens, dim] of tokens, those of recordings in their places."""
        if batch.recordings is None:
            return self.embed(batch.tokens)
        assert batch.spoken is not None, "a batch with recordings says where they stand"
        heard = sensed["recordings"]
        hidden = self.embed(batch.tokens.masked_fill(batch.spoken, 0))
        if int(batch.spoken.sum()) != len(heard):
            raise ValueError(f"{int(batch.spoken.sum())} places for {len(heard)} embeddings")
        return hidden.masked_scatter(batch.spoken.unsqueeze(-1), heard.to(hidden.dtype))

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings [batch, tokens, dim]: the frozen table's, and the extra ones past its end."""
        if not self.config.extra_tokens:
            return self.language.embedding(tokens)
        beyond = tokens - self.config.language.vocab_size
        text = self.language.embedding(tokens.clamp(max=self.config.language.vocab_size - 1))
        extra = self.extra_embedding(beyond.clamp(min=0))
        return torch.where((beyond >= 0).unsqueeze(-1), extra, text)

    def walk(
        self,
        hidden: Tensor,
        *,
        documents: Tensor | None = None,
        cache: KeyValueCache | None = None,
        sights: "Sequence[Sight]" = (),
        blocks: range | None = None,
    ) -> Tensor:
        """The walk over the core's blocks and the adapter layers between them.

        Args:
            hidden: embeddings, or what the blocks before ``blocks`` made of them, [batch, tokens,
                dim].
            documents: packed documents, [batch, tokens].
            cache: continued and filled, but not advanced.
            sights: what the text looks at; at a position that several have their layers come in
                this order.
            blocks: which blocks are walked over, each with the adapter layers behind it, the first
                one with those before it, too; all by default. A stage of a pipeline has some.

        Returns:
            [batch, tokens, dim], before the core's last norm.
        """
        context = self.language.context(hidden, documents=documents, cache=cache)
        contexts = [cross_attention_context(sight.memory, sight.visible) for sight in sights]
        if (split := self.language.split) is not None:
            hidden = split.enter(hidden)
            contexts = [replace(context, sees=split.own(context.sees)) for context in contexts]
        seen = list(zip(sights, contexts, strict=True))
        blocks = range(len(self.language.blocks)) if blocks is None else blocks
        if blocks.start == 0:
            hidden = self._look_around(0, hidden, seen)
        for index in blocks:
            hidden = self.language.run_block(index, hidden, context)
            hidden = self._look_around(index + 1, hidden, seen)
        return hidden if split is None else split.leave(hidden)

    def _look_around(
        self,
        position: int,
        hidden: Tensor,
        seen: "Sequence[tuple[Sight, CrossAttentionContext]]",
    ) -> Tensor:
        """Through the adapter layers that stand before block ``position``."""
        for sight, context in seen:
            if position in sight.adapter.at_position:
                hidden = self._look(sight, sight.adapter.at_position[position], hidden, context)
        return hidden

    def _look(
        self, sight: "Sight", index: int, hidden: Tensor, context: CrossAttentionContext
    ) -> Tensor:
        layer = sight.adapter.layers[index]
        key, value = sight.memory.keys[index], sight.memory.values[index]
        assert isinstance(layer, CrossAttentionLayer)
        if sight.watcher is not None:
            sight.watcher(layer, hidden, key, context)
        if self.config.language.activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, hidden, key, value, context, use_reentrant=False)
        return layer(hidden, key, value, context)

    @torch.no_grad()
    def cross_attention_maps(
        self, batch: Batch, *, of: Seen = "images"
    ) -> tuple[Tensor, ImageMemory]:
        """Where each token looks, among the pictures or among the clips: averaged over heads.

        Returns:
            Weights [layers, batch, tokens, slots], and the memory that says whose the slots are.
        """
        maps: list[Tensor] = []

        def watcher(
            layer: CrossAttentionLayer, hidden: Tensor, key: Tensor, context: CrossAttentionContext
        ) -> None:
            normed = layer.attention_norm(hidden)
            maps.append(layer.attention.weights(normed, key, mask=context.mask))

        sensed = self.sense(batch)
        memories = self.remember(batch, sensed)
        if of not in memories:
            raise ValueError(f"there are no {of} to look at")
        sights = self.sights(memories, visible_in(batch))
        for sight in sights:
            sight.watcher = watcher if sight.memory is memories[of] else None
        embedded = self.embed_batch(batch, sensed)
        self.walk(embedded, documents=batch.documents, sights=sights)
        return torch.stack(maps), memories[of]


@dataclass
class Sight:
    """What the text of a batch looks at through one adapter: its pictures, or its clips."""

    adapter: ImageAdapter
    memory: ImageMemory
    visible: Tensor
    """Which of them each token sees, [batch, tokens, media] bool."""
    watcher: Look | None = None


def visible_in(batch: Batch) -> dict[Seen, Tensor | None]:
    """Which clips and which pictures each token of a batch sees."""
    return {"clips": batch.visible_clips, "images": batch.visible}


def _pieces(sizes: Sequence[int], *, most: int) -> Iterator[tuple[int, int]]:
    """Ends of pieces of whole frames: frames so far, and their tiles so far.

    Args:
        sizes: tiles of each frame.
        most: tiles of a piece, unless one frame has more.
    """
    total = size = 0
    for index, added in enumerate(sizes):
        if size and size + added > most:
            yield index, total
            size = 0
        total, size = total + added, size + added
    if sizes:
        yield len(sizes), total


def enclosed(frames: Frames, start: Tensor, end: Tensor) -> Tensor:
    """Embeddings of recordings one after another, each between the two special ones.

    Args:
        frames: embeddings, [recordings, embeddings, dim].
        start: stands before each recording's, [dim].
        end: stands after them, [dim].

    Returns:
        [positions, dim], two positions more for each recording than it has embeddings.
    """
    values, lengths = frames.values, frames.lengths
    edge = start.to(values.dtype).expand(len(values), 1, -1)
    values = torch.cat((edge, values, edge), dim=1)
    positions = torch.arange(values.shape[1], device=values.device)
    is_end = positions == lengths[:, None] + 1
    values = torch.where(is_end.unsqueeze(-1), end.to(values.dtype), values)
    return values[positions <= lengths[:, None] + 1]
