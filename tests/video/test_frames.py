"""Frames of films: the right ones at the right times, whatever the codec, container and clock."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from language.errors import InputError
from tests.video.film_files import (
    MILLISECOND,
    everything,
    film,
    number_of,
    numbered,
    on_screen,
    patched,
)
from video import films
from video.frames import sample, stream
from video.timeline import spread

STEADY = [40 * number for number in range(40)]
UNSTEADY = np.cumsum(np.random.default_rng(1).integers(5, 200, 40)).tolist()
B_FRAMES = {"bf": "3", "preset": "veryfast", "x264-params": "b-pyramid=normal:scenecut=0"}
OPEN_GOP = {**B_FRAMES, "x264-params": "open-gop=1:scenecut=0"}
REFRESH = {"preset": "veryfast", "x264-params": "intra-refresh=1"}
QUIET = {"x265-params": "log-level=none"}
COUNTS = (1, 2, 3, 7, 16, 39, 40, 64)

KINDS = {
    "H.264": {},
    "H.264, B frames": {"options": B_FRAMES},
    "H.264, open groups": {"options": OPEN_GOP},
    "H.264, intra refresh": {"options": REFRESH},
    "H.264, every frame a key": {"gop": 1},
    "H.264, one group": {"gop": 1000, "options": B_FRAMES},
    "H.264, fragments": {
        "options": B_FRAMES,
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "H.264, MKV": {"container": "matroska", "options": B_FRAMES},
    "H.264, TS": {"container": "mpegts", "options": B_FRAMES, "time_base": Fraction(1, 90_000)},
    "H.264, FLV": {"container": "flv", "options": B_FRAMES},
    "H.265": {"codec": "libx265", "options": QUIET},
    "MPEG-4": {"codec": "mpeg4", "options": {"bf": "2"}},
    "VP8": {"codec": "libvpx", "container": "webm", "options": {"auto-alt-ref": "1"}},
    "VP9": {"codec": "libvpx-vp9", "container": "webm", "options": {"auto-alt-ref": "1"}},
    "AV1": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "AV1, MKV": {"codec": "libsvtav1", "container": "matroska", "options": {"preset": "12"}},
}


def seen(data, num_frames):
    return [(frame.time, number_of(frame.picture)) for frame in sample(data, num_frames)]


def agree(found, wanted):
    """The same frames, at the same times to a microsecond."""
    assert [number for _, number in found] == [number for _, number in wanted]
    assert [time for time, _ in found] == pytest.approx([time for time, _ in wanted], abs=1e-6)


def check(data, counts=COUNTS):
    shown = everything(data)
    for num_frames in counts:
        agree(seen(data, num_frames), on_screen(shown, num_frames))
    return shown


@pytest.mark.parametrize("clock", ["steady", "unsteady"])
@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_those_on_screen(kind, clock):
    stamps = STEADY if clock == "steady" else UNSTEADY
    settings = dict(KINDS[kind])
    if "time_base" in settings:
        stamps = [stamp * 90 for stamp in stamps]
    shown = check(film(stamps, **settings))
    assert list(shown.values()) == list(range(len(stamps))), "what is compared with is right"
    if settings.get("container", "mp4") == "mp4":
        found = np.array([float(time) for time in shown])
        assert np.abs(found - found[0] - np.array(stamps) / 1000 + stamps[0] / 1000).max() < 1e-3


@settings(max_examples=12, deadline=None)
@given(
    gaps=st.lists(st.integers(1, 400), min_size=1, max_size=30),
    start=st.integers(-500, 5_000),
    num_frames=st.integers(1, 40),
    gop=st.integers(1, 12),
    container=st.sampled_from(["mp4", "matroska"]),
)
def test_any_clock(gaps, start, num_frames, gop, container):
    stamps = np.cumsum([start, *gaps]).tolist()
    data = film(stamps, gop=gop, container=container, options=B_FRAMES)
    if everything(data):
        check(data, [num_frames])
    else:  # all of it lies before the edit list's beginning
        with pytest.raises(InputError, match="no frame"):
            sample(data, num_frames)


@given(
    ticks=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=30, unique=True),
    num_frames=st.integers(1, 50),
)
def test_spread_is_the_rule(ticks, num_frames):
    ticks = sorted(ticks)
    found = spread(np.array(ticks, np.int64), num_frames)
    wanted = on_screen({Fraction(tick): place for place, tick in enumerate(ticks)}, num_frames)
    assert found.tolist() == [place for _, place in wanted]
    if num_frames > 1:
        assert found[0] == 0 and found[-1] == len(ticks) - 1


def test_the_only_frame_and_the_middle_one():
    assert seen(film([0]), 5) == [(0.0, 0)]
    assert seen(film(STEADY), 1) == [(0.76, 19)]


def test_a_held_picture_is_given_once():
    data = film([0, 40, 80, 10_000, 10_040, 10_080, 10_120, 10_160])
    assert [number for _, number in seen(data, 6)] == [0, 2, 7]


@pytest.mark.parametrize("start", [-300, 3_000])
@pytest.mark.parametrize("container", ["mp4", "mov", "matroska"])
def test_edit_lists_cut_and_delay(start, container):
    """The muxer writes an edit list: a cut where times are negative, a gap where they are late."""
    data = film([stamp + start for stamp in STEADY], container=container, options=B_FRAMES)
    assert (b"elst" in data) == (container != "matroska")
    shown = check(data)
    if start < 0 and container != "matroska":
        assert list(shown.values()) == list(range(8, 40))


def test_an_edit_list_that_begins_and_ends_in_the_middle():
    data = film(STEADY, options=B_FRAMES)
    with av.open(io.BytesIO(data)) as container:
        ticks = container.streams.video[0].time_base.denominator

    def cut(box):  # version 0: flags, count, then duration in the movie's ms and start in ticks
        (media_time,) = struct.unpack_from(">i", box, 12)
        struct.pack_into(">Ii", box, 8, 600, media_time + ticks * 4 // 10)

    shown = check(patched(data, b"elst", cut))
    assert list(shown.values()) == list(range(10, 25))


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("mirrored", [False, True])
def test_frames_are_upright(degrees, mirrored):
    corner = np.zeros((48, 160, 3), np.uint8)
    corner[:24, :80] = 255

    def prepare(output):
        output.set_display_rotation(degrees, hflip=mirrored)

    data = film([0, 40], picture=lambda *_, **__: corner, prepare=prepare)
    wanted = np.rot90(corner, degrees // 90)
    wanted = wanted[:, ::-1] if mirrored else wanted
    for frame in sample(data, 2):
        found = np.asarray(frame.picture).astype(int)
        assert found.shape == wanted.shape and np.abs(found - wanted).mean() < 3


@pytest.mark.parametrize(
    ("shape", "size"), [((2, 1), (320, 48)), ((1, 2), (160, 96)), ((0, 1), (160, 48))]
)
@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_pixels_become_square(shape, size, container):
    def prepare(output):
        if shape[0]:
            output.codec_context.sample_aspect_ratio = Fraction(*shape)

    (frame,) = sample(film([0], prepare=prepare, container=container), 2)
    assert frame.picture.size == size and frame.picture.mode == "RGB"


MATRICES = {None: (0.299, 0.114), 5: (0.299, 0.114), 1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
def test_colours_are_the_standards(matrix, is_full, pixels):
    """Against ITU-R BT.601, 709 and 2020: R, G and B of one colour, by their equations."""
    values, deep = (120, 90, 160), pixels.endswith("10le")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        out = output.add_stream("libx264", rate=10, options={"qp": "0"})
        out.width, out.height, out.pix_fmt = 64, 48, pixels
        out.codec_context.color_range = 2 if is_full else 1
        if matrix is not None:
            out.codec_context.colorspace = matrix
        frame = av.VideoFrame(64, 48, pixels)
        for plane, value in zip(frame.planes, values, strict=True):
            size = plane.buffer_size // (2 if deep else 1)
            kind = np.uint16 if deep else np.uint8
            plane.update(np.full(size, value * (4 if deep else 1), kind).tobytes())
        for packet in [*out.encode(frame), *out.encode(None)]:
            output.mux(packet)
    (shown,) = sample(file.getvalue(), 2)
    y, u, v = values[0], values[1] - 128, values[2] - 128
    if not is_full:
        y, u, v = (y - 16) * 255 / 219, u * 255 / 224, v * 255 / 224
    red, blue = MATRICES[matrix]
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    wanted = [r, (y - red * r - blue * b) / (1 - red - blue), b]
    assert np.abs(np.asarray(shown.picture)[20, 30] - np.array(wanted)).max() < 3


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_transparent_films_lie_on_white(codec):
    def half(number, *, width, height):
        picture = np.zeros((height, width, 4), np.uint8)
        picture[:, : width // 2] = (255, 0, 0, 255)
        return picture

    data = film(
        [0, 40, 80],
        codec=codec,
        container="webm",
        pixels="yuva420p",
        picture=half,
        options={"auto-alt-ref": "0"},
    )
    for frame in sample(data, 3):
        left, right = (np.array(frame.picture.getpixel((x, 24))) for x in (30, 130))
        assert np.abs(left - (255, 0, 0)).max() < 12 and np.abs(right - 255).max() < 12


@pytest.mark.parametrize("options", [B_FRAMES, OPEN_GOP], ids=["closed", "open"])
def test_a_broadcast_begins_in_the_middle(options):
    """What needs frames that were sent before is not shown, as no decoder shows it."""
    data = film(STEADY, container="mpegts", options=options, time_base=MILLISECOND)
    for packet in range(5, 60, 5):
        shown = check(data[188 * packet :], [1, 5, 64])
        assert 1 <= len(shown) < 40


def test_a_raw_stream_counts_its_frames():
    data = film(STEADY, container="h264", options=B_FRAMES)
    with av.open(io.BytesIO(data)) as container:
        rate = container.streams.video[0].average_rate
    for num_frames in COUNTS:
        shown = {Fraction(number) / rate: number for number in range(40)}
        agree(seen(data, num_frames), on_screen(shown, num_frames))


def test_frames_that_change_size_are_brought_to_the_first():
    small = film(STEADY[:5], container="h264")
    large = film(STEADY[:5], container="h264", size=(320, 192))
    frames = sample(small + large, 10)
    assert len(frames) == 10 and {frame.picture.size for frame in frames} == {(160, 48)}


def test_time_is_an_instant_before_the_decoder_is_asked():
    """Few frames of many: only their surroundings are decoded."""
    data = film(range(0, 40_000, 40), gop=20, options=B_FRAMES)
    packets = 0
    decode = films._decode

    def counted(decoder, packet):
        nonlocal packets
        packets += packet is not None
        return decode(decoder, packet)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(films, "_decode", counted)
        assert len(sample(data, 5)) == 5
    assert packets <= 5 * 20


def test_a_name_and_a_path_agree_with_bytes(tmp_path):
    data = film(STEADY)
    path = tmp_path / "two words.mp4"
    path.write_bytes(data)
    for source in (path, str(path), bytearray(data), memoryview(data)):
        assert seen(source, 4) == seen(data, 4)


def test_a_stream_gives_one_frame_after_the_other():
    frames = stream(film(STEADY), 4)
    first = next(frames)
    assert isinstance(first.picture, Image.Image) and first.time == 0.0
    assert [number_of(frame.picture) for frame in frames] == [13, 26, 39]
    assert number_of(numbered(777)) == 777


@pytest.mark.parametrize("num_frames", [0, -1])
def test_no_frames_are_a_mistake(num_frames):
    with pytest.raises(ValueError, match="num_frames"):
        stream(b"", num_frames)
