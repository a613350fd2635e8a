"""What `transcribe` and `translate` share: text as it is written, files, JSON, progress."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse import ArgumentParser, Namespace

from language.errors import InputError
from multimodal.cli import complain
from multimodal.commands.options import (
    add_generation_options,
    add_model_options,
    load_assistant,
)

if TYPE_CHECKING:
    from multimodal.assistant import Assistant
    from multimodal.transcription import Hearing

LONG = 60.0
"""Seconds from which on a recording's progress is told."""


def add_recording_options(parser: ArgumentParser) -> None:
    """Add recordings, model, and what becomes of the text."""
    parser.add_argument(
        "recordings",
        type=str,
        nargs="+",
        help="sound or video files (wav, flac, mp3, ogg, m4a, mp4, ...), or folders of them",
    )
    add_model_options(parser)
    add_generation_options(parser)
    parser.add_argument(
        "--output-format",
        dest="output_format",
        type=Literal["txt", "json", "srt", "vtt", "tsv", "all"],
        help="write the text to a file beside showing it; all writes every format",
    )
    parser.add_argument(
        "--output-dir",
        dest="output_dir",
        type=str,
        default=".",
        help="folder for these files, made if it is not there",
    )
    parser.add_argument(
        "--detector",
        type=Literal["auto", "energy", "silero"],
        default="auto",
        help="what tells speech from silence; auto is silero where it is installed",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a recording")


def hear_each(options: Namespace, *, language: str | None = None, to: str | None = None) -> int:
    """Print what every recording says and return the exit status."""
    from multimodal.transcription import named

    files, num_bad = _expand(options.recordings)
    targets = _targets(files) if options.output_format else {}
    if options.output_format:
        _make_folder(Path(options.output_dir))
    named(language), named(to)  # an unknown language is told before the model is loaded
    assistant = load_assistant(options)
    _set_detector(assistant, options.detector)
    if options.temperature is not None:
        assistant.transcription = replace(assistant.transcription, temperature=options.temperature)
    with_names = len(files) + num_bad > 1
    for file in files:
        hearing = assistant.hearing(file, language=language, to=to)
        try:
            _show(hearing, file, as_json=options.json, with_name=with_names)
        except InputError as error:
            complain(str(error))
            num_bad += 1
        if not (hearing.is_complete or hearing.segments):
            continue
        for remark in hearing.remarks:
            complain(f"{file}: {remark}")
        try:
            if options.output_format:
                _write(hearing, Path(options.output_dir) / targets[file], options.output_format)
        except InputError as error:
            complain(str(error))
            num_bad += 1
    return 2 if num_bad else 0


def _show(hearing: "Hearing", file: str, *, as_json: bool, with_name: bool) -> None:
    """Print a recording's text: piece by piece for people, as one object for programs."""
    from speech.audio import audio_duration

    total, begun, written = audio_duration(file), time.perf_counter(), False
    is_watched = sys.stdout.isatty()  # a person sees text grow; a file gets what is final
    try:
        for piece in hearing.pieces():
            if piece.segment is not None and total >= LONG and (as_json or not is_watched):
                _tell_progress(file, piece.segment.end, total, time.perf_counter() - begun)
            text = piece.text if is_watched else piece.segment.text if piece.segment else ""
            if piece.segment is not None and is_watched:
                text = " " if piece.segment.text else "[no words made out] "
            if as_json or not text:
                continue
            lead = f"{file}: " if with_name else ""
            print(" " if written and not is_watched else "" if written else lead, end="")
            print(text if written else text.lstrip(), end="", flush=True)
            written = True
    finally:  # what was heard before a fault is not lost
        if as_json and (hearing.segments or hearing.is_complete):
            about = hearing.transcript().to_json()
            print(json.dumps({"file": file, **about}, ensure_ascii=False), flush=True)
        elif not as_json and (written or hearing.is_complete):
            nothing = f"{file}: (no speech)" if with_name else "(no speech)"
            print("" if written else nothing, flush=True)


def _tell_progress(file: str, done: float, total: float, seconds: float) -> None:
    if sys.stderr.isatty():
        speed = done / max(seconds, 1e-9)
        told = f"\r{file}: {done:,.0f} of {total:,.0f} s, {speed:.0f} times real time"
        print(told, end="\n" if done >= total - 1 else "", file=sys.stderr, flush=True)


def _write(hearing: "Hearing", stem: Path, wanted: str) -> None:
    from multimodal.subtitles import FORMATS, render

    transcript = hearing.transcript()
    for name in FORMATS if wanted == "all" else (wanted,):
        target = stem.with_name(f"{stem.name}.{name}")
        try:
            target.write_text(render(transcript, name), encoding="utf-8")
        except OSError as error:
            raise InputError(target, f"cannot be written ({error.strerror})") from None


def _targets(files: list[str]) -> dict[str, str]:
    """The name that each recording's texts get.

    Raises:
        InputError: two recordings would write the same file.
    """
    targets: dict[str, str] = {}
    taken: dict[str, str] = {}
    for file in files:
        stem = Path(file).stem
        if stem in taken:
            raise InputError(file, f"its text would overwrite that of {taken[stem]}: same name")
        taken[stem] = file
        targets[file] = stem
    return targets


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, f"cannot be made ({error.strerror})") from None


def _set_detector(assistant: "Assistant", detector: Literal["auto", "energy", "silero"]) -> None:
    cutting = assistant.transcription.segmentation
    voice = replace(cutting.voice_activity, detector=detector)
    assistant.transcription = replace(
        assistant.transcription, segmentation=replace(cutting, voice_activity=voice)
    )


def _expand(paths: list[str]) -> tuple[list[str], int]:
    """List the files behind paths and folders, and count the folders without any."""
    from speech.audio import find_recordings

    files: list[str] = []
    num_bad = 0
    for path in paths:
        try:
            files += [str(file) for file in find_recordings(path)]
        except InputError as error:
            complain(str(error))
            num_bad += 1
    return files, num_bad
