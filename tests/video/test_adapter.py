"""Where video layers stand, and that the paper's sizes come out."""

import pytest
import torch

from multimodal.config import MULTIMODAL_CONFIGS
from video.adapter import VideoAdapter, before_every_fourth
from video.aggregator import TemporalAggregator


@pytest.mark.parametrize(
    ("image", "video"),
    [
        (tuple(range(4, 33, 4)), (16, 32)),
        (tuple(range(4, 81, 4)), (16, 32, 48, 64, 80)),
        ((3, 7, 11, 15, 19, 23, 27, 31), (15, 31)),
        ((1, 2, 3, 4), (4,)),
        ((1, 3), (3,)),
    ],
)
def test_before_every_fourth_image_layer(image, video):
    assert before_every_fourth(image) == video


@pytest.mark.parametrize(("size", "billions"), [("8b", 0.6), ("70b", 4.6)])
def test_sizes_are_the_papers(size, billions):
    config = MULTIMODAL_CONFIGS[f"{size}-video"]
    with torch.device("meta"):
        parts = TemporalAggregator(config.video_aggregator), VideoAdapter(config.video_adapter)
    total = sum(p.numel() for part in parts for p in part.parameters())
    assert total / 1e9 == pytest.approx(billions, abs=0.05)
    assert len(config.video_adapter.positions) == len(config.image_adapter.positions) // 4
