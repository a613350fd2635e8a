"""All filters over a clip: the first that refuses ends it, and a config leaves any out."""

from pathlib import Path

import pytest

from language.errors import InputError
from tests.video.curation.pictures import passing, still
from tests.video.curation.test_alignment import Colours
from video.curation.alignment import AlignmentRules
from video.curation.filters import CurationConfig, curate, read_curation
from video.curation.motion import MotionRules

CONFIG = CurationConfig(language=None, alignment=AlignmentRules(min_score=-1))
TEXT = "A red thing crosses a landscape. https://example.org"


def nothing(picture):
    return []


def whole(picture):
    width, height = picture.size
    return [[(0, 0), (width, 0), (width, height), (0, height)]]


def test_a_good_clip_passes_them_all():
    done = curate(passing(), TEXT, CONFIG, detector=nothing, encoder=Colours())
    assert done.passed and done.text == "A red thing crosses a landscape."
    assert [v.filter for v in done.verdicts] == ["text", "motion", "alignment", "overlaid text"]


@pytest.mark.parametrize(
    ("frames", "text", "detector", "refused"),
    [
        (passing(), "hm", nothing, "text"),
        (still(), TEXT, nothing, "motion"),
        (passing(), TEXT, whole, "overlaid text"),
    ],
)
def test_the_first_that_refuses_ends_it(frames, text, detector, refused):
    done = curate(frames, text, CONFIG, detector=detector, encoder=Colours())
    assert not done.passed
    assert [v.passed for v in done.verdicts] == [True] * (len(done.verdicts) - 1) + [False]
    assert done.verdicts[-1].filter == refused and done.verdicts[-1].reason


def test_filters_are_left_out():
    config = CurationConfig(
        text=None, language=None, motion=MotionRules(), overlaid_text=None, alignment=None
    )
    done = curate(passing(), "hm", config)
    assert done.passed and done.text == "hm" and len(done.verdicts) == 1


def test_what_a_filter_needs_is_asked_for():
    with pytest.raises(ValueError, match="detector"):
        curate(passing(), TEXT, CONFIG, encoder=Colours())
    with pytest.raises(ValueError, match="encoder"):
        curate(passing(), TEXT, CONFIG, detector=nothing)


def test_languages_are_judged_after_cleaning():
    pytest.importorskip("py3langid")
    config = CurationConfig(motion=None, overlaid_text=None, alignment=None)
    assert curate(still(), TEXT, config).passed
    german = curate(still(), "Ein rotes Ding geht über eine schöne Landschaft.", config)
    assert not german.passed and "written in de" in german.verdicts[-1].reason


def test_the_config_that_ships_says_what_is_usual():
    file = Path(__file__).parents[3] / "configs" / "video" / "curation.yaml"
    assert read_curation(file) == CurationConfig()


def test_a_config_sets_bounds_and_leaves_filters_out(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("motion: {min_motion: 0.2}\nalignment: null\n")
    config = read_curation(file)
    assert config.motion == MotionRules(min_motion=0.2) and config.alignment is None
    assert config.text == CurationConfig().text


@pytest.mark.parametrize(
    "text, fault",
    [
        ("sound: {}", "no key 'sound'"),
        ("motion: {speed: 2}", "no key 'speed'"),
        ("motion: {min_motion: fast}", "min_motion must be of type float"),
        ("motion: {min_moving: 2}", "min_moving is a share"),
        ("motion: 3", "must be a mapping"),
        ("- motion", "not a YAML mapping"),
        ("{", "not a readable YAML file"),
    ],
)
def test_a_faulty_config_is_named(tmp_path, text, fault):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=fault) as caught:
        read_curation(file)
    assert "mine.yaml" in str(caught.value)


def test_a_config_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="none.yaml"):
        read_curation(tmp_path / "none.yaml")
