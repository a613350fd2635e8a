"""Video cross-attention: text looks at merged frames (paper section 7.2).

A video layer is built as an image layer is (`vision.adapter`), reads what the temporal aggregator
made, and stands *before* every fourth image layer, so that the text of a clip reaches the image
layer with what the clip said. Both gates start at 0: a fresh video adapter leaves the image model
as it was.
"""

from collections.abc import Sequence
from dataclasses import replace

from vision.adapter import ImageAdapter, ImageAdapterConfig

EVERY = 4
"""One video layer for so many image layers."""


class VideoAdapter(ImageAdapter):
    """Projection of merged frames to the core's width, and the video cross-attention layers.

    Positions count blocks of the core, as the image adapter's; at a position that both have the
    video layer comes first.
    """


def paper_video_adapter(
    image_adapter: ImageAdapterConfig, *, feature_dim: int
) -> ImageAdapterConfig:
    """The paper's video layers beside an image adapter: before every fourth of its layers.

    Args:
        image_adapter: gives sizes and positions; its first layer is the first of four.
        feature_dim: width of the aggregator.
    """
    return replace(
        image_adapter,
        positions=before_every_fourth(image_adapter.positions),
        feature_dim=feature_dim,
        gate_init=0.0,
        output_init_scale=1.0,
        query_norm_init=1.0,
        leak_before_first_image=False,
    )


def before_every_fourth(positions: Sequence[int]) -> tuple[int, ...]:
    """Positions of every fourth image layer: the fourth, the eighth, and so on.

    An adapter of fewer than four layers gets one video layer, before its last.
    """
    return tuple(positions[EVERY - 1 :: EVERY]) or tuple(positions[-1:])
