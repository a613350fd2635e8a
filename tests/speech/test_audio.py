"""Every kind of recording arrives as 16 kHz mono; whatever is none is refused in one line."""

import io
import os
import struct
import tracemalloc

import av
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from language.errors import InputError
from speech.audio import (
    SAMPLE_RATE,
    audio_duration,
    find_recordings,
    read_audio,
    resample,
    stream_audio,
)


def melody(seconds: float = 1.5, rate: int = 44_100) -> np.ndarray:
    """A chirp from 200 to 3,000 Hz whose loudness swells: every place of it differs."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (200 * time + 2800 / (2 * seconds) * time**2)
    swell = np.sin(np.pi * time / seconds) ** 2
    return (0.4 * swell * np.sin(phase)).astype(np.float32)


def stored(samples: np.ndarray, rate: int = 44_100, kind: str = "WAV", subtype=None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def encoded(kind: str, codec: str, *, rate: int = 48_000, sound=True, video=False, **options):
    """The melody, or silent pictures, in a container by PyAV."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind, options=options) as container:
        streams = []
        if sound:
            stream = container.add_stream(codec, rate=rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(melody(rate=rate)[None], "flt", "mono")
            frame.sample_rate, frame.pts = rate, 0
            context = stream.codec_context
            cut = av.AudioResampler(context.format.name, "mono", rate, context.frame_size or 1024)
            streams.append((stream, cut.resample(frame) + cut.resample(None)))
        if video:
            stream = container.add_stream("mpeg4", rate=10, width=32, height=32)
            picture = np.zeros((32, 32, 3), np.uint8)
            streams.append((stream, [av.VideoFrame.from_ndarray(picture) for _ in range(5)]))
        for stream, frames in streams:
            for item in [*frames, None]:
                container.mux(stream.encode(item))
    return file.getvalue()


def error(source) -> float:
    """Largest difference from the melody."""
    found = read_audio(source)
    wanted = torch.from_numpy(melody(rate=SAMPLE_RATE))
    assert found.dtype == torch.float32 and found.ndim == 1
    size = min(len(found), len(wanted))
    assert abs(len(found) - len(wanted)) < 0.06 * SAMPLE_RATE  # codecs fill their last frame
    return float((found[:size] - wanted[:size]).abs().max())


@pytest.mark.parametrize(
    ("kind", "subtype", "tolerance"),
    [
        ("WAV", "PCM_U8", 0.02),
        ("WAV", "PCM_16", 1e-3),
        ("WAV", "PCM_24", 1e-3),
        ("WAV", "PCM_32", 1e-3),
        ("WAV", "FLOAT", 1e-3),
        ("WAV", "DOUBLE", 1e-3),
        ("WAV", "ULAW", 0.02),
        ("RF64", "PCM_16", 1e-3),
        ("W64", "PCM_16", 1e-3),
        ("AIFF", "PCM_S8", 0.02),
        ("AU", "PCM_16", 1e-3),
        ("CAF", "PCM_16", 1e-3),
        ("FLAC", "PCM_16", 1e-3),
        ("FLAC", "PCM_24", 1e-3),
        ("OGG", "VORBIS", 0.05),
        ("MP3", "MPEG_LAYER_III", 0.05),
    ],
)
def test_sound_files_give_the_same_sound(kind, subtype, tolerance):
    data = stored(melody(), kind=kind, subtype=subtype)
    assert error(data) < tolerance
    assert audio_duration(data) == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "codec", "video"),
    [
        ("mp4", "aac", False),
        ("mp4", "aac", True),
        ("mov", "pcm_s16le", False),
        ("webm", "libopus", False),
        ("matroska", "aac", True),
        ("mp3", "libmp3lame", False),
        ("ogg", "libopus", False),
    ],
)
def test_containers_give_the_same_sound(kind, codec, video):
    data = encoded(kind, codec, video=video)
    assert error(data) < 0.05
    assert audio_duration(data) == pytest.approx(1.5, abs=0.05)


def test_where_no_header_knows_the_length_it_is_decoded():
    for data in (encoded("adts", "aac"), encoded("mp3", "libmp3lame", write_xing="0")):
        assert audio_duration(data) == pytest.approx(len(read_audio(data)) / SAMPLE_RATE, abs=1e-4)
        with pytest.raises(InputError, match="longer than the 1 s allowed"):
            read_audio(data, max_seconds=1)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_101, 48_000, 96_000, 192_000])
