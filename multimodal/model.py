"""The composition: a frozen Llama core that looks at pictures through adapter layers (section 7).

``MultimodalLlama.hidden_states`` walks the core's blocks and calls an adapter layer at the
positions that the config names. Without pictures the walk is the core's own, to the last bit.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from language.cache import KeyValueCache
from language.model import Llama
from multimodal.batch import Batch, Images
from multimodal.config import MultimodalConfig
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


class MultimodalLlama(nn.Module):
    """Tokens and pictures in, next-token logits out."""

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

    def forward(self, batch: Batch) -> Tensor:
        """Logits of the token after each position, [batch, tokens, vocabulary].

        Raises:
            ValueError: pictures for a model that has no image parts.
        """
        batch = batch.to(self.language.embedding.weight.device)
        memory = None if batch.images is None else self.remember(batch.images, len(batch.tokens))
        hidden = self.hidden_states(
            batch.tokens, documents=batch.documents, memory=memory, visible=batch.visible
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

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings [batch, tokens, dim]: the frozen table's, and the extra ones past its end."""
        if not self.config.extra_tokens:
            return self.language.embedding(tokens)
        beyond = tokens - self.config.language.vocab_size
        text = self.language.embedding(tokens.clamp(max=self.config.language.vocab_size - 1))
        extra = self.extra_embedding(beyond.clamp(min=0))
        return torch.where((beyond >= 0).unsqueeze(-1), extra, text)

    def hidden_states(
        self,
        tokens: Tensor,
        *,
        documents: Tensor | None = None,
        cache: KeyValueCache | None = None,
        memory: ImageMemory | None = None,
        visible: Tensor | None = None,
        look: Look | None = None,
    ) -> Tensor:
        """The walk over the core's blocks and the adapter layers between them.

        Args:
            tokens: [batch, tokens].
            documents: packed documents, [batch, tokens].
            cache: continued and filled, but not advanced.
            memory: the pictures' keys and values.
            visible: which pictures each token sees, [batch, tokens, images]; with ``memory``.
            look: watches the adapter layers.

        Returns:
            [batch, tokens, dim], before the core's last norm.
        """
        hidden = self.embed(tokens)
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
        self.hidden_states(
            batch.tokens,
            documents=batch.documents,
            memory=memory,
            visible=batch.visible,
            look=look,
        )
        return torch.stack(maps), memory
