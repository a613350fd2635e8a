"""The composition: a frozen Llama core that sees through adapter layers and hears in its input.

``MultimodalLlama.walk`` goes over the core's blocks and calls an adapter layer at the
positions that the config names (section 7); embeddings of speech stand among those of the tokens
(section 8). Without media the walk is the core's own, to the last bit.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from language.cache import KeyValueCache
from language.model import Llama
from multimodal.batch import Batch, Images, Recordings
from multimodal.config import MultimodalConfig
from speech.adapter import SpeechAdapter
from speech.encoder import build_encoder
from speech.frames import Frames
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
Change = Callable[[Frames], Frames]
"""What training does to the features of recordings, such as masking some."""


class MultimodalLlama(nn.Module):
    """Tokens, pictures and recordings in, next-token logits out."""

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

    def forward(self, batch: Batch) -> Tensor:
        """Logits of the token after each position, [batch, tokens, vocabulary].

        Raises:
            ValueError: media for a model that lacks their parts.
        """
        batch = batch.to(self.language.embedding.weight.device)
        memory = None if batch.images is None else self.remember(batch.images, len(batch.tokens))
        hidden = self.walk(
            self.embed_batch(batch),
            documents=batch.documents,
            memory=memory,
            visible=batch.visible,
        )
        return self.language.logits(hidden)

    def remember(self, images: Images, batch_size: int) -> ImageMemory:
        """Encode pictures once: the keys and values that all adapter layers need."""
        if self.config.image_encoder is None:
            raise ValueError("this model has no image encoder: it reads text alone")
        features = self.image_encoder(images.tiles, images.arrangements)
        return self.image_adapter.remember(
            features, images=images.of_tiles, rows=images.rows, batch_size=batch_size
        )

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

    def embed_batch(self, batch: Batch, *, change: Change | None = None) -> Tensor:
        """Embeddings [batch, tokens, dim] of tokens, those of recordings in their places."""
        if batch.recordings is None:
            return self.embed(batch.tokens)
        assert batch.spoken is not None, "a batch with recordings says where they stand"
        heard = self.hear(batch.recordings, change=change)
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
        memory: ImageMemory | None = None,
        visible: Tensor | None = None,
        look: Look | None = None,
    ) -> Tensor:
        """The walk over the core's blocks and the adapter layers between them.

        Args:
            hidden: embeddings, [batch, tokens, dim].
            documents: packed documents, [batch, tokens].
            cache: continued and filled, but not advanced.
            memory: the pictures' keys and values.
            visible: which pictures each token sees, [batch, tokens, images]; with ``memory``.
            look: watches the adapter layers.

        Returns:
            [batch, tokens, dim], before the core's last norm.
        """
        context = self.language.context(hidden, documents=documents, cache=cache)
        if memory is None:
            for index in range(len(self.language.blocks)):
                hidden = self.language.run_block(index, hidden, context)
            return hidden
        assert visible is not None, "a batch with pictures says which tokens see them"
        pictures = cross_attention_context(memory, visible)
        layer_before = self.image_adapter.at_position
        for index in range(len(self.language.blocks) + 1):
            if index in layer_before:
                hidden = self._look_at(layer_before[index], hidden, memory, pictures, look)
            if index < len(self.language.blocks):
                hidden = self.language.run_block(index, hidden, context)
        return hidden

    def _look_at(
        self,
        index: int,
        hidden: Tensor,
        memory: ImageMemory,
        context: CrossAttentionContext,
        look: Look | None,
    ) -> Tensor:
        layer = self.image_adapter.layers[index]
        key, value = memory.keys[index], memory.values[index]
        assert isinstance(layer, CrossAttentionLayer)
        if look is not None:
            look(layer, hidden, key, context)
        if self.config.language.activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, hidden, key, value, context, use_reentrant=False)
        return layer(hidden, key, value, context)

    @torch.no_grad()
    def cross_attention_maps(self, batch: Batch) -> tuple[Tensor, ImageMemory]:
        """Where each token looks: weights averaged over heads.

        Returns:
            Weights [layers, batch, tokens, slots], and the memory that says whose the slots are.
        """
        if batch.images is None:
            raise ValueError("there is no picture to look at")
        maps: list[Tensor] = []

        def look(
            layer: CrossAttentionLayer, hidden: Tensor, key: Tensor, context: CrossAttentionContext
        ) -> None:
            normed = layer.attention_norm(hidden)
            maps.append(layer.attention.weights(normed, key, mask=context.mask))

        memory = self.remember(batch.images, len(batch.tokens))
        self.walk(
            self.embed_batch(batch),
            documents=batch.documents,
            memory=memory,
            visible=batch.visible,
            look=look,
        )
        return torch.stack(maps), memory


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
