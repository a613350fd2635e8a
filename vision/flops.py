"""Floating-point operations of the image encoder, counted from its config (section 3.3.2)."""

import torch
from torch import Tensor

from vision.encoder import ImageEncoderConfig


def encoder_flops(config: ImageEncoderConfig, arrangements: Tensor, *, trained: bool) -> Tensor:
    """Operations of the encoder in one step, a 0-d float64 tensor.

    Args:
        config: sizes of the encoder; in mode `released` padding is what the model needs.
        arrangements: `[I, 2]`, rows and columns of tiles of each picture.
        trained: whether there is a backward pass, for inputs and weights, beside the forward one.
    """
    counts = arrangements.prod(dim=1).double()  # [I] tiles
    real = counts * config.num_tokens
    if config.mode == "released":
        padded = torch.full_like(counts, config.max_num_tiles)
        tokens = padded * (config.num_tokens + -config.num_tokens % 8)
        patches = padded * config.num_patches
        within_picture = tokens.square() - (tokens - real).square()
        local_pairs = within_picture
    else:
        tokens, patches, within_picture = real, counts * config.num_patches, real.square()
        apart = config.local_attention == "tile"
        local_pairs = counts * config.num_tokens**2 if apart else within_picture
    pairs = config.num_layers * local_pairs + config.num_global_layers * within_picture
    block = 4 * config.dim**2 + 2 * config.dim * config.ffn_dim
    linear = (config.num_layers + config.num_global_layers) * block * tokens
    linear += 3 * config.patch_size**2 * config.dim * patches
    forward = (2 * linear + 4 * config.dim * pairs).sum()
    return 3 * forward if trained else forward
