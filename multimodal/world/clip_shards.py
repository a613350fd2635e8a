"""Clips as training data and as files to look at.

A sample is ``KEY.mp4|webm|mkv`` and ``KEY.json``: several dialogues about the clip. Where somebody
speaks in it, ``spoken`` says what, in which language and voice.
"""

import json
import multiprocessing
import random
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from multimodal.world.clip_rendering import encode
from multimodal.world.clip_texts import clip_caption, clip_dialogues, clip_questions
from multimodal.world.clips import ClipScene, sample_clip
from multimodal.world.scenes import Split
from multimodal.world.texts import Question
from multimodal.world.utterances import UtteranceSplit, add_member, sample_utterance

SHARD_SIZE = 1000
_VOICES: dict[Split, UtteranceSplit] = {
    "train": "train",
    "validation": "validation",
    "test": "test-unseen",
}
"""What is said in the clips of a split, and by whom."""


def write_clips(
    directory: Path,
    *,
    split: Split,
    number: int,
    seed: int = 0,
    shapes_only: bool = False,
    spoken: bool = False,
    workers: int = 2,
    shard_size: int = SHARD_SIZE,
) -> list[Path]:
    """Write shards of clips with dialogues.

    Args:
        directory: made if it is not there.
        split: what the clips are drawn from.
        number: clips.
        seed: of everything random; a shard is a function of split, seed and its own number.
        shapes_only: leave out the things that need the emoji set.
        spoken: whether somebody speaks in them, which needs the extra ``speak``.
        workers: processes that write shards; 0 writes them in this one.
        shard_size: clips in a shard.

    Returns:
        The shards, ``clips-SPLIT-00000.tar`` or ``spoken-clips-SPLIT-00000.tar`` and on.
    """
    directory.mkdir(parents=True, exist_ok=True)
    keys = [range(start, min(start + shard_size, number)) for start in range(0, number, shard_size)]
    write_shard = partial(_write_shard, directory, split, seed, shapes_only, spoken)
    if not workers or len(keys) == 1:
        return [write_shard(*shard) for shard in enumerate(keys)]
    # Forked workers could inherit a lock that a thread of this process holds.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        return list(pool.map(write_shard, range(len(keys)), keys))


def write_clip_files(
    directory: Path,
    *,
    split: Split,
    number: int,
    seed: int = 0,
    shapes_only: bool = False,
    spoken_share: float = 0.0,
) -> None:
    """Write clips, and what can be said and asked about each as ``clips.json``."""
    directory.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"clip files {split} {seed}")
    said = {}
    for index in range(number):
        clip = sample_clip(rng, split=split, shapes_only=shapes_only)
        suffix, data, spoken = _film(clip, rng, split=split, spoken_share=spoken_share)
        name = f"{index:02d}.{suffix}"
        (directory / name).write_bytes(data)
        asked = {question.text: question.answer for question in clip_questions(clip, rng)}
        said[name] = {"caption": clip_caption(clip), "questions": asked} | spoken
    (directory / "clips.json").write_text(
        json.dumps(said, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def evaluation_clips(
    split: Split, *, number: int, seed: int, shapes_only: bool = False
) -> Iterator[tuple[bytes, list[Question], str]]:
    """Draw clips as files, with all that is asked about each and its caption."""
    rng = random.Random(f"clip evaluation {split} {seed}")
    for _ in range(number):
        clip = sample_clip(rng, split=split, shapes_only=shapes_only)
        _, data = encode(clip, rng)
        yield data, clip_questions(clip, rng), clip_caption(clip)


def spoken_evaluation_clips(
    split: Split, *, number: int, seed: int, shapes_only: bool = False
) -> Iterator[tuple[bytes, list[Question], dict[str, Any]]]:
    """Draw clips in which somebody speaks, with all that is asked about each and what is said."""
    rng = random.Random(f"spoken clip evaluation {split} {seed}")
    for _ in range(number):
        clip = sample_clip(rng, split=split, shapes_only=shapes_only)
        _, data, said = _film(clip, rng, split=split, spoken_share=1.0)
        yield data, clip_questions(clip, rng), said["spoken"]


def _film(
    clip: ClipScene, rng: random.Random, *, split: Split, spoken_share: float
) -> tuple[str, bytes, dict[str, Any]]:
    """Suffix and bytes of a clip's file, and what is said in it, if anything."""
    if rng.random() >= spoken_share:
        return *encode(clip, rng), {}
    waveform, record = sample_utterance(rng, split=_VOICES[split])
    spoken = {key: record[key] for key in ("text", "lang", "translations", "voice")}
    return *encode(clip, rng, sound=waveform), {"spoken": spoken}


def _write_shard(
    directory: Path,
    split: Split,
    seed: int,
    shapes_only: bool,
    spoken: bool,
    shard: int,
    keys: range,
) -> Path:
    content = "spoken-clips" if spoken else "clips"
    rng = random.Random(f"{content} {split} {seed} {shard}")
    file = directory / f"{content}-{split}-{shard:05d}.tar"
    with tarfile.open(file, "w") as archive:
        for key in keys:
            clip = sample_clip(rng, split=split, shapes_only=shapes_only)
            suffix, data, said = _film(clip, rng, split=split, spoken_share=float(spoken))
            words = random.Random(f"clip texts {split} {seed} {key}")  # a wording changes no clip
            record = {"dialogues": clip_dialogues(clip, words, spoken=said.get("spoken"))} | said
            add_member(archive, f"{key:07d}.{suffix}", data)
            add_member(archive, f"{key:07d}.json", json.dumps(record, ensure_ascii=False).encode())
    return file
