"""Floating-point operations of the temporal aggregator, counted from its config (section 3.3.2)."""

import torch
from torch import Tensor

from video.aggregator import AggregatorConfig


def group_tokens(config: AggregatorConfig, *, lengths: Tensor, features: Tensor) -> Tensor:
    """Features that each clip becomes, [clips].

    Args:
        config: sizes of the aggregator.
        lengths: frames of each clip, [clips].
        features: features of a frame of each clip, [clips].
    """
    groups = -(-lengths // config.frames_per_group)
    return groups * (config.num_latents or features)


def aggregator_flops(config: AggregatorConfig, *, lengths: Tensor, features: Tensor) -> Tensor:
    """Operations of the aggregator in one training step, a 0-d float64 tensor.

    Its weights train; the gradient of the image features themselves is not needed.

    Args:
        config: sizes of the aggregator.
        lengths: frames of each clip, [clips].
        features: features of a frame of each clip, [clips].
    """
    dim, size = config.dim, config.frames_per_group
    queries = group_tokens(config, lengths=lengths, features=features).double()
    read = (lengths * features).double()
    whole, rest = lengths // size, lengths % size
    per_group = torch.full_like(features, config.num_latents) if config.num_latents else features
    pairs = per_group * (
        whole * (size * features + per_group) + (rest > 0) * (rest * features + per_group)
    )
    linear = queries * (2 * dim * dim + 2 * dim * config.ffn_dim)  # query, output, feed-forward
    linear = linear + (read + queries) * 2 * dim * dim  # key and value
    layer = 2 * linear + 4 * dim * pairs.double()
    projection = 2 * config.feature_dim * dim * read
    return (3 * config.num_layers * layer + 2 * projection).sum()
