"""decord's frames are the same where it is trusted; where it would be wrong it is not asked."""

import gc
import io
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video.film_files import everything, film, number_of, on_screen
from video import by_decord
from video.contained import ContainedDecoder
from video.frames import sample, stream

pytest.importorskip("decord", exc_type=ImportError)

UNSTEADY = np.cumsum(np.random.default_rng(1).integers(5, 200, 40)).tolist()
CUT = [stamp - 300 for stamp in UNSTEADY]
B_FRAMES = {"bf": "3", "preset": "veryfast", "x264-params": "b-pyramid=normal:scenecut=0"}
OPEN_GOP = {**B_FRAMES, "x264-params": "open-gop=1:scenecut=0"}


def turned(output):
    output.set_display_rotation(90)


def anamorphic(output):
    output.codec_context.sample_aspect_ratio = Fraction(2)


TRUSTED = {
    "H.264": {"options": B_FRAMES},
    "H.264, MKV": {"options": B_FRAMES, "container": "matroska"},
    "VP8": {"codec": "libvpx", "container": "webm"},
    "VP9": {"codec": "libvpx-vp9", "container": "webm"},
    "later": {"pts": [stamp + 3_000 for stamp in UNSTEADY], "options": B_FRAMES},
}
OTHERS = {
    "cut by an edit list": {"pts": CUT, "options": B_FRAMES},
    "open groups": {"options": OPEN_GOP},
    "MPEG-4": {"codec": "mpeg4", "options": {"bf": "2"}},
    "H.265": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "AV1": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "TS": {"container": "mpegts", "options": B_FRAMES},
    "turned": {"prepare": turned},
    "anamorphic": {"prepare": anamorphic},
    "10 bits": {"pixels": "yuv420p10le"},
    "transparent": {
        "codec": "libvpx-vp9",
        "container": "webm",
        "pixels": "yuva420p",
        "options": {"auto-alt-ref": "0"},
    },
}


def seen(clip, num_frames):
    frames = sample(clip, num_frames, decoder="decord")
    return [(frame.time, number_of(frame.picture)) for frame in frames]


@pytest.fixture
def asked(monkeypatch) -> list[bool]:
    """What came out each time that decord was opened."""
    answers = []
    agrees = by_decord._agrees

    def noted(*arguments):
        answers.append(agrees(*arguments))
        return answers[-1]

    monkeypatch.setattr(by_decord, "_agrees", noted)
    return answers


@pytest.mark.parametrize("kind", TRUSTED)
def test_what_decord_shows_rightly(kind, asked, tmp_path: Path):
    data = film(**{"pts": UNSTEADY} | TRUSTED[kind])
    path = tmp_path / "film"
    path.write_bytes(data)
    shown = everything(data)
    for clip in (data, path):
        for num_frames in (1, 2, 7, 39, 64):
            found, wanted = seen(clip, num_frames), on_screen(shown, num_frames)
            assert [number for _, number in found] == [number for _, number in wanted]
            assert [t for t, _ in found] == pytest.approx([t for t, _ in wanted], abs=1e-6)
    assert asked == [True] * 10


@pytest.mark.parametrize("kind", OTHERS)
def test_what_decord_is_not_asked_for(kind, asked):
    data = film(**{"pts": UNSTEADY} | OTHERS[kind])
    for frame, other in zip(sample(data, 7), sample(data, 7, decoder="decord"), strict=True):
        assert frame.time == other.time
        assert frame.picture.tobytes() == other.picture.tobytes()
    assert asked == []


@pytest.mark.parametrize("matrix", [1, 9])
def test_colours_that_decord_may_not_know(matrix, asked):
    def prepare(output):
        output.codec_context.colorspace = matrix

    data = film(UNSTEADY, prepare=prepare)
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].codec_context.colorspace == matrix
    sample(data, 2, decoder="decord")
    assert asked == []


def test_nothing_stays_open(tmp_path: Path):
    path = tmp_path / "film.mp4"
    path.write_bytes(film(UNSTEADY))
    seen(path, 2)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        frames = stream(path, 7, decoder="decord")
        next(frames)
        frames.close()
        seen(path, 3)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_decord_in_a_child_process():
    data = film(UNSTEADY)
    with ContainedDecoder(decoder="decord") as decoder:
        found = [number_of(frame.picture) for frame in decoder.stream(data, 7)]
    assert found == [number for _, number in on_screen(everything(data), 7)]


def test_there_are_two_decoders():
    with pytest.raises(ValueError, match="'av' or 'decord', not 'ffmpeg'"):
        stream(b"", 2, decoder="ffmpeg")
