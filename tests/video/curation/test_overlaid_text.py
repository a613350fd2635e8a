"""Subtitles and titles are refused; a landscape, or a small sign in it, passes."""

import numpy as np
import pytest

from tests.video.curation.pictures import passing, still, written
from video.curation.overlaid_text import (
    OverlaidTextRules,
    RapidTextDetector,
    check_overlaid_text,
    covered,
)

RULES = OverlaidTextRules()


@pytest.fixture(scope="module")
def detector() -> RapidTextDetector:
    pytest.importorskip("rapidocr")
    pytest.importorskip("onnxruntime")
    return RapidTextDetector()


@pytest.mark.parametrize(
    ("text", "points"), [("and then she said no", 16), ("SUBSCRIBE NOW", 22), ("Chapter one", 30)]
)
def test_text_over_the_frames_is_refused(detector, text, points):
    verdict = check_overlaid_text(written(passing(), text, points=points), RULES, detector=detector)
    assert not verdict.passed and "text covers" in verdict.reason


@pytest.mark.parametrize("frames", [passing(), still(seed=5)], ids=["moving", "still"])
def test_frames_without_text_pass(detector, frames):
    assert check_overlaid_text(frames, RULES, detector=detector).passed


def test_a_small_sign_passes(detector):
    frames = written(passing(), "Bus 12", points=10, at=(150, 8))
    verdict = check_overlaid_text(frames, RULES, detector=detector)
    assert verdict.passed and verdict.score < 0.03


def test_the_score_is_the_area_of_some_frames():
    """By a detector that finds a quarter of every second frame that it is shown."""
    shown = []

    def quarter(picture):
        shown.append(picture)
        width, height = picture.size
        box = [(0, 0), (width / 2, 0), (width / 2, height / 2), (0, height / 2)]
        return [box] if len(shown) % 2 else []

    frames = still(9)
    verdict = check_overlaid_text(frames, OverlaidTextRules(most_frames=4), detector=quarter)
    assert len(shown) == 4 and verdict.score == pytest.approx(0.125, abs=0.01)
    loose = OverlaidTextRules(max_area=0.2)
    assert check_overlaid_text(frames, loose, detector=quarter).passed


def test_boxes_that_overlap_count_once():
    box = [(0, 0), (49, 0), (49, 99), (0, 99)]
    assert covered((100, 100), [box, box]) == pytest.approx(0.5)
    assert covered((100, 100), []) == 0
    assert np.isclose(covered((100, 100), [[(-50, -50), (200, -50), (200, 200), (-50, 200)]]), 1)


def test_nothing_to_look_at():
    with pytest.raises(ValueError, match="no frames"):
        check_overlaid_text([], RULES, detector=lambda picture: [])
    for wrong in ({"max_area": 2}, {"most_frames": 0}):
        with pytest.raises(ValueError, match="overlaid_text"):
            OverlaidTextRules(**wrong)
