"""Sound from wherever it comes: file, bytes or array, always as 16 kHz mono float32 in -1 .. 1.

What arrives is untrusted. Only named formats of local files are decoded, whatever is wrong becomes
one `InputError` that names the file and the fault, and a header's word is never enough: sound that
is shorter than its header says is refused as truncated, and limits hold while decoding.

Everything is a stream of blocks: decoded, averaged over channels, resampled by a windowed sinc
(libswresample). Reading a whole recording, a part of it, or chunk after chunk are the same stream,
so that they agree, and six hours need no more memory than one chunk.
"""

import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from language.errors import InputError
from speech.decoding import (
    SLACK_SECONDS,
    Audio,
    Recording,
    open_recording,
    reason,
    source_name,
)

SAMPLE_RATE = 16_000
"""Samples per second of every recording inside this package."""

BLOCK_SAMPLES = 2**16
"""Samples that are resampled at a time."""

SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".mp4", ".webm", ".mkv"),
    *(".mov", ".wma", ".aif", ".aiff", ".au", ".caf", ".w64", ".amr", ".3gp"),
)
"""Names that count as recordings when a folder is searched."""

MAX_CHANNELS = 256
MAX_LEVEL = 16.0
"""Floating-point samples beyond it were never scaled to -1 .. 1; up to it they are clipped."""


def read_audio(
    source: Audio,
    *,
    start: float = 0.0,
    duration: float | None = None,
    max_seconds: float | None = None,
    name: str | None = None,
) -> Tensor:
    """Return a recording, or a part of it, as `[samples]` float32 at 16 kHz.

    A part is what the same samples of the whole recording are. It ends with the recording if that
    is less than `SLACK_SECONDS` too short.

    Args:
        source: what to read.
        start: where to begin, in seconds.
        duration: seconds to read; to the end if None.
        max_seconds: longest result that is read; more is refused before it is held in memory.
        name: what an error calls the recording; the path by default.

    Raises:
        InputError: if it cannot be read, holds no sound, or is too long or too short.
    """
    name = name or source_name(source)
    if not (0 <= start < math.inf) or not (duration is None or 0 < duration < math.inf):
        raise InputError(name, f"no part of a recording: start {start} s, duration {duration} s")
    begin, end = round(start * SAMPLE_RATE), None
    if duration is not None:
        end = round((start + duration) * SAMPLE_RATE)
    parts, num_samples = [], 0
    with open_recording(source, name=name) as recording:
        seconds = duration
        if seconds is None and recording.seconds is not None:
            seconds = recording.seconds - start
        _check_length((seconds or 0.0) - SLACK_SECONDS, max_seconds, name=name)
        for part in _stream(recording, begin=begin, end=end, name=name):
            num_samples += len(part)
            _check_length(num_samples / SAMPLE_RATE, max_seconds, name=name)
            parts.append(part)
    found = (begin + num_samples) / SAMPLE_RATE
    if num_samples == 0:
        raise InputError(name, f"ends before {start:g} s, where reading should begin")
    if end is not None and end / SAMPLE_RATE - found > SLACK_SECONDS:
        raise InputError(name, f"ends at {found:.2f} s, before {end / SAMPLE_RATE:.2f} s")
    return torch.from_numpy(np.concatenate(parts))


def stream_audio(
    source: Audio, *, chunk_seconds: float = 30.0, name: str | None = None
) -> Iterator[Tensor]:
    """Yield what `read_audio` returns chunk after chunk, `[samples]`, in bounded memory.

    Raises:
        InputError: as `read_audio` does; what lies before a broken place has been yielded by then.
    """
    name = name or source_name(source)
    size = round(chunk_seconds * SAMPLE_RATE)
    if size < 1:
        raise ValueError(f"chunk_seconds must be positive, not {chunk_seconds}")
    with open_recording(source, name=name) as recording:
        parts = _stream(recording, begin=0, end=None, name=name)
        yield from map(torch.from_numpy, _regrouped(parts, size))


def audio_duration(source: Audio, *, name: str | None = None) -> float:
    """Return the seconds of a recording: by its header, or decoded where that does not know.

    Raises:
        InputError: if it cannot be read or holds no sound.
    """
    name = name or source_name(source)
    with open_recording(source, name=name) as recording:
        if recording.seconds is not None:
            if recording.seconds <= 0:
                raise InputError(name, "no sound: zero samples")
            return recording.seconds
        return sum(map(len, _checked(recording, begin=0, name=name))) / recording.rate


