"""Spoken sentences with their phones and measures: what the tiny prosody model learns from.

`python -m multimodal.world.prosody_corpus --number 4000 --out DIR` writes ``prosody-train.jsonl``
and ``prosody-validation.jsonl``, lines of :mod:`speech.prosody.corpus`. With ``--recordings`` the
sound goes there too, as a folder that `python -m speech.prosody.corpus` measures to the same.

A sentence of :mod:`multimodal.world.prosody_sentences` is said by one of four espeak-ng voices, the
speakers, from SSML whose prosody elements bend the words that are marked. espeak-ng tells when each
phone of it starts; durations are those times, F0 and power are measured from the sound. The phones
that the model reads are those that the lexicon gives for the words alone, which know nothing of the
marks; a sentence that is said with others is left out.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import soundfile

from multimodal.world.lexicon import WordSplit
from multimodal.world.prosody_sentences import ProsodySentence, sentences
from speech.espeak import Utterance, synthesise
from speech.prosody.corpus import MeasuredText, words_in
from speech.prosody.measures import measure
from speech.prosody.phones import EspeakLexicon, ProsodyPhone, Word

SPEAKERS = ("en-us", "en-us+f2", "en-us+m3", "en-us+Alicia")
"""Voices by speaker number."""
_SHORTEST = 0.01


def phrases(words: tuple[Word, ...]) -> Iterator[tuple[int, tuple[Word, ...]]]:
    """Words up to each mark, as a speaker reads them, and the number of the first."""
    first = 0
    for index, word in enumerate(words):
        if word.after or index + 1 == len(words):
            yield first, words[first : index + 1]
            first = index + 1


def read_phones(words: tuple[Word, ...], voice: str) -> list[ProsodyPhone]:
    """The phones of words as they are known before they are spoken, phrase by phrase."""
    lexicon = EspeakLexicon(voice)
    return [
        phone for first, part in phrases(words) for phone in lexicon.phones(part, first_word=first)
    ]


def recorded(
    sentence: ProsodySentence, *, speaker: int, name: str
) -> tuple[MeasuredText, Utterance] | None:
    """A sentence as a speaker says it; None if its phones are not those of the lexicon."""
    voice = SPEAKERS[speaker]
    ssml, _ = sentence.ssml()
    said = synthesise(ssml, voice, ssml=True)
    words = words_in(sentence.text)
    phones = read_phones(words, voice)
    symbols = [phone.symbol.lstrip("ˈˌ") for phone in said.phones]
    spans = [(phone.start_seconds, phone.end_seconds) for phone in said.phones]
    if symbols != [phone.symbol for phone in phones] or any(e - s < _SHORTEST for s, e in spans):
        return None
    found = measure(said.samples, said.rate, spans)
    measures = tuple((float(d), float(f), float(p)) for d, f, p in found)
    text = MeasuredText(name, sentence.text, words, tuple(phones), measures, speaker)
    return text, said


def recordings(
    *, split: WordSplit, seed: int
) -> Iterator[tuple[ProsodySentence, MeasuredText, Utterance]]:
    """Sentences of a split, spoken by one speaker after the other, without end."""
    for number, sentence in enumerate(sentences(split=split, seed=seed)):
        made = recorded(sentence, speaker=number % len(SPEAKERS), name=f"{split}-{number:06d}")
        if made is not None:
            yield sentence, *made


def write_recording(folder: Path, text: MeasuredText, said: Utterance) -> None:
    """Write ``.wav``, ``.txt``, ``.phones`` and ``.json`` of a sentence."""
    soundfile.write(folder / f"{text.name}.wav", said.samples, said.rate, subtype="FLOAT")
    (folder / f"{text.name}.txt").write_text(text.text)
    (folder / f"{text.name}.json").write_text(json.dumps({"speaker": text.speaker}))
    lines = [
        f"{('', 'ˌ', 'ˈ')[phone.stress]}{phone.symbol} {heard.start_seconds:.6f} "
        f"{heard.end_seconds:.6f} {phone.word}\n"
        for phone, heard in zip(text.phones, said.phones, strict=True)
    ]
    (folder / f"{text.name}.phones").write_text("".join(lines))


def main(words: list[str] | None = None) -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(
        prog="python -m multimodal.world.prosody_corpus", description=__doc__
    )
    parser.add_argument("--number", type=int, default=4000, help="sentences to train on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recordings", type=Path, help="folder for the sound of all of them")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    parts: dict[WordSplit, int] = {"train": options.number, "validation": options.number // 10}
    options.out.mkdir(parents=True, exist_ok=True)
    for split, number in parts.items():
        with (options.out / f"prosody-{split}.jsonl").open("w", encoding="utf-8") as file:
            made = recordings(split=split, seed=options.seed)
            for _, text, said in islice(made, number):
                file.write(text.line() + "\n")
                if options.recordings is not None:
                    options.recordings.mkdir(parents=True, exist_ok=True)
                    write_recording(options.recordings, text, said)


if __name__ == "__main__":
    main()
