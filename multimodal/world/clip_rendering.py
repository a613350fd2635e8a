"""Clips as files: frames drawn at their times, encoded by PyAV in many containers and codecs.

Frame rates, lengths and sizes vary, and one clip in six has frames at uneven times. The same clip
and the same chance give the same bytes: every encoder runs on one thread.
"""

import io
import random
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image

from multimodal.world.acoustics import Waveform
from multimodal.world.clips import ClipScene
from multimodal.world.rendering import draw_items, ground
from speech.audio import SAMPLE_RATE

EDGES = (96, 112, 128, 160)
RATES = (8, 10, 12, 15, 24, 25)
SECONDS = (2.2, 4.0)
TICKS = 1000
"""Of the time base, in a second: coarse enough for Matroska, fine enough for uneven times."""
SOUND_RATE = 48_000


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """A way to write a clip."""

    suffix: str
    container: str
    codec: str
    options: dict[str, str]
    share: int
    """How often it is drawn, relative to the others."""


ENCODINGS = (
    Encoding(
        suffix="mp4",
        container="mp4",
        codec="libx264",
        # Without looking ahead, which gives other bytes from one run to the next.
        options={
            "preset": "veryfast",
            "crf": "20",
            "threads": "1",
            "x264-params": "rc-lookahead=0:sync-lookahead=0:mbtree=0",
        },
        share=10,
    ),
    Encoding(
        suffix="webm",
        container="webm",
        codec="libvpx-vp9",
        options={"deadline": "realtime", "cpu-used": "8", "crf": "28", "b": "0", "threads": "1"},
        share=4,
    ),
    Encoding(
        suffix="webm",
        container="webm",
        codec="libvpx",
        # A negative speed is a fixed one; above 0 it would follow the machine's.
        options={"deadline": "realtime", "cpu-used": "-8", "b": "600k", "threads": "1"},
        share=3,
    ),
    Encoding(
        suffix="mkv",
        container="matroska",
        codec="mpeg4",
        options={"qscale": "3", "flags": "+qscale", "global_quality": "354", "threads": "1"},
        share=3,
    ),
)


def draw_at(clip: ClipScene, time: float, *, edge: int) -> Image.Image:
    """Draw what a clip shows at a time from 0 to 1, square, of ``edge`` pixels."""
    return draw_items(ground(clip.ground, edge), clip.at(time))


def encode(
    clip: ClipScene, rng: random.Random, *, sound: Waveform | None = None
) -> tuple[str, bytes]:
    """Write a clip as a file.

    Args:
        clip: what it shows.
        rng: draws encoding, frame rate, length and size.
        sound: what is heard, at 16 kHz; the clip lasts at least as long.

    Returns:
        Suffix of its name, without a dot, and its bytes.
    """
    encoding = rng.choices(ENCODINGS, weights=[each.share for each in ENCODINGS])[0]
    edge = rng.choice(EDGES)
    seconds = rng.uniform(*SECONDS)
    if sound is not None:
        seconds = max(seconds, len(sound) / SAMPLE_RATE)
    ticks = _frame_ticks(rng, seconds)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=encoding.container, options={"fflags": "bitexact"}) as out:
        stream: Any = out.add_stream(encoding.codec, rate=max(RATES), options=encoding.options)
        stream.width = stream.height = edge
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, TICKS)
        stream.codec_context.time_base = Fraction(1, TICKS)
        stream.codec_context.gop_size = rng.choice((4, 12, 48))
        heard = None if sound is None else _add_sound(out, encoding)
        base = ground(clip.ground, edge)
        for tick in ticks:
            picture = draw_items(base.copy(), clip.at(tick / ticks[-1]))
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = tick, Fraction(1, TICKS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if sound is not None and heard is not None:
            _write_sound(out, heard, sound)
    return encoding.suffix, buffer.getvalue()


def _frame_ticks(rng: random.Random, seconds: float) -> list[int]:
    """When each frame is shown, in ticks: evenly, or now and then not."""
    rate = rng.choice(RATES)
    number = max(18, round(seconds * rate) + 1)
    step = TICKS * seconds / (number - 1)
    uneven = 0.3 if rng.random() < 1 / 6 else 0.0
    ticks = [round(step * (i + uneven * rng.uniform(-1, 1))) for i in range(number)]
    return [0, *ticks[1:-1], round(step * (number - 1))]


def _add_sound(out: Any, encoding: Encoding) -> Any:
    codec = "aac" if encoding.container == "mp4" else "libopus"
    heard = out.add_stream(codec, rate=SOUND_RATE)
    heard.codec_context.layout = "mono"
    return heard


def _write_sound(out: Any, heard: Any, sound: Waveform) -> None:
    resampler = av.AudioResampler(
        format=heard.codec_context.format.name,
        layout="mono",
        rate=SOUND_RATE,
        frame_size=heard.codec_context.frame_size or 960,
    )
    samples = np.clip(np.asarray(sound, np.float32), -1, 1)[None]
    frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
    frame.sample_rate = SAMPLE_RATE
    frame.pts, frame.time_base = 0, Fraction(1, SAMPLE_RATE)
    for resampled in [*resampler.resample(frame), *resampler.resample(None)]:
        out.mux(heard.encode(resampled))
    out.mux(heard.encode())