def test_a_tone_keeps_its_place_and_loudness_at_every_rate(rate):
    num_samples = 2 * rate + 17
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(num_samples) / rate)
    found = read_audio((tone, rate)).numpy()
    assert len(found) == -(-num_samples * SAMPLE_RATE // rate)
    wanted = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(len(found)) / SAMPLE_RATE)
    assert np.abs(found - wanted)[500:-500].max() < 1e-4


def test_what_a_lower_rate_cannot_hold_is_gone_and_what_it_can_stays():
    time = np.arange(48_000) / 48_000
    for frequency, low, high in [(100, 0.98, 1.02), (7000, 0.98, 1.02), (9000, 0.0, 1e-4)]:
        found = resample(torch.from_numpy(np.sin(2 * np.pi * frequency * time)), 48_000)
        assert low <= float(found[500:-500].square().mean().mul(2).sqrt()) <= high


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000, 44_101])
def test_resampled_length_is_exact(rate):
    for size in [*range(0, 40), *range(997, 1010), 65_535, 65_536, 65_537, 200_001]:
        assert len(resample(torch.zeros(size), rate)) == -(-size * SAMPLE_RATE // rate)


def test_resampling_agrees_with_another_implementation():
    soxr = pytest.importorskip("soxr")
    noise = np.random.default_rng(0).standard_normal(44_100)
    spectrum = np.fft.rfft(noise)
    spectrum[6500:] = 0  # both pass all of what is below 6.5 kHz
    sound = (np.fft.irfft(spectrum) * 0.2).astype(np.float32)
    wanted = soxr.resample(sound, 44_100, SAMPLE_RATE, quality="VHQ")
    assert np.abs(resample(torch.from_numpy(sound), 44_100).numpy() - wanted)[300:-300].max() < 1e-3


@pytest.mark.parametrize(
    ("data", "chunk_seconds"),
    [
        (stored(melody()), 0.25),
        (stored(melody(rate=16_000), 16_000), 0.1),
        (stored(melody(), kind="FLAC"), 0.0123),
        (encoded("mp4", "aac", video=True), 0.4),
        (encoded("mp3", "libmp3lame"), 100.0),
    ],
)
def test_chunks_are_the_whole_in_pieces(data, chunk_seconds):
    chunks = list(stream_audio(data, chunk_seconds=chunk_seconds))
    assert {len(chunk) for chunk in chunks[:-1]} <= {round(chunk_seconds * SAMPLE_RATE)}
    assert 0 < len(chunks[-1]) <= round(chunk_seconds * SAMPLE_RATE)
    assert torch.equal(torch.cat(chunks), read_audio(data))


@pytest.mark.parametrize(
    "data",
    [
        stored(melody(5.0)),
        stored(melody(5.0), kind="FLAC"),
        stored(melody(5.0), kind="OGG"),
        stored(melody(5.0), kind="MP3"),
        encoded("mp4", "aac"),
    ],
    ids=["wav", "flac", "ogg", "mp3", "mp4"],
)
def test_a_part_is_that_part_of_the_whole(data):
    whole = read_audio(data)
    seconds = len(whole) / SAMPLE_RATE
    for start, duration in [(0, 1.0), (0.3, 0.5), (0.71837, 0.123), (0.8 * seconds, None)]:
        part = read_audio(data, start=start, duration=duration)
        begin = round(start * SAMPLE_RATE)
        end = len(whole) if duration is None else round((start + duration) * SAMPLE_RATE)
        torch.testing.assert_close(part, whole[begin:end], rtol=0, atol=1e-4)
    parts = [read_audio(data, start=x / 3, duration=1 / 3) for x in range(3)]
    torch.testing.assert_close(torch.cat(parts), whole[:SAMPLE_RATE], rtol=0, atol=1e-4)


def test_a_part_may_end_a_little_early_but_not_much():
    data = stored(melody())
    assert len(read_audio(data, start=1, duration=0.6)) == 8000
    with pytest.raises(InputError, match=r"recording: ends at 1.50 s, before 3.00 s"):
        read_audio(data, start=1, duration=2)
    for start in (1.5, 60.0):
        with pytest.raises(InputError, match="ends before"):
            read_audio(data, start=start)
    for start, duration in [(-1, None), (float("nan"), 1), (0, 0), (0, float("inf"))]:
        with pytest.raises(InputError, match="no part of a recording"):
            read_audio(data, start=start, duration=duration)


def test_channels_are_averaged():
    channels = np.stack([melody() * weight for weight in range(8)], axis=1)  # mean weight 3.5
    for data in (stored(channels / 7, subtype="FLOAT"), (channels / 7, 44_100)):
        torch.testing.assert_close(
            read_audio(data), read_audio((melody() / 2, 44_100)), rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16, np.int32])
