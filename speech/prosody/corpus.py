"""Recordings with the times of their phones, measured: what the prosody model learns from.

`python -m speech.prosody.corpus FOLDER OUT.jsonl` reads a folder of ``KEY.wav`` or ``KEY.flac``,
``KEY.txt`` (the words that are said, with punctuation), and ``KEY.TextGrid`` or ``KEY.phones``
(:mod:`speech.prosody.textgrid`); ``KEY.json`` may give the numbers of ``{"speaker": 0, "style":
0}``. Each recording becomes a line of JSON with its words, phones and measures. Broken ones are
named and skipped, and the exit status is then 2. Printed are the measures' means and spreads, which
the training's config names.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from torch import Tensor, tensor

from language.errors import InputError
from speech.prosody.measures import measure
from speech.prosody.phones import PUNCTUATION, ProsodyPhone, Word, split_stress
from speech.prosody.textgrid import read_alignment

SOUNDS = (".wav", ".flac")
_WORD = re.compile(r"\w+(?:['’\-]\w+)*")
_QUOTES = '"“”'


@dataclass(frozen=True)
class MeasuredText:
    """A text and how it was spoken."""

    name: str
    """Where it is, for whoever has to repair it."""
    text: str
    words: tuple[Word, ...]
    phones: tuple[ProsodyPhone, ...]
    measures: tuple[tuple[float, float, float], ...]
    """Log duration, log F0 (NaN where there is no voice) and log power of each phone."""
    speaker: int = 0
    style: int = 0

    def targets(self) -> Tensor:
        """The measures, [phones, 3]."""
        return tensor(self.measures).view(-1, 3)

    def line(self) -> str:
        """As a line of JSON."""
        measures = [
            [None if math.isnan(value) else round(value, 4) for value in row]
            for row in self.measures
        ]
        words = [[word.text, word.end, word.after, word.is_quoted] for word in self.words]
        phones = [[phone.symbol, phone.stress, phone.word] for phone in self.phones]
        record = {
            "name": self.name,
            "text": self.text,
            "words": words,
            "phones": phones,
            "measures": measures,
            "speaker": self.speaker,
            "style": self.style,
        }
        return json.dumps(record, ensure_ascii=False)

    @classmethod
    def of_line(cls, line: str, *, source: str | Path) -> "MeasuredText":
        """Read what :meth:`line` wrote.

        Raises:
            InputError: ``source`` has something else there.
        """
        try:
            record = json.loads(line)
            found = cls(
                str(record["name"]),
                str(record["text"]),
                tuple(Word(str(t), int(e), str(a), bool(q)) for t, e, a, q in record["words"]),
                tuple(ProsodyPhone(str(s), int(t), int(w)) for s, t, w in record["phones"]),
                tuple(
                    (float(d), math.nan if f is None else float(f), float(p))
                    for d, f, p in record["measures"]
                ),
                int(record["speaker"]),
                int(record["style"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(source, f"not a measured text ({error!r})") from None
        numbers = [phone.word for phone in found.phones]
        if len(found.measures) != len(numbers) or not numbers:
            raise InputError(source, f"{len(numbers)} phones and {len(found.measures)} measures")
        if sorted(numbers) != numbers or not 0 <= numbers[0] <= numbers[-1] < len(found.words):
            raise InputError(source, "the phones are not those of the words, in order")
        return found


def words_in(text: str) -> tuple[Word, ...]:
    """The words of a text that is written as it is said."""
    matches, is_quoted, words, at = [*_WORD.finditer(text)], False, [], 0
    for number, match in enumerate(matches):
        is_quoted ^= sum(text.count(mark, at, match.start()) for mark in _QUOTES) % 2 == 1
        at = match.end()
        following = matches[number + 1].start() if number + 1 < len(matches) else len(text)
        mark = next((c for c in text[at:following] if c in PUNCTUATION), "")
        end = at + (text[at : at + 1] == mark != "")
        words.append(Word(match[0], end, mark, is_quoted))
    return tuple(words)


def read_recording(sound: Path) -> MeasuredText:
    """A recording of a corpus folder, measured.

    Raises:
        InputError: a file is missing or broken, or they do not belong together; names the file.
    """
    alignment = next(
        (f for f in map(sound.with_suffix, (".TextGrid", ".phones")) if f.exists()), None
    )
    if alignment is None:
        raise InputError(sound, "there is neither a .TextGrid nor a .phones beside it")
    timed = read_alignment(alignment)
    try:
        text = sound.with_suffix(".txt").read_text(encoding="utf-8").strip()
        samples, rate = soundfile.read(sound, dtype="float32", always_2d=True)
    except (OSError, UnicodeDecodeError, soundfile.LibsndfileError) as error:
        raise InputError(sound, f"cannot be read with its .txt ({error})") from None
    words = words_in(text)
    if len(words) != timed[-1].word + 1:
        fault = f"{timed[-1].word + 1} words, {sound.with_suffix('.txt').name} has {len(words)}"
        raise InputError(alignment, fault)
    seconds = len(samples) / rate
    if timed[-1].end > seconds + 0.05:
        fault = f"phones until {timed[-1].end:g} s, the recording has {seconds:g} s"
        raise InputError(alignment, fault)
    found = measure(samples.mean(axis=1), rate, [(phone.start, phone.end) for phone in timed])
    labels = _labels(sound.with_suffix(".json"))
    return MeasuredText(
        sound.stem,
        text,
        words,
        tuple(split_stress(phone.symbol, phone.word) for phone in timed),
        tuple((float(d), float(f), float(p)) for d, f, p in found),
        labels["speaker"],
        labels["style"],
    )


def read_measured(file: Path) -> Iterator[MeasuredText]:
    """The measured texts of a file, one a line.

    Raises:
        InputError: the file cannot be read, or a line is none.
    """
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield MeasuredText.of_line(line, source=f"{file}:{number}")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(file, f"cannot be read ({error})") from None


def spread(texts: Sequence[MeasuredText]) -> tuple[list[float], list[float]]:
    """Means and standard deviations of the three measures, as the model's config wants them."""
    values = np.array([row for text in texts for row in text.measures])
    means, spreads = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    return [round(float(v), 3) for v in means], [round(float(v), 3) for v in spreads]


def _labels(file: Path) -> dict[str, int]:
    if not file.exists():
        return {"speaker": 0, "style": 0}
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        found = {name: int(record.get(name, 0)) for name in ("speaker", "style")}
    except (ValueError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise InputError(file, f"want numbers of speaker and style ({error})") from None
    if min(found.values()) < 0:
        raise InputError(file, "speaker and style are numbers from 0")
    return found


def main(words: list[str] | None = None) -> int:
    """Read the command line, measure, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m speech.prosody.corpus", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args(words)
    files = [*options.folder.glob("*")] if options.folder.is_dir() else []
    sounds = sorted(file for file in files if file.suffix.lower() in SOUNDS)
    if not sounds:
        print(f"{options.folder}: no {' or '.join(SOUNDS)} there", file=sys.stderr)
        return 2
    status, texts = 0, []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", encoding="utf-8") as out:
        for sound in sounds:
            try:
                texts.append(read_recording(sound))
                out.write(texts[-1].line() + "\n")
            except InputError as error:
                print(error, file=sys.stderr)
                status = 2
    if texts:
        print("means: {}\nspreads: {}".format(*spread(texts)))
    return status


if __name__ == "__main__":
    sys.exit(main())
