"""Motion score: how far what is shown moves between one sampled frame and the next (section 7.1).

Frames are brought to one small size in grey and cut into blocks. Each block with some texture is
looked for in the next frame, around where it stood; brightness is taken out, so that a fade or a
flash is no motion. Where it is found clearly better elsewhere, that distance is its motion. A block
that is found nowhere has none: cuts, flicker and noise do not count. Slideshows and still clips
come out near 0.

Letters: N frames, B blocks of a frame, S places that a block is looked for at.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from video.curation.verdict import Verdict

SIDE = 96
"""Longer side of the frames that are compared, in pixels."""
BLOCK = 12
REACH = 12
"""Farthest that a block is looked for, in pixels of the small frames each way."""
TEXTURE = 4e-4
"""Least variance of a block's grey (0 to 1) that can be recognised."""
FOUND = 0.1
"""A block is found where what differs is less than this share of its variance."""
MOVED = 0.5
"""... and has moved where that is less than this share of what differs at its old place."""


@dataclass(frozen=True, kw_only=True)
class MotionRules:
    """How much motion passes."""

    min_motion: float = 0.001
    """Least motion, in diagonals of the frame from one sampled frame to the next."""
    max_motion: float = 1.0
    """Largest; a bound for shaking."""
    min_moving: float = 0.25
    """Least share of neighbouring frames between which anything moves."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_motion <= self.max_motion:
            raise ValueError("motion: min_motion must be 0 or more, and not above max_motion")
        if not 0 <= self.min_moving <= 1:
            raise ValueError("motion.min_moving is a share: 0 to 1")


def check_motion(frames: Sequence[Image.Image], rules: MotionRules) -> Verdict:
    """Judge how much moves; the score is the mean motion of textured blocks, in diagonals.

    Args:
        frames: RGB pictures of a clip of one size, in order, evenly sampled.
        rules: what passes.

    Raises:
        ValueError: there is no frame.
    """
    motions = motion_between(frames)
    score = float(np.mean(motions)) if motions else 0.0
    moving = sum(motion > rules.min_motion / 2 for motion in motions) / max(1, len(motions))
    reason = ""
    if score < rules.min_motion:
        reason = f"moves by {score:.4f} of the diagonal, less than {rules.min_motion:.4f}"
    elif score > rules.max_motion:
        reason = f"moves by {score:.4f} of the diagonal, more than {rules.max_motion:.4f}"
    elif moving < rules.min_moving:
        reason = f"moves in {moving:.0%} of the time, less than {rules.min_moving:.0%}"
    return Verdict(filter="motion", passed=not reason, score=score, reason=reason)


def motion_between(frames: Sequence[Image.Image]) -> list[float]:
    """Mean motion of the blocks of each frame until the next, in diagonals.

    Raises:
        ValueError: there is no frame.
    """
    if not frames:
        raise ValueError("no frames to look at")
    grey = _small(frames)  # [N, 1, height, width]
    diagonal = float(np.hypot(*grey.shape[-2:]))
    return [_motion(grey[i : i + 1], grey[i + 1 : i + 2]) / diagonal for i in range(len(grey) - 1)]


def _small(frames: Sequence[Image.Image]) -> Tensor:
    """Frames in grey, 0 to 1, as whole blocks."""
    width, height = frames[0].size
    scale = SIDE / max(width, height)
    size = [max(2 * BLOCK, round(side * scale / BLOCK) * BLOCK) for side in (width, height)]
    grey = [
        np.asarray(frame.convert("L").resize(size, Image.Resampling.BOX), np.float32) / 255
        for frame in frames
    ]
    return torch.from_numpy(np.stack(grey))[:, None]


def _motion(frame: Tensor, following: Tensor) -> float:
    """Mean distance of the textured blocks of ``frame`` [1, 1, height, width], in pixels."""
    blocks = F.avg_pool2d(frame, BLOCK)
    variance = (F.avg_pool2d(frame.square(), BLOCK) - blocks.square()).flatten()  # [B]
    textured = variance > TEXTURE
    if not bool(textured.any()):
        return 0.0
    height, width = frame.shape[-2:]
    padded = F.pad(following, [REACH] * 4, value=-1.0)
    steps = range(-REACH, REACH + 1)
    places = [(y, x) for y in steps for x in steps]
    moved = torch.cat(
        [
            padded[:, :, REACH + y : REACH + y + height, REACH + x : REACH + x + width]
            for y, x in places
        ]
    )  # [S, 1, height, width]
    difference = frame - moved
    error = F.avg_pool2d(difference.square(), BLOCK) - F.avg_pool2d(difference, BLOCK).square()
    outside = F.max_pool2d((moved < 0).float(), BLOCK) > 0
    error = error.masked_fill(outside, torch.inf).flatten(1)  # [S, B]
    least, where = error.min(dim=0)
    stayed = error[len(places) // 2]
    is_found = textured & (least < FOUND * variance) & (least < MOVED * stayed)
    distances = torch.tensor(places, dtype=torch.float32).norm(dim=1)[where]
    return float(torch.where(is_found, distances, torch.zeros_like(distances))[textured].mean())
