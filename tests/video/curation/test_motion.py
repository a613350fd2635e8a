"""What moves passes; slideshows, still clips, noise, fades, flicker and cuts do not."""

import numpy as np
import pytest

from tests.video.curation.pictures import brightened, noisy, panning, passing, still, texture
from video.curation.motion import MotionRules, check_motion, motion_between

RULES = MotionRules()


@pytest.mark.parametrize(
    "frames",
    [panning(), panning(step=0.06), passing(), passing(step=14), noisy(passing(), deviation=4)],
    ids=["pan", "fast pan", "thing", "fast thing", "noisy thing"],
)
def test_motion_passes(frames):
    verdict = check_motion(frames, RULES)
    assert verdict.passed, verdict


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        (still(), "less than"),
        (noisy(still(), deviation=5), "less than"),
        (brightened(still(), [0, 8, 16, 24, 16, 8]), "less than"),  # a fade
        (brightened(still(), [0, 60, 0, 60, 0, 60]), "less than"),  # flicker
        ([texture(seed) for seed in range(6)], "less than"),  # cuts
        ([texture(0)] * 3 + [texture(1)] * 3, "less than"),  # a slideshow
        ([texture(0)], "less than"),
    ],
    ids=["still", "noise", "fade", "flicker", "cuts", "slideshow", "one frame"],
)
def test_no_motion_is_refused(frames, why):
    verdict = check_motion(frames, RULES)
    assert not verdict.passed and why in verdict.reason, verdict


@pytest.mark.parametrize("step", [0.02, 0.05])
def test_the_score_is_the_way_gone(step):
    """A pan by a share of the width gives that way, whatever the size of the frames."""
    scores = []
    for size in ((192, 144), (384, 288)):
        moved = motion_between(panning(step=step, size=size))
        scores.append(float(np.mean(moved)))
    expected = step * 4 / 5  # the diagonal of 4 : 3 is 5
    assert scores == pytest.approx([expected] * 2, rel=0.25)


def test_a_constant_brightness_changes_nothing():
    frames = panning()
    brighter = brightened(frames, [20] * len(frames))
    assert motion_between(brighter) == pytest.approx(motion_between(frames), rel=0.1)


def test_motion_for_a_moment_alone_is_refused():
    frames = passing(3) + [passing(3)[-1]] * 12
    verdict = check_motion(frames, MotionRules(min_motion=0.0001))
    assert not verdict.passed and "of the time" in verdict.reason


def test_too_much_may_be_refused():
    verdict = check_motion(panning(step=0.08), MotionRules(max_motion=0.02))
    assert not verdict.passed and "more than" in verdict.reason


def test_nothing_to_look_at():
    with pytest.raises(ValueError, match="no frames"):
        check_motion([], RULES)
    for wrong in ({"min_motion": -1}, {"min_moving": 2}, {"min_motion": 0.5, "max_motion": 0.1}):
        with pytest.raises(ValueError, match="motion"):
            MotionRules(**wrong)
