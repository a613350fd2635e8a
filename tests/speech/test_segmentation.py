"""Recordings cut into segments: times, limits, and that no speech is lost, whatever is heard."""

import math
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from speech.audio import SAMPLE_RATE
from speech.segmentation import Segment, SegmentationConfig, quiet_edges, speech_segments
from speech.voice_activity import VoiceActivityConfig

FRAME = 400
GATE = VoiceActivityConfig(detector="energy")


class Scripted:
    """A detector that hears what it is told, a few frames late."""

    frame = FRAME

    def __init__(self, flags: list[bool], *, late: int) -> None:
        self.flags, self.late, self.num_samples, self.num_given = flags, late, 0, 0

    def push(self, samples: Tensor) -> list[bool]:
        self.num_samples += len(samples)
        return self._until(max(0, self.num_samples // FRAME - self.late))

    def finish(self) -> list[bool]:
        return self._until(-(-self.num_samples // FRAME))

    def _until(self, end: int) -> list[bool]:
        given = self.flags[self.num_given : max(end, self.num_given)]
        self.num_given += len(given)
        return given


def split(samples: Tensor, seed: int) -> Iterator[Tensor]:
    """Chunks of any size, some of them empty."""
    rng = np.random.default_rng(seed)
    while len(samples):
        size = int(rng.choice([0, 1, 77, 4_000, 50_000]))
        yield samples[:size]
        samples = samples[size:]


def cut(
    flags: list[bool],
    samples: Tensor,
    config: SegmentationConfig,
    *,
    late: int = 0,
    seed: int = 0,
) -> list[Segment]:
    detector = Scripted(flags, late=late)
    return list(speech_segments(split(samples, seed), config, detector=detector))


def places(segment: Segment) -> tuple[int, int]:
    return round(segment.start * SAMPLE_RATE), round(segment.end * SAMPLE_RATE)


@st.composite
def scripts(draw: st.DrawFn) -> list[bool]:
    """Runs of speech and pauses, in frames of 25 ms."""
    lengths = draw(st.lists(st.integers(1, 12) | st.integers(1, 150), min_size=1, max_size=12))
    first = draw(st.booleans())
    return [first ^ bool(i % 2) for i, length in enumerate(lengths) for _ in range(length)]


@settings(max_examples=150, deadline=None)
@given(
    flags=scripts(),
    missing=st.integers(0, FRAME - 1),
    min_silence=st.sampled_from([0.0, 0.1, 0.3, 0.7]),
    min_speech=st.sampled_from([0.0, 0.1, 0.2]),
    padding=st.sampled_from([0.0, 0.03, 0.1]),
    max_seconds=st.sampled_from([1.0, 1.7, 30.0]),
    late=st.integers(0, 40),
    seed=st.integers(0, 9),
)
def test_speech_is_in_one_segment_each(
    flags: list[bool],
    missing: int,
    min_silence: float,
    min_speech: float,
    padding: float,
    max_seconds: float,
    late: int,
    seed: int,
) -> None:
    config = SegmentationConfig(
        min_silence=min_silence, min_speech=min_speech, padding=padding, max_seconds=max_seconds
    )
    samples = torch.randn(len(flags) * FRAME - missing, generator=torch.manual_seed(seed))
    found = cut(flags, samples, config, late=late, seed=seed)
    covered = np.zeros(len(samples), dtype=int)
    for segment in found:
        start, end = places(segment)
        covered[start:end] += 1
        assert 0 <= start < end <= len(samples)
        assert end - start <= max_seconds * SAMPLE_RATE
        assert segment.start <= segment.speech_start < segment.speech_end <= segment.end
        assert torch.equal(segment.samples, samples[start:end])
    assert covered.max(initial=0) <= 1
    assert [places(s) for s in found] == sorted(places(s) for s in found)
    # Speech by definition: runs whose pauses are too short to count, if there is enough in them.
    stretches: list[tuple[int, int, int]] = []
    for index in (i for i, is_speech in enumerate(flags) if is_speech):
        start = index * FRAME
        if stretches and start - stretches[-1][1] < max(1, min_silence * SAMPLE_RATE):
            begin, _, amount = stretches.pop()
            stretches.append((begin, start + FRAME, amount + FRAME))
        else:
            stretches.append((start, start + FRAME, FRAME))
    near = np.zeros(len(samples), dtype=bool)
    for start, end, amount in stretches:
        end = min(end, len(samples))
        if amount >= min_speech * SAMPLE_RATE:
            assert covered[start:end].all(), "speech, and the pauses in it, are kept"
            pad = round(padding * SAMPLE_RATE)
            near[max(0, start - pad) : end + pad] = True
    assert not covered[~near].any(), "beside speech there is only padding"
    longest = max((end - start for start, end, _ in stretches), default=0) / SAMPLE_RATE
    if longest + 2 * padding <= max_seconds:
        assert len(found) == sum(a >= min_speech * SAMPLE_RATE for _, _, a in stretches)


@settings(max_examples=20, deadline=None)
@given(flags=scripts(), late=st.integers(0, 40), seeds=st.tuples(*[st.integers(0, 9)] * 2))
def test_chunks_make_no_difference(flags: list[bool], late: int, seeds: tuple[int, int]) -> None:
    samples = torch.randn(len(flags) * FRAME, generator=torch.manual_seed(0))
    config = SegmentationConfig(max_seconds=2.0)
    once, again = (
        cut(flags, samples, config, late=late * number, seed=seed)
        for number, seed in enumerate(seeds)
    )
    assert list(map(places, once)) == list(map(places, again))


def test_neighbours_share_the_pause() -> None:
    flags = [False] * 8 + [True] * 20 + [False] * 6 + [True] * 20 + [False] * 3
    config = SegmentationConfig(min_silence=0.1, padding=0.1)
    first, second = cut(flags, torch.zeros(len(flags) * FRAME), config)
    assert (first.start, first.speech_start, first.speech_end) == (0.1, 0.2, 0.7)
    assert first.end == second.start == pytest.approx(0.775)  # the middle of 150 ms
    assert second.end == pytest.approx(57 * 0.025)  # where the recording ends


def test_long_speech_is_cut_at_its_quietest_point() -> None:
    seconds, quiet = 23.0, [6.5, 8.2, 17.1]  # a pause in the first half is no place to cut
    samples = torch.randn(int(seconds * SAMPLE_RATE), generator=torch.manual_seed(0))
    for depth, place in zip((0.01, 0.2, 0.1), quiet, strict=True):
        middle = int(place * SAMPLE_RATE)
        samples[middle - 1_000 : middle + 1_000] *= depth
    found = cut([True] * (-(-len(samples) // FRAME)), samples, SegmentationConfig(max_seconds=10.0))
    assert [round(s.start, 1) for s in found][:2] == [0.0, 6.5]
    assert any(abs(s.start - 8.2) < 0.05 for s in found) is False
    found = cut([True] * (-(-len(samples) // FRAME)), samples, SegmentationConfig(max_seconds=13.5))
    assert found[0].end == pytest.approx(8.2, abs=0.05)
    assert found[1].end == pytest.approx(17.1, abs=0.05)
    assert found[-1].end == seconds
    assert torch.equal(torch.cat([s.samples for s in found]), samples)


def test_nothing_heard_nothing_found() -> None:
    assert list(speech_segments([], SegmentationConfig(voice_activity=GATE))) == []
    assert list(speech_segments([torch.zeros(0)], SegmentationConfig(voice_activity=GATE))) == []
    assert cut([False] * 100, torch.ones(100 * FRAME), SegmentationConfig()) == []
    assert cut([True] * 3, torch.ones(3 * FRAME), SegmentationConfig()) == []  # 75 ms
    assert len(cut([True] * 4, torch.ones(4 * FRAME), SegmentationConfig())) == 1


def test_samples_must_be_numbers() -> None:
    with pytest.raises(ValueError, match="not finite"):
        list(speech_segments([torch.tensor([0.0, math.nan])], SegmentationConfig()))


def voiced(seconds: float, generator: torch.Generator) -> Tensor:
    """Harmonics whose strengths go up and down a few times a second, as those of vowels do."""
    t = torch.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * math.pi * (140 * t - 3 * torch.cos(2 * math.pi * 2 * t))
    sound = torch.zeros_like(t)
    for harmonic in range(1, 25):
        rate, start = torch.rand(2, generator=generator).tolist()
        strength = (1.1 + torch.sin(2 * math.pi * ((2 + 4 * rate) * t + start))) / harmonic
        sound += strength * torch.sin(harmonic * phase)
    return 0.2 * sound


@pytest.mark.parametrize("noise", [0.0, 0.003, 0.03])
def test_bursts_are_found_where_they_are(noise: float) -> None:
    generator = torch.manual_seed(1)
    parts, truth, place = [torch.zeros(8_000)], [], 0.5
    for number in range(12):
        seconds = 0.6 + 0.25 * number
        parts += [voiced(seconds, generator), torch.zeros(8_000)]
        truth.append((place, place + seconds))
        place += seconds + 0.5
    samples = torch.cat(parts)
    samples = samples + noise * torch.randn(len(samples), generator=generator)
    config = SegmentationConfig(voice_activity=GATE)
    found = list(speech_segments(split(samples, 3), config))
    assert len(found) == len(truth)
    for segment, (start, end) in zip(found, truth, strict=True):
        assert abs(segment.speech_start - start) < 0.1
        assert abs(segment.speech_end - end) < 0.1
        assert segment.start <= start and segment.end >= end


@pytest.mark.parametrize(("detector", "minutes"), [("energy", 6), ("scripted", 60)])
def test_an_hour_needs_the_memory_of_a_segment(detector: str, minutes: int) -> None:
    """Chunks die as the stream goes on: counted by their arrays; the detectors look ahead."""
    generator = torch.manual_seed(2)
    minute = torch.cat([voiced(25.0, generator), torch.zeros(5 * SAMPLE_RATE)] * 2).numpy()
    alive, most = 0, 0

    def died() -> None:
        nonlocal alive
        alive -= 1

    def stream() -> Iterator[Tensor]:
        nonlocal alive, most
        for second in range(60 * minutes):
            place = second % 60 * SAMPLE_RATE
            chunk = minute[place : place + SAMPLE_RATE].copy()
            weakref.finalize(chunk, died)
            alive, most = alive + 1, max(most, alive + 1)
            yield torch.from_numpy(chunk)
            del chunk

    config = SegmentationConfig(voice_activity=GATE, max_seconds=12.0)
    script = ([True] * 1_000 + [False] * 200) * (2 * minutes)  # of 25 and 5 s
    scripted = Scripted(script, late=200) if detector == "scripted" else None
    found = speech_segments(stream(), config, detector=scripted)
    seconds = sum(segment.end - segment.start for segment in found)
    assert 0.97 < seconds / (minutes * 50) < 1.03
    assert most <= 12 + 6 + 2  # the longest segment, what they look ahead, chunks at the ends


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"min_silence": -0.1}, "min_silence must be 0 or more"),
        ({"padding": math.nan}, "padding must be 0 or more"),
        ({"max_seconds": 0.5}, r"max_seconds \(0.5\) must be at least 1"),
        ({"padding": 1.0, "max_seconds": 7.0}, "8 times padding"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, float], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        SegmentationConfig(**settings)


def test_quiet_edges_are_what_is_no_louder_than_the_pauses():
    rng = np.random.default_rng(0)
    noise = 0.01 * rng.standard_normal(3 * SAMPLE_RATE)
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    voice = 0.3 * np.sin(2 * np.pi * 200 * time)
    noise[8_000:24_000] += voice
    noise[27_200:43_200] += voice
    found = quiet_edges(torch.from_numpy(noise).float(), rise_db=6, range_db=15)
    assert found[0] == pytest.approx(8_000, abs=0.05 * SAMPLE_RATE)
    assert found[1] == pytest.approx(4_800, abs=0.05 * SAMPLE_RATE)
    for steady in (0.1 * rng.standard_normal(SAMPLE_RATE), np.zeros(SAMPLE_RATE), voice[:700]):
        assert quiet_edges(torch.from_numpy(steady).float(), rise_db=6, range_db=15) == (0, 0)
