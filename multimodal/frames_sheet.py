"""A clip on one sheet: its sampled frames with their times, and where the answer's attention lay.

Text looks at merged frames, and these were read from the frames. So the weight of a spot in a frame
is the weight that the answer gave each merged feature, times what that feature read of the spot
(averaged over layers and heads of the video layers and of the aggregator).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from multimodal.attention_map import draw_attention
from multimodal.batch import Batch
from multimodal.model import MultimodalLlama
from video.frames import Frame
from vision.tiles import TilesConfig

FRAME_SIDE = 224
"""Longer side of a frame on the sheet, in pixels."""
GAP, LABEL = 6, 18
"""Space around frames, and height of the line with the time, in pixels."""
INK, PAPER = (32, 32, 36), (250, 250, 248)


def frames_attention(model: MultimodalLlama, batch: Batch, *, num_tokens: int) -> Tensor:
    """Where the last tokens of a row look in the frames of its only clip.

    Args:
        model: with video parts.
        batch: one row with one clip.
        num_tokens: tokens from the row's end that count.

    Returns:
        Weights [frames, patch rows, patch columns] over the canvas of each frame, 1 in all.
    """
    clips, encoder = batch.clips, model.config.image_encoder
    assert clips is not None and encoder is not None and len(clips.lengths) == 1
    maps, _ = model.cross_attention_maps(batch, of="clips")  # [layers, 1, tokens, slots]
    slots = maps[:, 0, -num_tokens:].mean(dim=(0, 1))  # [slots], group after group
    read = model.video_aggregator.attention_maps(
        model.frame_features(clips), lengths=clips.lengths, tiles=clips.arrangements.prod(dim=1)
    )
    seen, start = [], 0
    for _, weights in sorted(read.items()):  # [Q, G, T, P]
        queries = len(weights)
        seen.append(torch.einsum("q,qgtp->gtp", slots[start : start + queries], weights))
        start += queries
    rows, columns = clips.arrangements[0].tolist()
    side = encoder.image_size // encoder.patch_size
    patches = torch.cat(seen)[..., -encoder.num_patches :]  # [frames, T, patches]
    grid = patches.unflatten(1, (rows, columns)).unflatten(3, (side, side))
    grid = grid.transpose(2, 3).reshape(len(patches), rows * side, columns * side)
    return (grid / grid.sum()).float().cpu()


def draw_sheet(frames: Sequence[Frame], weights: Tensor, tiles: TilesConfig) -> Image.Image:
    """Draw frames in reading order, each with its time and glowing where the weights are high.

    Args:
        frames: as they were sampled.
        weights: [frames, patch rows, patch columns], from `frames_attention`; one scale for all.
        tiles: how frames were cut.
    """
    scale = tuple(np.percentile(weights.numpy(), [5, 99.5]).tolist())
    shares = weights.sum(dim=(1, 2)).tolist()
    shown = []
    for frame, of_frame in zip(frames, weights, strict=True):
        drawn = draw_attention(frame.picture, of_frame, tiles, scale=scale)
        drawn.thumbnail((FRAME_SIDE, FRAME_SIDE))
        shown.append(drawn)
    width, height = (max(picture.size[i] for picture in shown) for i in range(2))
    columns = math.ceil(math.sqrt(len(shown) * (height + LABEL) / width))
    rows = math.ceil(len(shown) / columns)
    size = GAP + columns * (width + GAP), GAP + rows * (height + LABEL + GAP)
    sheet = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, (frame, picture) in enumerate(zip(frames, shown, strict=True)):
        left = GAP + index % columns * (width + GAP)
        top = GAP + index // columns * (height + LABEL + GAP)
        sheet.paste(picture, (left, top))
        label = f"{frame.time:.2f} s   {shares[index]:.0%}"
        pen.text((left + 2, top + picture.height + 2), label, fill=INK, font=font)
    return sheet
