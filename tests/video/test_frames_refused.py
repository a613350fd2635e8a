"""Bad films cost one line, bounded memory and time; nothing stays open, however a film ends."""

import gc
import io
import os
import struct
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from language.errors import InputError
from tests.video.film_files import (
    everything,
    film,
    number_of,
    numbered,
    on_screen,
    patched,
    repeated,
)
from video import films, upright
from video.frames import sample, stream

STEADY = [40 * number for number in range(40)]
B_FRAMES = {"bf": "3", "preset": "veryfast"}
GOOD = film(STEADY, options=B_FRAMES)
FASTSTART = film(STEADY, options=B_FRAMES, container_options={"movflags": "faststart"})


def sound_only() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        out = output.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.rate = 16_000
        for packet in [*out.encode(frame), *out.encode(None)]:
            output.mux(packet)
    return file.getvalue()


def without_frames() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"movflags": "empty_moov"}) as output:
        out = output.add_stream("libx264", rate=25)
        out.width, out.height, out.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()
    return file.getvalue()


def refused(clip, *, num_frames=4, name="x.mp4") -> str:
    with pytest.raises(InputError) as caught:
        sample(clip, num_frames, name=name)
    message = str(caught.value)
    assert message.startswith(f"{name}: ") and "\n" not in message
    return message


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{path}'\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT2S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">'
    '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
    "<BaseURL>{path}</BaseURL></Representation></AdaptationSet></Period></MPD>"
)
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"


@pytest.mark.parametrize(
    "text", [PLAYLIST, CONCAT, DASH, SDP], ids=["m3u8", "concat", "dash", "sdp"]
)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".ffconcat", ".mpd"])
def test_playlists_open_nothing(text, suffix, tmp_path: Path):
    target = tmp_path / "target.mp4"
    target.write_bytes(GOOD)
    path = tmp_path / f"list{suffix}"
    path.write_text(text.format(path=target))
    accessed = target.stat().st_atime_ns
    for source in (path, path.read_bytes()):
        assert "no film that can be decoded" in refused(source, name="x")
    assert target.stat().st_atime_ns == accessed


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "empty file"),
        (b"This is a text that somebody called clip.mp4.\n" * 50, "no film that can be decoded"),
        (bytes(10_000), "no film that can be decoded"),
        (sound_only(), "no moving pictures"),
        (GOOD[: len(GOOD) // 2], "no film that can be decoded"),
        (FASTSTART[:60], "no moving pictures"),
        (FASTSTART[: len(FASTSTART) // 2], "no frame in it can be decoded"),
    ],
    ids=["empty", "text", "zeros", "sound", "no index", "header", "index alone"],
)
def test_refusals(data, fault):
    assert fault in refused(data)


def test_a_film_without_frames():
    refused(without_frames())


def test_refusals_of_paths(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for path, fault in [
        (tmp_path / "none.mp4", "no such file"),
        (tmp_path / "pipe.mp4", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("a\0b.mp4", "cannot be read"),
        ("http://127.0.0.1:9/clip.mp4", "a URL"),
        ("file:///etc/passwd", "a URL"),
        ("concat:a.mp4|b.mp4", "no such file"),
        ("/proc/self/mem", "cannot be read"),
    ]:
        begin = time.monotonic()
        with pytest.raises(InputError, match=fault):
            sample(path, 2)
        assert time.monotonic() - begin < 1


def noisy(number, *, width, height):
    noise = np.random.default_rng(number).integers(0, 20, (height, width, 3), np.uint8)
    return np.clip(numbered(number, width=width, height=height) - noise, 0, 255)


FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}


@pytest.mark.parametrize(
    "kind",
    [
        {"container_options": {"movflags": "faststart"}},
        {"container_options": FRAGMENTS},
        {"container": "matroska"},
        {"container": "mpegts"},
        {"container": "webm", "codec": "libvpx-vp9", "options": {}},
    ],
    ids=["index first", "fragments", "mkv", "ts", "webm"],
)
def test_cut_films_go_as_far_as_they_are_there(kind):
    data = film(STEADY, **{"options": B_FRAMES, "picture": noisy} | kind)
    for share in (0.5, 0.7, 0.95):
        part = data[: int(share * len(data))]
        shown = everything(part)
        assert 1 <= len(shown) < 40
        if kind.get("container") == "mpegts":  # which cannot tell that its last frame is broken
            found = {round(f.time, 6): number_of(f.picture) for f in sample(part, 64)}
            sound = {round(float(time - min(shown)), 6): n for time, n in shown.items()}
            assert found.items() <= sound.items() and len(found) >= len(sound) - 1
            continue
        for num_frames in (1, 5, 64):
            found = [(frame.time, number_of(frame.picture)) for frame in sample(part, num_frames)]
            wanted = on_screen(shown, num_frames)
            assert [number for _, number in found] == [number for _, number in wanted]
            assert [t for t, _ in found] == pytest.approx([t for t, _ in wanted], abs=1e-6)


@pytest.mark.parametrize("share", np.linspace(0.02, 0.98, 13))
def test_truncated_at_any_place(share):
    for data in (FASTSTART, GOOD):
        try:
            assert 1 <= len(sample(data[: int(share * len(data))], 4)) <= 4
        except InputError as error:
            assert "\n" not in str(error)


@settings(max_examples=60, deadline=None)
@given(
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12),
    whole=st.booleans(),
)
def test_damaged_bytes_give_frames_or_one_line(edits, whole):
    data = bytearray(GOOD)
    begin = 0 if whole else data.index(b"moov")  # the header more often than the frames
    for share, value in edits:
        data[begin + int(share * (len(data) - 1 - begin))] = value
    try:
        frames = sample(bytes(data), 6)
        assert len(frames) >= 1 and all(np.isfinite(frame.time) for frame in frames)
        assert len({frame.picture.size for frame in frames}) == 1
    except InputError as error:
        assert "\n" not in str(error)


def test_a_header_that_claims_ten_hours_changes_nothing():
    wanted = [number_of(frame.picture) for frame in sample(GOOD, 5)]
    for box, place in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20)):
        data = patched(
            GOOD, box, lambda body, at=place: struct.pack_into(">I", body, at, 2**31 - 9)
        )
        begin = time.monotonic()
        assert [number_of(frame.picture) for frame in sample(data, 5)] == wanted
        assert time.monotonic() - begin < 2


