"""Text laid over the frames: subtitles, titles, calls to subscribe (paper section 7.1).

A clip whose frames are covered with text teaches reading and not seeing. The score is the share of
a frame that text boxes cover, averaged over frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw

from language.errors import InputError
from video.curation.verdict import Verdict

Box = Sequence[tuple[float, float]]
"""Corners of a region, in pixels from the left and from the top."""


class TextDetector(Protocol):
    """Finds text in a picture."""

    def __call__(self, picture: Image.Image) -> list[Box]:
        """Regions with text."""


@dataclass(frozen=True, kw_only=True)
class OverlaidTextRules:
    """How much text passes."""

    max_area: float = 0.03
    """Largest share of a frame that text may cover, averaged over frames."""
    most_frames: int = 4
    """Frames that are looked at, spread over those given."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_area <= 1:
            raise ValueError("overlaid_text.max_area is a share: 0 to 1")
        if self.most_frames < 1:
            raise ValueError("overlaid_text.most_frames must be 1 or more")


def check_overlaid_text(
    frames: Sequence[Image.Image], rules: OverlaidTextRules, *, detector: TextDetector
) -> Verdict:
    """Judge how much of the frames is text.

    Args:
        frames: RGB pictures of a clip, in order.
        rules: what passes.
        detector: finds text, such as `RapidTextDetector`.

    Raises:
        ValueError: there is no frame.
    """
    if not frames:
        raise ValueError("no frames to look at")
    places = np.linspace(0, len(frames) - 1, min(len(frames), rules.most_frames))
    looked_at = [frames[round(float(place))] for place in places]
    area = sum(covered(frame.size, detector(frame)) for frame in looked_at) / len(looked_at)
    reason = ""
    if area > rules.max_area:
        reason = f"text covers {area:.1%} of the frames, more than {rules.max_area:.1%}"
    return Verdict(filter="overlaid text", passed=not reason, score=area, reason=reason)


def covered(size: tuple[int, int], boxes: Sequence[Box]) -> float:
    """Share of a picture of ``size`` (width, height) that boxes cover together."""
    mask = Image.new("1", size)
    pen = ImageDraw.Draw(mask)
    for box in boxes:
        pen.polygon([(float(x), float(y)) for x, y in box], fill=1)
    return float(np.asarray(mask).mean())


class RapidTextDetector:
    """RapidOCR (PP-OCR), whose models lie in its wheel: no network is needed.

    A region counts where letters are read in it: detection alone takes soft spots for text.
    """

    def __init__(self) -> None:
        """Load the model.

        Raises:
            InputError: the extra ``curate`` is not installed.
        """
        try:
            from rapidocr import RapidOCR
        except ImportError:
            raise InputError(
                "overlaid_text", "needs the extra: pip install 'openherd[curate]'"
            ) from None
        self._ocr: Any = RapidOCR(params={"Global.log_level": "critical"})

    def __call__(self, picture: Image.Image) -> list[Box]:
        """Regions with text."""
        pixels = np.asarray(picture.convert("RGB"))[:, :, ::-1]  # it wants blue first
        found = self._ocr(np.ascontiguousarray(pixels), use_cls=False)
        if found.boxes is None or found.txts is None:
            return []
        read = zip(found.boxes, found.txts, strict=True)
        return [box.tolist() for box, text in read if any(sign.isalnum() for sign in text)]
