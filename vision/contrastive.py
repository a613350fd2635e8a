"""Two towers that place pictures and their captions near each other (paper section 7.2; CLIP).

The image tower is the :class:`ImageEncoder`, pooled over a picture; the text tower is a small
Llama that is trained here and thrown away. The losses are open_clip's (softmax of arXiv
2103.00020 or sigmoid of 2303.15343), with two additions for small worlds: captions that differ
from a picture's own in one attribute can be given as hard negatives (NegCLIP, arXiv 2210.01936),
without which a bag of words is enough; and a caption equal to a picture's own never counts
against it.

Letters: I pictures, C captions of a picture (its own, then negatives), E width of the embedding,
T tokens, N tiles; W * I pictures of all ranks.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F

from language.config import LlamaConfig
from language.model import Llama
from vision.encoder import ImageEncoder
from vision.tiles import Tiles


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """The two towers' common space and the loss in it."""

    text: LlamaConfig
    """Sizes of the text tower; its embeddings are tied, since it predicts nothing."""
    embedding_dim: int
    """Width of the common space."""
    pooling: Literal["mean", "class"] = "mean"
    """A picture's embedding comes from its patches or from its tiles' class tokens."""
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """CLIP's or SigLIP's."""
    max_logit_scale: float = 100.0
    """The learned scale of the logits is kept at or below it."""

    def __post_init__(self) -> None:
        if self.loss not in ("softmax", "sigmoid"):
            raise ValueError(f"contrastive.loss: {self.loss!r} is neither 'softmax' nor 'sigmoid'")
        if self.pooling not in ("mean", "class"):
            raise ValueError(f"contrastive.pooling: {self.pooling!r} is neither 'mean' nor 'class'")


