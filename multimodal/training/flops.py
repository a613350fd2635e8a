"""Floating-point operations of a training step with pictures, counted from the config.

The frozen core costs its forward pass and, above the lowest layer that needs a gradient, the
gradient of its inputs; frozen weights have none (:mod:`language.flops`). The image side is counted
in full: at 8B it is more than half of the work, which 6 x parameters x tokens does not see.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from language.flops import Work, causal_pairs, core_flops, document_lengths
from multimodal.batch import IGNORED, Batch, Images, Recordings
from multimodal.config import MultimodalConfig
from multimodal.model import MultimodalLlama
from speech.flops import adapter_flops as speech_adapter_flops
from speech.flops import conformer_flops
from vision.adapter import ImageAdapterConfig
from vision.flops import encoder_flops


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Which parts train."""

    image_encoder: bool
    image_adapter: bool
    extra_embedding: bool


def step_work(config: MultimodalConfig, batch: Batch, *, trained: Trained) -> Work:
    """What a batch asks for."""
    lengths = document_lengths(batch.documents, batch.lengths)
    tokens = batch.lengths.sum()
    assert batch.targets is not None, "a batch to train on has targets"
    adapter, images = config.image_adapter, batch.images
    lowest = 0 if trained.extra_embedding else config.language.num_layers
    if adapter is not None and images is not None:
        lowest = min(lowest, *adapter.positions)
    flops = core_flops(
        config.language,
        tokens=tokens,
        pairs=causal_pairs(lengths),
        logits=(batch.targets != IGNORED).sum(),
        trained=False,
        first_block=lowest,
    )
    if adapter is not None and images is not None:
        assert config.image_encoder is not None and batch.visible is not None
        encoder = config.image_encoder
        flops = flops + encoder_flops(encoder, images.arrangements, trained=trained.image_encoder)
        flops = flops + adapter_flops(
            adapter,
            seeing=batch.visible.any(dim=-1).sum(),
            features=images.arrangements.prod(dim=1).sum() * encoder.num_tokens,
            pairs=seen_pairs(images, batch.visible) * encoder.num_tokens,
            trained=trained,
        )
    samples = torch.tensor(len(batch.tokens), device=tokens.device)
    return Work(samples=samples, tokens=tokens, flops=flops)


def hearing_flops(
    model: MultimodalLlama, recordings: Recordings, *, trained: Collection[str]
) -> Tensor:
    """Operations of the speech encoder and adapter on a batch's recordings, 0-d float64.

    Args:
        model: with speech parts.
        recordings: of the batch.
        trained: names of the parts that train.
    """
    config = model.config
    assert config.speech_encoder is not None and config.speech_adapter is not None
    frames = model.speech_encoder.num_frames(recordings.lengths)
    conformer = config.speech_encoder.conformer
    if conformer is not None:
        flops = conformer_flops(conformer, frames, trained="speech_encoder" in trained)
    else:  # a public encoder: its weights alone are counted
        size = sum(parameter.numel() for parameter in model.speech_encoder.parameters())
        passes = 3 if "speech_encoder" in trained else 1
        flops = passes * 2 * size * frames.double().sum()
    adapts = "speech_adapter" in trained
    return flops + speech_adapter_flops(config.speech_adapter, frames, trained=adapts)


def seen_pairs(images: Images, visible: Tensor) -> Tensor:
    """Pairs of a token and a tile that it sees, of ``visible`` [batch, tokens, images]."""
    place = torch.arange(len(images.rows), device=visible.device)
    place = place - torch.searchsorted(images.rows, images.rows)  # within the picture's row
    tiles = torch.zeros(visible.shape[0], visible.shape[2], device=visible.device)
    tiles[images.rows, place] = images.arrangements.prod(dim=1).float()
    return (visible * tiles[:, None]).sum(dtype=torch.float64)


def adapter_flops(
    config: ImageAdapterConfig,
    *,
    seeing: Tensor,
    features: Tensor,
    pairs: Tensor,
    trained: Trained,
) -> Tensor:
    """Operations of the adapter, forward and backward.

    Args:
        config: sizes of the adapter.
        seeing: tokens that see a picture; the others pass it by.
        features: image features, over all pictures.
        pairs: pairs of a token and a feature that it sees.
        trained: decides which gradients are needed.
    """
    weights, inputs = int(trained.image_adapter), int(trained.image_encoder)
    layers = len(config.positions)
    through_query = layers if weights or trained.extra_embedding else layers - 1
    heads, kv_heads = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    backward = max(weights, inputs)
    projection = 2 * config.feature_dim * config.dim * (1 + weights + inputs)
    keys_values = 2 * 2 * config.dim * kv_heads * layers * (1 + weights + backward)
    query = 2 * config.dim * heads * (layers * (1 + weights) + through_query * backward)
    output = 2 * heads * config.dim * layers * (1 + weights + backward)
    feed_forward = 2 * 3 * config.dim * config.ffn_dim * layers * (1 + weights + backward)
    attention = 4 * heads * layers * (1 + 2 * backward)
    return (
        (projection + keys_values) * features.double()
        + (query + output + feed_forward) * seeing.double()
        + attention * pairs.double()
    )
