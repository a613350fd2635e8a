"""What was looked at while answering: cross-attention weights laid over the picture (section 7.2).

The adapter's layers attend from each text token to the patches of the picture's tiles. Averaged
over layers, heads and the tokens of the answer, and laid back where the patches stood, the weights
show where the answer came from.
"""

from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from multimodal.batch import Batch
from multimodal.model import MultimodalLlama
from vision.tiles import TilesConfig, best_arrangement, fitted_size

LONGEST_SIDE = (512, 1_600)
"""The drawing's longer side is brought between these, in pixels."""

GLOW = np.array([255, 96, 0], np.float32)
"""Colour of what was looked at most."""


def with_answer(batch: Batch, answer: list[int]) -> Batch:
    """Return a prompt of one row with the answer's tokens behind it, which see what its end saw."""
    assert len(batch.tokens) == 1
    added = torch.tensor([answer], dtype=batch.tokens.dtype, device=batch.tokens.device)

    def seen(visible: Tensor | None) -> Tensor | None:
        if visible is None:
            return None
        return torch.cat([visible, visible[:, -1:].expand(-1, len(answer), -1)], dim=1)

    return replace(
        batch,
        tokens=torch.cat([batch.tokens, added], dim=1),
        lengths=batch.lengths + len(answer),
        visible=seen(batch.visible),
        visible_clips=seen(batch.visible_clips),
    )


def attention_map(model: MultimodalLlama, batch: Batch, *, num_tokens: int) -> Tensor:
    """Average where the last tokens of a row look in its only picture.

    Args:
        model: with image parts.
        batch: one row with one picture.
        num_tokens: tokens from the row's end that count.

    Returns:
        Weights `[patch rows, patch columns]` over the picture's canvas of tiles.
    """
    return token_maps(model, batch, num_tokens=num_tokens).mean(dim=0)


def token_maps(model: MultimodalLlama, batch: Batch, *, num_tokens: int) -> Tensor:
    """Where each of the last tokens of a row looks in its only picture.

    Args:
        model: with image parts.
        batch: one row with one picture.
        num_tokens: tokens from the row's end that count.

    Returns:
        Weights `[tokens, patch rows, patch columns]` over the picture's canvas of tiles.
    """
    assert batch.images is not None and model.config.image_encoder is not None
    encoder = model.config.image_encoder
    maps, _ = model.cross_attention_maps(batch)  # [layers, 1, tokens, slots]
    weights = maps[:, 0, -num_tokens:].mean(dim=0)  # [tokens, slots]
    rows, columns = batch.images.arrangements[0].tolist()
    side = encoder.image_size // encoder.patch_size
    patches = weights.view(-1, rows * columns, encoder.num_tokens)[..., -encoder.num_patches :]
    grid = patches.reshape(-1, rows, columns, side, side)  # [tokens, rows, columns, side, side]
    whole = grid.transpose(2, 3).reshape(-1, rows * side, columns * side)
    return whole.float().cpu()


def draw_attention(
    picture: Image.Image,
    weights: Tensor,
    tiles: TilesConfig,
    *,
    scale: tuple[float, float] | None = None,
) -> Image.Image:
    """Draw an RGB picture, bright and glowing where the weights are high, dim elsewhere.

    Args:
        picture: as `open_picture` gave it.
        weights: `[patch rows, patch columns]` over its canvas, from `attention_map`.
        tiles: how the picture was laid on that canvas.
        scale: weights that are drawn dimmest and brightest; by default nearly the least and the
            largest of this picture.
    """
    size, most = tiles.tile_size, tiles.max_num_tiles
    rows, columns = best_arrangement(
        picture.height, picture.width, tile_size=size, max_num_tiles=most
    )
    height, width = fitted_size(
        picture.height, picture.width, tile_size=size, arrangement=(rows, columns)
    )
    low, high = LONGEST_SIDE
    zoom = min(max(max(picture.size), low), high) / max(picture.size)
    shown = picture.resize([max(1, round(side * zoom)) for side in picture.size])
    # The picture fills the top left `height` x `width` of the canvas; the weights fill it all.
    per_pixel = weights.shape[0] / (rows * size)
    heat = Image.fromarray(weights.numpy()).resize(
        shown.size, Image.Resampling.BICUBIC, box=(0, 0, width * per_pixel, height * per_pixel)
    )
    values = np.asarray(heat)
    floor, top = np.percentile(values, [5, 99]) if scale is None else scale
    strength = np.clip((values - floor) / max(float(top - floor), 1e-12), 0, 1)[..., None]
    pixels = np.asarray(shown, np.float32)
    drawn = pixels * (0.35 + 0.65 * strength) * (1 - 0.3 * strength) + GLOW * 0.3 * strength
    return Image.fromarray(np.clip(drawn, 0, 255).astype(np.uint8))
