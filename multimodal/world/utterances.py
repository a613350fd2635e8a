"""Spoken sentences as training data: WebDataset shards of recordings with what is said in them.

A sample is ``KEY.flac`` (16 kHz, mono, 16 bits) and ``KEY.json``: ``text``, ``lang``,
``translations`` by the name of the language, ``duration`` in seconds and ``voice``. Recordings
without speech, from which a model learns to write nothing, have ``no_speech`` and an empty text.
"""

import io
import json
import multiprocessing
import random
import tarfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import soundfile

from multimodal.world.acoustics import (
    COLOURS,
    Waveform,
    add_noise,
    music_like,
    noise,
    normalise_level,
    resample,
    reverberate,
    silence,
    tone,
)
from multimodal.world.scenes import Split
from multimodal.world.sentences import LANGUAGES, sample_sentence
from multimodal.world.voices import ACCENTS, Voice, speak, voices
from speech.audio import SAMPLE_RATE
from speech.espeak import espeak_paths

UtteranceSplit = Literal["train", "validation", "test-seen", "test-unseen"]
UTTERANCE_SPLITS: tuple[UtteranceSplit, ...] = get_args(UtteranceSplit)
SHARD_SIZE = 2000

_SPLITS: dict[UtteranceSplit, tuple[Split, Split]] = {
    "train": ("train", "train"),
    "validation": ("validation", "train"),
    "test-seen": ("test", "train"),
    "test-unseen": ("test", "test"),
}
"""Which sentences are said, and whose voices say them."""
_NO_SPEECH_SHARE = 0.05  # of training
_RATES, _PITCHES = (135, 205), (38, 62)
_LEVELS = (-32.0, -14.0)
_DIRECT_TO_REVERBERANT_DB = (3.0, 12.0)


def write_utterances(
    directory: Path,
    *,
    split: UtteranceSplit,
    number: int,
    seed: int = 0,
    workers: int = 2,
    shard_size: int = SHARD_SIZE,
) -> list[Path]:
    """Write spoken sentences.

    Args:
        directory: made if it is not there.
        split: which sentences and voices; only training has recordings without speech.
        number: utterances.
        seed: of everything random; a shard is a function of split, seed and its own number.
        workers: processes that write shards; 0 writes them in this one.
        shard_size: utterances in a shard.

    Returns:
        The shards, ``speech-SPLIT-00000.tar`` and on.

    Raises:
        InputError: the extra ``speak`` is not installed.
    """
    espeak_paths()
    directory.mkdir(parents=True, exist_ok=True)
    keys = [range(start, min(start + shard_size, number)) for start in range(0, number, shard_size)]
    write_shard = partial(_write_shard, directory, split, seed)
    if not workers or len(keys) == 1:
        return [write_shard(*shard) for shard in enumerate(keys)]
    # Forked workers could inherit a lock that a thread of this process holds.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        return list(pool.map(write_shard, range(len(keys)), keys))