@pytest.mark.parametrize("delta", [0, 1, 2**28, 2**31 - 5, 2**32 - 2])
@pytest.mark.parametrize("count", [1, 2**31 - 1])
def test_times_without_sense_end(delta, count):
    data = patched(GOOD, b"stts", lambda body: struct.pack_into(">II", body, 8, count, delta))
    begin = time.monotonic()
    try:
        assert all(np.isfinite(frame.time) for frame in sample(data, 5))
    except InputError:
        pass
    assert time.monotonic() - begin < 5


def test_frames_beyond_the_bound_are_never_decoded(monkeypatch, tmp_path: Path):
    """VP8 says its size in the frame too: 14 bits a side."""
    data = bytearray(film([0, 40], codec="libvpx", container="webm"))
    place = data.index(b"\x9d\x01\x2a")
    struct.pack_into("<HH", data, place + 3, 16_383, 16_383)
    path = tmp_path / "huge.webm"
    path.write_bytes(data)
    assert "no frame in it can be decoded" in refused(path)
    assert peak_memory(path, 4, refused=True) < 64
    monkeypatch.setattr(upright, "MAX_PIXELS", 160 * 48 - 1)
    assert "160 x 48 pixels, more than the 7,679 allowed" in refused(GOOD)


def test_pixels_of_no_sensible_shape(monkeypatch):
    def prepare(output):
        output.codec_context.sample_aspect_ratio = Fraction(40, 1)

    wide = film([0], prepare=prepare, container="matroska")
    assert sample(wide, 2)[0].picture.size == (6_400, 48)
    monkeypatch.setattr(upright, "MAX_ASPECT_RATIO", 100)
    assert "6400 x 48 pixels, too thin" in refused(wide)
    monkeypatch.setattr(upright, "MAX_PIXELS", 6_400 * 48 - 1)
    assert "6400 x 48 pixels, more than" in refused(wide)