def test_integers_fill_their_type(kind):
    info = np.iinfo(kind)
    middle = (info.max + info.min + 1) // 2
    samples = np.array([info.min, middle, info.max], dtype=kind)
    found = read_audio((samples, SAMPLE_RATE))
    torch.testing.assert_close(found, torch.tensor([-1.0, 0.0, 1.0]), rtol=0, atol=1 / 127)
    assert found[1] == 0


@pytest.mark.parametrize(
    "samples",
    [
        torch.tensor([0.0, 0.5, -0.25], dtype=torch.float16),
        torch.tensor([0.0, 0.5, -0.25], dtype=torch.bfloat16),
        torch.tensor([0.0, 0.5, -0.25], dtype=torch.float64, requires_grad=True),
        np.array([[0.0, 0.5, -0.25], [0.0, 0.5, -0.25]], np.float32),
        np.array([[0.0, 0.5, -0.25], [0.0, 0.5, -0.25]], np.float32).T,
        torch.tensor([0, 16_384, -8_192], dtype=torch.int16),
    ],
)
def test_arrays_and_tensors_of_every_shape_and_type(samples):
    assert read_audio((samples, SAMPLE_RATE)).tolist() == [0.0, 0.5, -0.25]


def test_what_is_read_is_no_view_of_what_was_given():
    samples = np.zeros(10, np.float32)
    read_audio((samples, SAMPLE_RATE)).add_(1)
    assert not samples.any()


def test_loud_samples_are_clipped_and_unscaled_ones_refused():
    assert read_audio((np.array([1.5, -3.0]), SAMPLE_RATE)).tolist() == [1.0, -1.0]
    with pytest.raises(InputError, match="up to 20000, want -1 .. 1"):
        read_audio((np.array([0.0, 20_000.0]), SAMPLE_RATE))


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (b"", "empty file"),
        (b"some text, not sound\n" * 500, "no recording that can be decoded"),
        (b"RIFF" + bytes(100), "no recording that can be decoded"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", "no recording that can be decoded"),
        (b"ffconcat version 1.0\nfile '/etc/hostname'\n", "no recording that can be decoded"),
        (stored(np.zeros(0)), "no sound: zero samples"),
        (stored(melody())[:60_000], "truncated"),
        (stored(melody(), kind="AIFF")[:60_000], "truncated"),
        (stored(melody(), kind="FLAC")[:-3000], "broken or truncated"),
        (stored(melody(), kind="MP3")[:-6000], "truncated"),
        (stored(melody(), kind="OGG")[:-6000], "truncated"),
        (encoded("mp4", "aac")[:12_000], "broken or truncated"),
        (encoded("webm", "libopus")[:-8000], "truncated"),
        (encoded("mp4", "aac", sound=False, video=True), "no sound in it"),
        (encoded("matroska", "aac", sound=False, video=True), "no sound in it"),
        (encoded("mov", "pcm_s16le").replace(b"sowt", b"?!?!"), "codec that cannot be decoded"),
        (stored(np.array([0, np.nan]), subtype="FLOAT"), "not finite"),
        (stored(np.array([0, np.inf]), subtype="DOUBLE"), "not finite"),
        (stored(np.zeros(99), rate=10), "10 samples per second"),
        ((np.zeros(0), 16_000), "no sound: zero samples"),
        ((np.zeros(5), 0), "0 samples per second"),
        ((np.zeros((2, 3, 4)), 16_000), r"shape \[2, 3, 4\]"),
        ((np.zeros((300, 300)), 16_000), "300 channels"),
        ((np.zeros(5, np.int64), 16_000), "type int64"),
        ((np.zeros(5, bool), 16_000), "type bool"),
        ((np.zeros(5, complex), 16_000), "type complex128"),
        ((16_000, np.zeros(5)), r"\(int, ndarray\), want"),
        (7, "int is not a recording"),
    ],
    # The bytes of a source would be its name, and hold the second in which they were written.
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_bad_sources_are_refused_in_one_line(source, fault, capfd):
    for read in (read_audio, audio_duration, lambda source: list(stream_audio(source))):
        if read is audio_duration and ("finite" in fault or "channels" in fault):
            continue  # seen in the samples only
        try:
            read(source)
        except InputError as refusal:
            assert len(str(refusal).splitlines()) == 1
            with pytest.raises(InputError, match=fault):
                raise
        else:  # a header that decoding finds to be wrong
            assert read is audio_duration and "truncated" in fault
    assert capfd.readouterr() == ("", "")


