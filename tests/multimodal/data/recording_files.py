"""Recordings as other programs write them."""

import io
import json

import av
import numpy as np
import soundfile
import torch

RATE = 16_000


def noise(seconds, *, seed=0):
    """[samples] that 16 bits hold exactly."""
    generator = np.random.default_rng(seed)
    values = generator.integers(-8000, 8000, round(seconds * RATE))
    return (values / 2**15).astype(np.float32)


def encoded(samples, kind="FLAC", *, rate=RATE, **settings):
    """The bytes of a file."""
    if kind == "M4A":
        return _m4a(samples, rate=rate)
    file = io.BytesIO()
    subtype = {"OPUS": "OPUS", "OGG": "VORBIS"}.get(kind)
    soundfile.write(
        file, samples, rate, format="OGG" if subtype else kind, **{"subtype": subtype} | settings
    )
    return file.getvalue()


def _m4a(samples, *, rate):
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


def spoken(number, *, seconds=1.0, kind="wav"):
    """A sample of a shard, its transcript made of its number."""
    text = f"recording number {number}"
    return {
        kind: encoded(noise(seconds, seed=number), kind.upper()),
        "json": {"text": text, "lang": "en"},
    }


def write_manifest(path, *lines):
    """Write records, or lines as they are."""
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return path


def same(waveform, samples):
    """Whether a waveform holds exactly these samples."""
    return torch.equal(waveform, torch.from_numpy(samples))


def bad_recordings():
    """Files that no training can use, by what is wrong with them."""
    sound = noise(2.0)
    whole = encoded(sound, "WAV")
    poisoned = sound.copy()
    poisoned[500] = np.nan
    return {
        "empty": b"",
        "text": b"these are words, not sound. " * 50,
        "playlist": b"#EXTM3U\n#EXTINF:10,\n/etc/hostname\n",
        "cut": whole[: len(whole) // 2],
        "cut flac": encoded(sound)[:-20_000],
        "silent": encoded(sound[:0], "WAV"),
        "nan": encoded(poisoned, "WAV", subtype="FLOAT"),
    }
