"""Recordings of every kind opened as a rate, a length if it is known, and blocks of samples.

What arrives is untrusted: only regular local files in named formats reach a decoder. soundfile
reads WAV, FLAC, Ogg and their like; PyAV the rest. A recording that begins later is sought where
that is exact to the sample (WAV, FLAC), and otherwise decoded from its start.
"""

import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import IO

import av
import numpy as np
import soundfile
import torch
from av.container import InputContainer
from torch import Tensor

from language.errors import InputError

SOUNDFILE_MAGIC = (b"RIFF", b"RF64", b"riff", b"fLaC", b"OggS", b"FORM", b".snd", b"caff")
"""First bytes of what libsndfile may read."""

CONTAINERS = "aac,amr,asf,avi,flac,matroska,mov,mp3,mpegts,ogg,wav,w64"
"""FFmpeg's demuxers that untrusted bytes may reach: no playlists, nothing that opens a file."""

MIN_RATE, MAX_RATE = 1_000, 768_000

SLACK_SECONDS = 0.25
"""By how much a header may differ from the sound: codecs pad to whole frames."""

BLOCK_VALUES = 2**18
"""Values, of all channels, that are decoded at a time."""

Audio = str | os.PathLike[str] | bytes | tuple[np.ndarray | Tensor, int]
"""Everything that is read: a path, the bytes of a file, or samples with their rate.

Samples are `[samples]`, `[samples, channels]` or `[channels, samples]`: the longer side is time.
They are floating-point in -1 .. 1, or integers of 8, 16 or 32 bits that fill their type.
"""


@dataclass(kw_only=True)
class Recording:
    """An open source of sound."""

    rate: int
    seconds: float | None
    """What the header says, where that can be trusted."""
    blocks: Callable[[int], Iterator[np.ndarray]]
    """Decoded blocks `[samples, channels]` of any type from a given sample on."""


@contextmanager
def open_recording(source: Audio, *, name: str) -> Iterator[Recording]:
    """Open whatever holds sound; it stays open within the `with` block.

    Raises:
        InputError: if it cannot be read, is in no known format, or is seen to be truncated.
            Decoding its blocks raises whatever the decoder does.
    """
    opened: AbstractContextManager[Recording]
    if isinstance(source, tuple):
        opened = nullcontext(_from_array(*source, name=name))
    elif isinstance(source, bytes | bytearray | memoryview):
        opened = _decoder(io.BytesIO(source), name=name)
    elif isinstance(source, str | os.PathLike):
        opened = _from_file(source, name=name)
    else:
        raise InputError(name, f"{type(source).__name__} is not a recording")
    with opened as recording:
        if not MIN_RATE <= recording.rate <= MAX_RATE:
            raise InputError(
                name, f"{recording.rate:,} samples per second, want {MIN_RATE:,} .. {MAX_RATE:,}"
            )
        yield recording


def _from_array(samples: np.ndarray | Tensor, rate: int, *, name: str) -> Recording:
    if isinstance(samples, Tensor):
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.dtype == torch.bfloat16 else samples).numpy()
    if not isinstance(samples, np.ndarray) or not isinstance(rate, int | np.integer):
        kinds = f"{type(samples).__name__}, {type(rate).__name__}"
        raise InputError(name, f"({kinds}), want an array or tensor and its integer rate")
    if samples.ndim == 1:
        samples = samples[:, None]
    if samples.ndim != 2:
        raise InputError(name, f"shape {list(samples.shape)}, want one dimension or two")
    if samples.size == 0:
        raise InputError(name, "no sound: zero samples")
    if samples.shape[0] < samples.shape[1]:
        samples = samples.T
    if samples.dtype.kind not in "iuf" or (samples.dtype.kind != "f" and samples.itemsize > 4):
        raise InputError(
            name, f"samples of type {samples.dtype}, want floating-point or 8, 16 or 32 bits"
        )

    def blocks(begin: int) -> Iterator[np.ndarray]:
        size = block_size(samples.shape[1])
        for position in range(begin, len(samples), size):
            yield samples[position : position + size]

    return Recording(rate=int(rate), seconds=len(samples) / max(rate, 1), blocks=blocks)