def write_recordings(directory: Path, *, split: UtteranceSplit, number: int, seed: int = 0) -> None:
    """Write FLAC files, and what is said in each as ``sentences.json``."""
    directory.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"recordings {split} {seed}")
    said = {}
    for index in range(number):
        waveform, record = sample_utterance(rng, split=split)
        name = f"{index:02d}.flac"
        (directory / name).write_bytes(encode_flac(waveform))
        said[name] = record
    (directory / "sentences.json").write_text(
        json.dumps(said, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def sample_utterance(
    rng: random.Random, *, split: UtteranceSplit, voice: Voice | None = None
) -> tuple[Waveform, dict[str, Any]]:
    """Draw a sentence and let it be said.

    Args:
        rng: draws sentence, language, voice, its rate and pitch, the room and the noise.
        split: which sentences and voices.
        voice: who speaks, at a drawn rate and pitch, instead of a drawn one.

    Returns:
        Samples at 16 kHz in [-1, 1], and the record.
    """
    sentences, speakers = _SPLITS[split]
    sentence = sample_sentence(rng, split=sentences)
    if voice is None:
        language = rng.choice(list(ACCENTS))
        voice = rng.choice(voices(language, speakers))
    voice = replace(voice, rate=rng.randint(*_RATES), pitch=rng.randint(*_PITCHES))
    text = sentence.text[voice.language]
    speech = _dry_speech(text, voice)
    waveform, start = _recorded(speech, rng)
    return waveform, {
        "text": text,
        "lang": voice.language,
        "translations": {
            LANGUAGES[other]: wording
            for other, wording in sentence.text.items()
            if other != voice.language
        },
        "duration": _duration(waveform),
        "speech": [round(start, 3), round(start + _duration(speech), 3)],
        "voice": voice.name,
    }


def sample_no_speech(rng: random.Random) -> tuple[Waveform, dict[str, Any]]:
    """Draw a recording in which nobody speaks: silence, noise, a tone or something like music."""
    generator = np.random.default_rng(rng.getrandbits(64))
    seconds = rng.uniform(0.6, 4.0)
    kind = rng.choice(("silence", "noise", "tone", "music"))
    if kind == "silence":
        waveform = silence(seconds)
        if rng.random() < 0.5:  # a microphone in a still room
            hiss = noise(seconds, rng=generator, colour=rng.choice(COLOURS))
            waveform = normalise_level(hiss, level=rng.uniform(-75, -50))
    else:
        if kind == "noise":
            waveform = noise(seconds, rng=generator, colour=rng.choice(COLOURS))
        elif kind == "tone":
            beeps = rng.choice((0.0, rng.uniform(0.5, 4)))
            hertz = 10 ** rng.uniform(2, 3.6)
            waveform = tone(seconds, hz=hertz, harmonics=rng.randint(1, 6), beeps_hz=beeps)
        else:
            waveform = music_like(seconds, rng=generator)
        if rng.random() < 0.5:
            snr = rng.uniform(5, 30)
            colour = rng.choice(COLOURS)
            waveform = add_noise(waveform, snr_db=snr, rng=generator, colour=colour)
        waveform = normalise_level(waveform, level=rng.uniform(-45, -12))
    return waveform, {"no_speech": True, "kind": kind, "text": "", "duration": _duration(waveform)}


def _dry_speech(text: str, voice: Voice) -> Waveform:
    """Speech at 16 kHz, without the still samples that espeak-ng puts around it."""
    waveform, rate = speak(text, voice)
    loud = np.flatnonzero(np.abs(waveform) > 1e-3)
    return resample(waveform[loud[0] : loud[-1] + 1] if len(loud) else waveform, rate=rate)


def _recorded(speech: Waveform, rng: random.Random) -> tuple[Waveform, float]:
    """Speech in a room: pauses around it, now and then an echo, noise or both; some level.

    Returns:
        The recording, and the second at which the speech begins.
    """
    generator = np.random.default_rng(rng.getrandbits(64))
    pauses = [silence(rng.uniform(0.05, 0.3)) for _ in range(2)]
    waveform = np.concatenate([pauses[0], speech, pauses[1]])
    disturbed = rng.choice(("", "", "", "noise", "room", "both"))
    if disturbed in ("room", "both"):
        waveform = reverberate(
            waveform,
            rt60=rng.uniform(0.1, 0.4),
            direct_to_reverberant_db=rng.uniform(*_DIRECT_TO_REVERBERANT_DB),
            rng=generator,
        )
    if disturbed in ("noise", "both"):
        snr, colour = rng.uniform(10, 30), rng.choice(COLOURS)
        waveform = add_noise(waveform, snr_db=snr, rng=generator, colour=colour)
    return normalise_level(waveform, level=rng.uniform(*_LEVELS)), _duration(pauses[0])


def _write_shard(
    directory: Path, split: UtteranceSplit, seed: int, shard: int, keys: range
) -> Path:
    rng = random.Random(f"speech {split} {seed} {shard}")
    file = directory / f"speech-{split}-{shard:05d}.tar"
    with tarfile.open(file, "w") as archive:
        for key in keys:
            if split == "train" and rng.random() < _NO_SPEECH_SHARE:
                waveform, record = sample_no_speech(rng)
            else:
                waveform, record = sample_utterance(rng, split=split)
            add_member(archive, f"{key:07d}.flac", encode_flac(waveform))
            add_member(archive, f"{key:07d}.json", json.dumps(record, ensure_ascii=False).encode())
    return file


def encode_flac(waveform: Waveform) -> bytes:
    """A waveform at 16 kHz as a flac file of 16 bits."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def add_member(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file to a shard."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _duration(waveform: Waveform) -> float:
    return round(len(waveform) / SAMPLE_RATE, 4)