def test_bad_paths_are_refused_by_name(tmp_path):
    text, pipe = tmp_path / "text.wav", tmp_path / "pipe.wav"
    text.write_text("this is no sound " * 100)
    os.mkfifo(pipe)
    for path, fault in [
        (tmp_path / "missing.wav", "no such file"),
        (tmp_path, "a folder, not a recording"),
        (text, "no recording that can be decoded"),
        (pipe, "not a regular file"),
        ("a\0b.wav", "cannot be read"),
        ("https://localhost/a.mp3", "no such file"),
    ]:
        with pytest.raises(InputError, match=fault) as refusal:
            read_audio(path)
        assert refusal.value.source == str(path)
    with pytest.raises(InputError, match=r"^shard.tar/3.flac: empty file$"):
        read_audio(b"", name="shard.tar/3.flac")


def test_a_wav_that_was_written_to_a_pipe_is_read_to_its_end():
    data = bytearray(stored(melody()))
    at = data.index(b"data") + 4
    for size in (0, 0x7FFF_FFFF, 0xFFFF_FFFF):
        data[at : at + 4] = struct.pack("<I", size)
        assert error(bytes(data)) < 1e-3
        assert audio_duration(bytes(data)) == pytest.approx(1.5)


def test_a_flac_that_was_written_to_a_pipe_is_read_to_its_end():
    data = bytearray(stored(melody(), kind="FLAC"))
    data[21] &= 0xF0  # number of samples in the header, 36 bits: unknown
    data[22:26] = bytes(4)
    assert error(bytes(data)) < 1e-3
    assert audio_duration(bytes(data)) == pytest.approx(1.5)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_header_that_leads_nowhere_prints_nothing(capfd):
    data = stored(melody(0.05), kind="AIFF")
    for place in range(4, 64):
        damaged = data[:place] + bytes(4) + data[place + 4 :]
        try:
            read_audio(damaged, max_seconds=60)
        except InputError as refusal:
            assert len(str(refusal).splitlines()) == 1
    assert capfd.readouterr() == ("", "")


def silence(path, *, hours: float) -> None:
    """Write a WAV of one byte a sample which takes no room on the disk."""
    size = round(hours * 3600 * SAMPLE_RATE)
    head = b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt "
    head += struct.pack("<IHHIIHH", 16, 1, 1, SAMPLE_RATE, SAMPLE_RATE, 1, 8)
    with open(path, "wb") as file:
        file.write(head + b"data" + struct.pack("<I", size))
        file.truncate(44 + size)


def test_a_long_recording_takes_the_memory_of_a_chunk(tmp_path):
    path = tmp_path / "long.wav"
    silence(path, hours=6)
    tracemalloc.start()
    assert audio_duration(path) == 6 * 3600
    with pytest.raises(InputError, match="longer than the 60 s allowed"):
        read_audio(path, max_seconds=60)
    assert len(read_audio(path, start=5 * 3600, duration=1, max_seconds=60)) == SAMPLE_RATE
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    silence(path, hours=0.5)
    num_samples = sum(len(chunk) for chunk in stream_audio(path, chunk_seconds=10))
    assert num_samples == 1800 * SAMPLE_RATE
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


def test_a_limit_allows_what_is_just_as_long():
    data = stored(melody())
    assert len(read_audio(data, max_seconds=1.5)) == 1.5 * SAMPLE_RATE
    with pytest.raises(InputError, match="recording: longer than the 1.4 s allowed"):
        read_audio(data, max_seconds=1.4)
    assert len(read_audio(data, max_seconds=1, duration=1)) == SAMPLE_RATE
    with pytest.raises(InputError, match="longer than the 0.5 s allowed"):
        read_audio(data, max_seconds=0.5, duration=1)


SOUND = [stored(melody(0.3), kind=kind) for kind in ("WAV", "FLAC", "OGG", "MP3")]
SOUND.append(encoded("mp4", "aac"))


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_files_give_sound_or_one_line(data):
    source = bytearray(data.draw(st.sampled_from(SOUND)))
    for _ in range(data.draw(st.integers(1, 8))):
        source[data.draw(st.integers(0, len(source) - 1))] = data.draw(st.integers(0, 255))
    try:
        sound = read_audio(bytes(source), max_seconds=60)
    except InputError as refusal:
        assert len(str(refusal).splitlines()) == 1
    else:
        assert len(sound) and sound.isfinite().all() and sound.abs().max() <= 1


def test_recordings_are_found_by_name(tmp_path):
    names = ["b.WAV", "a.flac", "sub/c.m4a", "notes.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in find_recordings(tmp_path)]
    assert found == ["a.flac", "b.WAV", "sub/c.m4a"]
    assert find_recordings(tmp_path / "x.wav") == [tmp_path / "x.wav"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="a folder without recordings"):
        find_recordings(tmp_path / "empty")