@contextmanager
def _from_file(path: str | os.PathLike[str], *, name: str) -> Iterator[Recording]:
    try:
        status = os.stat(path)
        file = open(path, "rb") if stat.S_ISREG(status.st_mode) else None
    except FileNotFoundError:
        raise InputError(name, "no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise InputError(name, f"cannot be read ({reason(error)})") from None
    if file is None:
        is_folder = stat.S_ISDIR(status.st_mode)
        raise InputError(name, "a folder, not a recording" if is_folder else "not a regular file")
    with file, _decoder(file, name=name) as recording:
        yield recording


@contextmanager
def _decoder(file: IO[bytes], *, name: str) -> Iterator[Recording]:
    """Open by soundfile what it reads well, by PyAV the rest."""
    magic = file.read(4)
    file.seek(0)
    if not magic:
        raise InputError(name, "empty file")
    if magic == b"OggS" and not _ends_with_a_page(file):
        raise InputError(name, "truncated: its last Ogg page is not whole")
    sound = _opened_by_soundfile(file) if magic in SOUNDFILE_MAGIC else None
    if sound is not None:
        with sound:
            yield _by_soundfile(sound, name=name)
    else:
        file.seek(0)
        with _by_av(file, name=name) as recording:
            yield recording


def _opened_by_soundfile(file: IO[bytes]) -> soundfile.SoundFile | None:
    try:
        sound = soundfile.SoundFile(_Seekable(file))
    except Exception:  # a codec that libsndfile lacks, or a broken file: PyAV tells
        return None
    if 0 < sound.frames < 2**62:
        return sound
    sound.close()  # written to a pipe, before its length was known: PyAV reads on to the end
    return None


class _Seekable:
    """A file in which libsndfile may seek anywhere, as broken headers make it do.

    An exception could not leave its callback: Python would print it and go on.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.read, self.readinto, self.tell = file.read, file.readinto, file.tell  # type: ignore[attr-defined]

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return self._file.tell()


def _by_soundfile(sound: soundfile.SoundFile, *, name: str) -> Recording:
    seconds = sound.frames / sound.samplerate
    # libsndfile shortens uncompressed sound to what the file holds, and notes that in its log.
    for said, real in re.findall(r": (\d+) \(should be (\d+)\)", sound.extra_info):
        from_pipe = int(said) >= 2**32 - 2**16 or 2**31 - 2**16 <= int(said) < 2**31
        missing = seconds * (int(said) / max(int(real), 1) - 1)
        if missing > SLACK_SECONDS and not from_pipe:
            raise InputError(name, f"truncated: about {missing:.1f} s of its sound are missing")

    def blocks(begin: int) -> Iterator[np.ndarray]:
        if sound.format != "OGG" and begin <= sound.frames:
            begin -= sound.seek(begin)
        while len(block := sound.read(block_size(sound.channels), "float32", always_2d=True)):
            yield block[begin:]
            begin = max(0, begin - len(block))

    return Recording(rate=sound.samplerate, seconds=seconds, blocks=blocks)


@contextmanager
def _by_av(file: IO[bytes], *, name: str) -> Iterator[Recording]:
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": ""}
    counted = _counts_its_frames(file)
    try:
        container = av.open(file, options=options, metadata_errors="ignore")
    except Exception:  # FFmpeg's parsers raise nearly anything on hostile bytes
        raise InputError(
            name, "no recording that can be decoded: in another format, broken or truncated"
        ) from None
    assert isinstance(container, InputContainer)
    with container:
        if not container.streams.audio:
            raise InputError(name, "no sound in it")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise InputError(name, "its sound is in a codec that cannot be decoded")
        rate = stream.rate or 0

        def blocks(begin: int) -> Iterator[np.ndarray]:
            for frame in container.decode(stream):
                if frame.sample_rate != rate:
                    raise InputError(name, "its sampling rate changes on the way")
                block = frame.to_ndarray()
                if frame.format.is_planar:
                    block = block.T
                block = block.reshape(-1, frame.layout.nb_channels)
                yield block[begin:]
                begin = max(0, begin - len(block))

        seconds = None
        written = re.match(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
        if written:  # Matroska, which knows no other duration of one stream
            seconds = sum(float(x) * 60**i for i, x in enumerate(reversed(written.groups())))
        elif stream.duration and stream.time_base and (counted or "mov" in container.format.name):
            seconds = float(stream.duration * stream.time_base)
        yield Recording(rate=rate, seconds=seconds, blocks=blocks)


def _counts_its_frames(file: IO[bytes]) -> bool:
    """Whether an MP3 says how long it is; otherwise FFmpeg guesses from the bit rate."""
    head = file.read(10)
    tag_size = 0
    if head[:3] == b"ID3" and len(head) == 10:
        tag_size = 10 + sum(
            byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
    file.seek(tag_size)
    start = file.read(200)
    file.seek(0)
    return b"Xing" in start or b"Info" in start


def _ends_with_a_page(file: IO[bytes]) -> bool:
    """Whether the last page of an Ogg file is there to its end."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 2**17))  # a page has less than 64 KiB
    tail = file.read()
    file.seek(0)
    page = tail[tail.rfind(b"OggS") :]
    return len(page) >= 27 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


def block_size(num_channels: int) -> int:
    """Samples that are decoded at a time."""
    return max(1, BLOCK_VALUES // num_channels)


def source_name(source: Audio) -> str:
    """What an error calls a source that nobody named."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return "array" if isinstance(source, tuple) else "recording"


def reason(error: Exception) -> str:
    """Return an exception's words, without the numbers and names around them, on one line."""
    words = getattr(error, "strerror", None) or str(error)
    return " ".join(words.split()) or type(error).__name__
