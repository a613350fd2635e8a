"""`openherd speak "text" -o out.wav`: read a text aloud."""

import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from language.errors import InputError
from multimodal.cli import complain
from multimodal.commands.options import new_parser, parse

if TYPE_CHECKING:
    from speech.speaker import Phrase

MAX_CHARACTERS = 1 << 16
"""Longest text: more than an hour of speech."""


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status."""
    parser = new_parser("speak", "Read a text aloud, with rhythm and pitch that follow its sense.")
    parser.add_argument("text", type=str, help="the text, in quotes; - reads standard input")
    parser.add_argument("-o", "--out", type=str, help="write the sound here, as WAV")
    parser.add_argument("--plot", type=str, help="write here, as PNG, what each phone is said like")
    parser.add_argument(
        "--speaker", type=str, help="directory of a speaker; the one that ships by default"
    )
    parser.add_argument("--voice", type=str, help="voice of the synthesizer, such as en-gb-x-rp+f3")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parse(parser, words)
    for option, target, suffix in (
        ("--out", options.out, ".wav"),
        ("--plot", options.plot, ".png"),
    ):
        if target is not None and Path(target).suffix.lower() != suffix:
            raise InputError(target, f"{option} writes {suffix[1:].upper()}: end the name so")
        if target is not None and not Path(target).resolve().parent.is_dir():
            raise InputError(target, "the folder does not exist")
    text = sys.stdin.read(MAX_CHARACTERS + 1) if options.text == "-" else options.text
    if len(text) > MAX_CHARACTERS:
        raise InputError("text", f"longer than {MAX_CHARACTERS:,} characters")

    from multimodal.speaking import open_speaker
    from speech.speaker import Phrase, WavFile

    speaker = open_speaker(options.speaker, voice=options.voice)
    begun, first, phrases = time.perf_counter(), None, list[Phrase]()
    sound = WavFile(options.out, rate=speaker.synthesizer.rate) if options.out else nullcontext()
    with sound as out:
        for phrase in speaker.stream([text]):
            first = first or time.perf_counter() - begun
            for span in phrase.spans:
                if span.remark:
                    complain(f"{span.written!r}: {span.remark}")
            if out is not None:
                out.write(phrase.samples)
            phrases.append(phrase)
    taken = time.perf_counter() - begun
    if not phrases:
        raise InputError("text", "holds nothing that could be said")
    if options.plot is not None:
        _plot(phrases, text, Path(options.plot))
    said = " ".join(word.text + word.after for phrase in phrases for word in phrase.words)
    if options.json:
        seconds = sum(len(phrase.samples) / phrase.rate for phrase in phrases)
        found = {
            "said": said,
            "seconds": round(seconds, 3),
            "first_sound_seconds": round(first or 0.0, 3),
            "real_time_factor": round(taken / seconds, 3),
            "spans": [
                {"written": span.written, "said": span.said, "rule": span.rule}
                for phrase in phrases
                for span in phrase.spans
            ],
        }
        print(json.dumps(found, ensure_ascii=False))
    else:
        print(said)
    return 0


def _plot(phrases: Sequence["Phrase"], text: str, file: Path) -> None:
    """Draw what the model says of each phone beside what the sound became."""
    from speech.prosody.corpus import MeasuredText
    from speech.prosody.measures import measure
    from speech.prosody.plots import draw

    heard = []
    for phrase in phrases:
        ends = np.cumsum(np.exp(phrase.measures[:, 0].double().numpy()))
        spans = list(zip([0.0, *ends[:-1]], ends, strict=True))
        heard.append(measure(phrase.samples, phrase.rate, spans))
    measured = MeasuredText(
        name=str(file),
        text=text,
        words=tuple(word for phrase in phrases for word in phrase.words),
        phones=tuple(phone for phrase in phrases for phone in phrase.phones),
        measures=tuple(tuple(row) for row in np.concatenate(heard).tolist()),
    )
    draw(measured, np.concatenate([phrase.measures.numpy() for phrase in phrases]), file)