@dataclass(kw_only=True)
class CaptionedPictures:
    """A batch of pictures with their captions."""

    tiles: Tensor
    """`[N, 3, S, S]`, picture by picture."""
    arrangements: Tensor
    """`[I, 2]` int64, rows and columns of tiles."""
    tokens: Tensor
    """`[I, C, T]` int64, padded on the right: each picture's caption, then its hard negatives."""
    lengths: Tensor
    """`[I, C]` int64; 0 where a picture has fewer negatives than others."""

    @classmethod
    def of(
        cls, pictures: list[Tiles], captions: list[list[list[int]]], *, num_negatives: int = 0
    ) -> "CaptionedPictures":
        """Put pictures and tokens of their captions together.

        Args:
            pictures: tiles of each picture.
            captions: for each picture the tokens of its caption, then of at most `num_negatives`
                captions that are wrong.
            num_negatives: C - 1, the same in all batches of a run.
        """
        longest = max(len(caption) for own in captions for caption in own)
        tokens = torch.zeros(len(captions), 1 + num_negatives, longest, dtype=torch.int64)
        lengths = torch.zeros(len(captions), 1 + num_negatives, dtype=torch.int64)
        for picture, own in enumerate(captions):
            for place, caption in enumerate(own):
                tokens[picture, place, : len(caption)] = torch.tensor(caption)
                lengths[picture, place] = len(caption)
        return cls(
            tiles=torch.cat([picture.pixels for picture in pictures]),
            arrangements=torch.tensor([picture.arrangement for picture in pictures]),
            tokens=tokens,
            lengths=lengths,
        )


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A batch in the common space."""

    images: Tensor
    """`[I, E]`, of length 1."""
    texts: Tensor
    """`[I, C, E]`, of length 1."""
    keys: Tensor
    """`[I, C]` int64: equal for equal captions; 0 where there is none."""


class ContrastiveModel(nn.Module):
    """Image tower, text tower, projections and the scale of their logits."""

    def __init__(self, image_encoder: ImageEncoder, *, config: ContrastiveConfig) -> None:
        super().__init__()
        if config.pooling == "class" and not image_encoder.config.class_token:
            raise ValueError("contrastive.pooling 'class' needs image_encoder.class_token: true")
        self.config = config
        self.image_encoder = image_encoder
        self.text_tower = Llama(replace(config.text, tied_embeddings=True))
        self.text_tower.reset_parameters()
        self.image_projection = nn.Linear(
            image_encoder.config.dim, config.embedding_dim, bias=False
        )
        self.text_projection = nn.Linear(config.text.dim, config.embedding_dim, bias=False)
        sigmoid = config.loss == "sigmoid"
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10 if sigmoid else 1 / 0.07)))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0)) if sigmoid else None

    def forward(self, batch: CaptionedPictures) -> Embedded:
        """Both towers over a batch."""
        present = batch.lengths > 0
        texts = self.embed_texts(batch.tokens[present], batch.lengths[present])
        every = texts.new_zeros(*present.shape, texts.shape[-1])  # [I, C, E]
        return Embedded(
            images=self.embed_images(batch.tiles, batch.arrangements),
            texts=every.masked_scatter(present[..., None], texts),
            keys=caption_keys(batch.tokens, batch.lengths),
        )

    def embed_images(self, tiles: Tensor, arrangements: Tensor) -> Tensor:
        """Embeddings `[I, E]`, in float32 and of length 1."""
        config = self.image_encoder.config
        tokens = self.image_encoder(tiles, arrangements)[..., : config.dim]  # [N, P, D]
        if self.config.pooling == "class":
            of_tile = tokens[:, 0]
        else:
            of_tile = tokens[:, int(config.class_token) :].mean(dim=1)  # [N, D]
        counts = arrangements.prod(dim=1)
        picture = torch.arange(len(counts), device=counts.device).repeat_interleave(
            counts, output_size=len(tiles)
        )
        summed = of_tile.new_zeros(len(counts), config.dim).index_add(0, picture, of_tile)
        pooled = summed / counts[:, None]  # [I, D]
        return F.normalize(self.image_projection(pooled).float(), dim=-1)

    def embed_texts(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Embeddings `[texts, E]` of `tokens` `[texts, T]`, taken at each text's last token."""
        tower = self.text_tower
        hidden = tower.embedding(tokens)
        context = tower.context(hidden)
        for index in range(len(tower.blocks)):
            hidden = tower.run_block(index, hidden, context)
        last = hidden[torch.arange(len(tokens), device=tokens.device), lengths - 1]  # [texts, D]
        return F.normalize(self.text_projection(tower.norm(last)).float(), dim=-1)

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Keep the scale of the logits within its bound; to be called after each step."""
        self.logit_scale.clamp_(max=math.log(self.config.max_logit_scale))

    def loss(self, embedded: Embedded, *, rank: int, world_size: int) -> Tensor:
        """Mean loss of this rank's pictures against the captions of all ranks.

        Every rank must have equally many pictures and captions. The mean of the ranks' gradients is
        the gradient of the mean over all pictures.
        """
        if self.logit_bias is not None:
            sigmoid = SigLipLoss(rank=rank, world_size=world_size)
            return sigmoid_loss(embedded, self.logit_scale.exp(), self.logit_bias, loss=sigmoid)
        clip = ClipLoss(local_loss=True, gather_with_grad=True, rank=rank, world_size=world_size)
        return softmax_loss(embedded, self.logit_scale.exp(), loss=clip)


def caption_keys(tokens: Tensor, lengths: Tensor) -> Tensor:
    """A 64-bit number for each caption `[..., T]`, equal where the tokens are; 0 for none."""
    multiplier = 0x5851F42D4C957F2D
    keys = torch.zeros_like(lengths)
    for position, token in enumerate(tokens.unbind(-1)):
        keys = torch.where(position < lengths, (keys + token + 1) * multiplier, keys)
    return keys


def softmax_loss(embedded: Embedded, scale: Tensor, *, loss: ClipLoss) -> Tensor:
    """CLIP's loss, where each picture also has to tell its caption from all hard negatives."""
    images, texts, keys = embedded.images, embedded.texts, embedded.keys
    per_image, per_text = loss.get_logits(images, texts[:, 0], scale)  # [I, W * I] both
    labels = loss.get_ground_truth(images.device, len(images))
    own, everyone = keys[:, 0], _gathered(keys[:, 0], loss)
    twins = own[:, None] == everyone  # [I, W * I]
    twins[torch.arange(len(images), device=images.device), labels] = False
    per_image = per_image.masked_fill(twins, -torch.inf)
    per_text = per_text.masked_fill(twins, -torch.inf)
    if texts.shape[1] > 1:
        negatives = _gathered(texts[:, 1:].flatten(0, 1), loss)  # [W * I * (C - 1), E]
        their_keys = _gathered(keys[:, 1:].flatten(), loss)
        no_negative = (their_keys == own[:, None]) | (their_keys == 0)
        logits = (scale * images @ negatives.T).masked_fill(no_negative, -torch.inf)
        per_image = torch.cat([per_image, logits], dim=1)
    return (F.cross_entropy(per_image, labels) + F.cross_entropy(per_text, labels)) / 2


def sigmoid_loss(embedded: Embedded, scale: Tensor, bias: Tensor, *, loss: SigLipLoss) -> Tensor:
    """SigLIP's loss, plus that of each picture's own hard negatives."""
    images, texts = embedded.images, embedded.texts
    pairs = loss(images, texts[:, 0].contiguous(), scale, bias)
    logits = scale * torch.einsum("ie,ice->ic", images, texts[:, 1:]) + bias  # [I, C - 1]
    each = -F.logsigmoid(-logits).masked_fill(embedded.keys[:, 1:] == 0, 0.0)
    return pairs + each.sum() / len(images)


def _gathered(local: Tensor, loss: ClipLoss) -> Tensor:
    """Rows of all ranks, gradients included."""
    if loss.world_size == 1:
        return local
    return torch.cat(all_gather(local.contiguous()))