def test_a_decoder_is_told_the_bound(monkeypatch):
    """Where the container says another size than the frames, and a stream that grows on its way."""
    monkeypatch.setattr(films, "MAX_PIXELS", 256 * 64)  # decoders round sides up
    small = film(STEADY[:5], container="h264")
    large = film(STEADY[:5], container="h264", size=(320, 192))
    assert {frame.picture.size for frame in sample(small + large, 20)} == {(160, 48)}
    assert len(sample(small + large, 20)) == 5
    assert "no frame in it can be decoded" in refused(large)


def test_too_many_packets(monkeypatch):
    monkeypatch.setattr(films, "MAX_PACKETS", 39)
    assert "more than the 39 frames allowed" in refused(GOOD)
    raw = film(STEADY, container="h264")
    assert "more than the 39 frames allowed" in refused(raw)


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def test_nothing_stays_open(tmp_path: Path):
    good, bad = tmp_path / "good.mp4", tmp_path / "bad.mp4"
    good.write_bytes(GOOD)
    bad.write_bytes(GOOD[: len(GOOD) // 2])
    sample(good, 2)
    before = descriptors()
    held = []
    for _ in range(5):
        sample(good, 4)
        with pytest.raises(InputError):
            sample(bad, 4)
        abandoned = stream(good, 4)
        next(abandoned)
        assert descriptors() == before + 1
        abandoned.close()
        assert descriptors() == before
        held.append(stream(good, 4))  # nothing is opened before the first frame is asked for
        dropped = stream(good, 4)
        next(dropped)
        del dropped
    assert descriptors() == before


def peak_memory(path: Path, num_frames: int, *, refused: bool = False) -> float:
    """MiB that sampling takes at its height beyond importing what it needs."""
    code = (
        "import pathlib, re, sys\n"
        "from video.frames import stream\n"
        "def peak():\n"
        "    status = pathlib.Path('/proc/self/status').read_text()\n"
        "    return int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) / 1024\n"
        "before = peak()\n"
        "n = 0\n"
        "try:\n"
        f"    n = sum(1 for _ in stream(sys.argv[1], {num_frames}))\n"
        "except ValueError:\n"
        f"    assert {refused}\n"
        f"assert n == {0 if refused else num_frames}, n\n"
        "print(peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def test_an_hour_costs_no_more_memory_than_seconds(tmp_path: Path):
    once = film(range(0, 4_000, 40), size=(320, 240), gop=50, options=B_FRAMES)
    short, long = tmp_path / "short.mp4", tmp_path / "long.mp4"
    short.write_bytes(once)
    long.write_bytes(repeated(once, 900))
    peaks = [peak_memory(path, 64) for path in (short, long)]
    # 90,000 entries of the container's own index, and 17 bytes a packet of ours
    assert peaks[1] - peaks[0] < 16, peaks
    last = sample(long, 2)[1]
    assert last.time == pytest.approx(3_599.96) and number_of(last.picture) == 99


def test_a_hundred_clips_take_no_more_memory_than_ten(tmp_path: Path):
    """Without waiting for garbage collection: decoders and frames go with their clip."""
    path = tmp_path / "film.mp4"
    path.write_bytes(film(STEADY[:6], size=(960, 540)))
    code = (
        "import gc, pathlib, re, sys\n"
        "from video.frames import sample\n"
        "def held():\n"
        "    status = pathlib.Path('/proc/self/status').read_text()\n"
        "    return int(re.search(r'VmRSS:\\s+(\\d+)', status)[1]) / 1024\n"
        "gc.disable()\n"
        "for number in range(100):\n"
        "    sample(sys.argv[1], 2)\n"
        "    if number == 10:\n"
        "        before = held()\n"
        "print(held() - before)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 8  # MiB; a frame has 1.5