def find_recordings(path: str | os.PathLike[str]) -> list[Path]:
    """List the recordings under a folder, by name; a path that is no folder is itself the list.

    Raises:
        InputError: if the folder holds none.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return [path]
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise InputError(path, f"cannot be read ({reason(error)})") from None
    if not found:
        raise InputError(path, f"a folder without recordings ({', '.join(SUFFIXES)})")
    return found


def resample(waveform: Tensor, rate: int) -> Tensor:
    """Resample `[samples]` at `rate` to `[ceil(samples * 16,000 / rate)]` at 16 kHz, on the CPU."""
    samples = waveform.detach().cpu().float().numpy()
    size = BLOCK_SAMPLES
    blocks = (samples[i : i + size] for i in range(0, len(samples), size))
    return torch.from_numpy(np.concatenate([np.empty(0, np.float32), *_resampled(blocks, rate)]))


def _stream(
    recording: Recording, *, begin: int, end: int | None, name: str
) -> Iterator[np.ndarray]:
    """Yield samples `begin .. end` at 16 kHz.

    Decoding starts at a whole second, where samples of both rates coincide, and at least one second
    earlier, so that the resampler knows what came before.
    """
    whole_seconds = max(0, begin // SAMPLE_RATE - 1)
    position = whole_seconds * SAMPLE_RATE
    blocks = _checked(recording, begin=whole_seconds * recording.rate, name=name)
    for block in _resampled(_regrouped(blocks, BLOCK_SAMPLES), recording.rate):
        first, last = position, position + len(block)
        position = last
        if last > begin:
            stop = len(block) if end is None else end - first
            yield np.clip(block[max(0, begin - first) : stop], -1.0, 1.0)
        if end is not None and last >= end:
            return


def _checked(recording: Recording, *, begin: int, name: str) -> Iterator[np.ndarray]:
    """Yield blocks `[samples]`, float32 and finite, from sample `begin` at the source's rate."""
    position = begin
    blocks = recording.blocks(begin)
    while True:
        try:
            block = next(blocks, None)
        except InputError:
            raise
        except Exception as error:  # decoders raise nearly anything on hostile bytes
            at = position / recording.rate
            raise InputError(name, f"broken or truncated at {at:.1f} s ({reason(error)})") from None
        if block is None:
            break
        position += len(block)
        yield _mono(block, name=name)
    if position == 0:
        raise InputError(name, "no sound: zero samples")
    found = position / recording.rate
    if recording.seconds is not None and found < recording.seconds - SLACK_SECONDS:
        raise InputError(name, f"truncated: {found:.1f} s of {recording.seconds:.1f} s are there")


def _regrouped(blocks: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Yield the samples of all blocks in blocks of `size`, the last of which may be shorter."""
    held: list[np.ndarray] = []
    num_held = 0
    for block in blocks:
        held.append(block)
        num_held += len(block)
        if num_held >= size:
            samples = np.concatenate(held)
            rest = num_held % size
            yield from np.split(samples[: num_held - rest], num_held // size)
            held, num_held = [samples[num_held - rest :]], rest
    if num_held:
        yield np.concatenate(held)


def _mono(block: np.ndarray, *, name: str) -> np.ndarray:
    """`[samples, channels]` of any type to the mean over channels `[samples]` in float32."""
    if block.shape[1] > MAX_CHANNELS:
        raise InputError(name, f"{block.shape[1]} channels, more than the {MAX_CHANNELS} allowed")
    if block.dtype.kind == "f":
        level = np.abs(block).max(initial=0.0)
        if not np.isfinite(level):
            raise InputError(name, "samples that are not finite numbers")
        if level > MAX_LEVEL:
            raise InputError(name, f"floating-point samples up to {level:g}, want -1 .. 1")
        return block.mean(axis=1, dtype=np.float32)
    half = 2.0 ** (8 * block.itemsize - 1)
    mean = block.mean(axis=1, dtype=np.float64)
    return ((mean - half if block.dtype.kind == "u" else mean) / half).astype(np.float32)


def _resampled(blocks: Iterator[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Blocks of N samples at `rate` to ceil(N * 16,000 / rate) samples, the first on the first."""
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    graph = av.filter.Graph()
    source = graph.add_abuffer(format="flt", sample_rate=rate, layout="mono")
    # 64 taps at the lower rate: flat within 0.1 dB to 7 kHz, images below -95 dB from 8.5 kHz on
    sinc = graph.add("aresample", f"{SAMPLE_RATE}:resampler=swr:filter_size=64:cutoff=0.95")
    sink = graph.add("abuffersink")
    source.link_to(sinc)
    sinc.link_to(sink)
    graph.configure()
    num_in = num_out = 0

    def passed(block: np.ndarray) -> np.ndarray:
        """What comes out when the block goes in."""
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(block)[None], format="flt", layout="mono"
        )
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), num_in
        source.push(frame)
        out = [np.empty(0, np.float32)]
        while True:
            try:
                resampled = sink.pull()
            except av.BlockingIOError:
                return np.concatenate(out)
            assert isinstance(resampled, av.AudioFrame)
            out.append(resampled.to_ndarray()[0])

    for block in blocks:
        out = passed(block)
        num_in += len(block)
        num_out += len(out)
        yield out
    # Silence brings out what the filter still holds.
    yield passed(np.zeros(rate // 4, np.float32))[: -(-num_in * SAMPLE_RATE // rate) - num_out]


def _check_length(seconds: float, max_seconds: float | None, *, name: str) -> None:
    if max_seconds is not None and seconds > max_seconds + 0.5 / SAMPLE_RATE:
        raise InputError(name, f"longer than the {max_seconds:g} s allowed")
