"""The tiny model on sentences that it has never heard, in voices that it knows and in others.

`python -m multimodal.world.speech_evaluation` draws held-out sentences, lets voices say them, and
prints word error rates by language and by voice with 95 % intervals (bootstrap over recordings),
the share of translations that are right to the last letter (Wilson), what the core alone makes of
stand-ins for recordings, and the controls: recordings exchanged, and what is made of silence,
noise, tones and music.
"""

import argparse
import json
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jiwer
import numpy as np
import torch

from language.errors import InputError
from multimodal.assistant import Assistant, load
from multimodal.prompts import spoken_request
from multimodal.world.acoustics import SAMPLE_RATE, Waveform
from multimodal.world.evaluation import wilson
from multimodal.world.hearing import hearing_task
from multimodal.world.sentences import LANGUAGES
from multimodal.world.utterances import UtteranceSplit, sample_no_speech, sample_utterance

SPLITS: dict[str, UtteranceSplit] = {"seen voices": "test-seen", "held-out voices": "test-unseen"}
_NUM_RESAMPLED = 2000


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the figures."""

    what: str
    number: int
    """Recordings."""
    value: float
    """Word error rate, or share that is right."""
    low: float
    """Lower end of the 95 % interval."""
    high: float


@dataclass(frozen=True, kw_only=True)
class Said:
    """A recording and what is known of it."""

    waveform: Waveform
    text: str
    language: str
    """Code."""
    voice: str
    translations: dict[str, str]


def evaluate(assistant: Assistant, *, number: int, seed: int) -> dict[str, list[Row]]:
    """All tables, by their titles.

    Args:
        assistant: the model.
        number: recordings of either kind of voices.
        seed: of everything drawn.
    """
    tables: dict[str, list[Row]] = defaultdict(list)
    for title, split in SPLITS.items():
        rng = random.Random(f"speech evaluation {split} {seed}")
        said = [_said(rng, split) for _ in range(number)]
        heard = _transcribed(assistant, said, [each.waveform for each in said])
        errors = [word_errors(each.text, text) for each, text in zip(said, heard, strict=True)]
        tables["word error rate"] += _by(title, errors, [LANGUAGES[s.language] for s in said])
        if split == "test-unseen":
            names = [f"{s.language} {s.voice}" for s in said]
            tables["word error rate of each held-out voice"] += _by("", errors, names)[:-1]
        tables["translation, exact"] += _translations(assistant, said, title, rng)
        named = _identified(assistant, said)
        right = [LANGUAGES[s.language] == name for s, name in zip(said, named, strict=True)]
        tables["language named"].append(share(title, right))
        exchanged = _transcribed(assistant, said, [s.waveform for s in [*said[1:], said[0]]])
        errors = [word_errors(s.text, text) for s, text in zip(said, exchanged, strict=True)]
        tables["controls"].append(error_rate(f"word error rate, exchanged, {title}", errors))
    rng = random.Random(f"speech evaluation none {seed}")
    silent: dict[str, list[bool]] = defaultdict(list)
    for _ in range(max(1, number // 5)):
        waveform, record = sample_no_speech(rng)
        kind = str(record.get("kind", "silence, noise, tones, music"))
        silent[kind].append(assistant.transcribe((waveform, SAMPLE_RATE)).text == "")
    tables["controls"] += [share(f"no text: {kind}", right) for kind, right in silent.items()]
    tables["written: the core alone on stand-ins"] = _written(assistant, number=number, seed=seed)
    return dict(tables)


@torch.inference_mode()
def _written(assistant: Assistant, *, number: int, seed: int) -> list[Row]:
    """Whether each token of the answer is the likeliest after those before it, by task."""
    rng, tokenizer = random.Random(f"written {seed}"), assistant.processor.tokenizer
    right: dict[str, list[bool]] = defaultdict(list)
    for _ in range(number):
        task, sample = hearing_task(rng, tokenizer, split="test")
        tokens = torch.tensor(
            sample["tokens"], device=assistant.model.language.embedding.weight.device
        )
        ((first, stop),) = sample["learned"]
        likeliest = assistant.model.language(tokens[None])[0].argmax(dim=-1)
        right[task].append(bool((likeliest[first - 1 : stop - 1] == tokens[first:stop]).all()))
    return [share(task, right[task]) for task in sorted(right)]


def word_errors(reference: str, heard: str) -> tuple[int, int]:
    """Words put in, left out or replaced, and words that were said; case and marks don't count."""
    found = jiwer.process_words(words(reference), words(heard))
    errors = found.substitutions + found.deletions + found.insertions
    return errors, found.hits + found.substitutions + found.deletions


def words(text: str) -> str:
    """The words of a text in lower case, without marks."""
    return " ".join(re.findall(r"\w+", text.lower()))


def _said(rng: random.Random, split: UtteranceSplit) -> Said:
    waveform, record = sample_utterance(rng, split=split)
    return Said(
        waveform=waveform,
        text=record["text"],
        language=record["lang"],
        voice=record["voice"],
        translations=record["translations"],
    )


def _transcribed(
    assistant: Assistant, said: Sequence[Said], waveforms: Sequence[Waveform]
) -> list[str]:
    prompt = assistant.model.config.speech_prompts.transcribe
    return assistant.answer_all(
        spoken_request((waveform, SAMPLE_RATE), prompt.format(language=LANGUAGES[s.language]))
        for s, waveform in zip(said, waveforms, strict=True)
    )


def _translations(
    assistant: Assistant, said: Sequence[Said], title: str, rng: random.Random
) -> list[Row]:
    prompt = assistant.model.config.speech_prompts.translate
    targets = [rng.choice(sorted(s.translations)) for s in said]
    answers = assistant.answer_all(
        spoken_request((s.waveform, SAMPLE_RATE), prompt.format(language=target))
        for s, target in zip(said, targets, strict=True)
    )
    right: dict[str, list[bool]] = defaultdict(list)
    for s, target, answer in zip(said, targets, answers, strict=True):
        right[f"{LANGUAGES[s.language]} to {target}"].append(answer == s.translations[target])
    rows = [share(f"{title}, {pair}", right[pair]) for pair in sorted(right)]
    return [*rows, share(f"{title}, all", [each for found in right.values() for each in found])]


def _identified(assistant: Assistant, said: Sequence[Said]) -> list[str]:
    prompt = assistant.model.config.speech_prompts.identify
    return assistant.answer_all(spoken_request((s.waveform, SAMPLE_RATE), prompt) for s in said)


def _by(title: str, errors: Sequence[tuple[int, int]], groups: Sequence[str]) -> list[Row]:
    """A row for each group, and one for all."""
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for error, group in zip(errors, groups, strict=True):
        found[group].append(error)
    lead = f"{title}, " if title else ""
    rows = [error_rate(f"{lead}{group}", found[group]) for group in sorted(found)]
    return [*rows, error_rate(f"{lead}all", errors)]


def error_rate(what: str, errors: Sequence[tuple[int, int]]) -> Row:
    """Word error rate over recordings, of errors and words of each; bootstrap interval."""
    counts = np.array(errors)
    drawn = np.random.default_rng(0).integers(len(counts), size=(_NUM_RESAMPLED, len(counts)))
    sums = counts[drawn].sum(axis=1)
    low, high = np.percentile(sums[:, 0] / sums[:, 1], (2.5, 97.5))
    value = counts[:, 0].sum() / counts[:, 1].sum()
    return Row(what=what, number=len(counts), value=value, low=float(low), high=float(high))


def share(what: str, right: Sequence[bool]) -> Row:
    """Share of answers that are right; Wilson's interval."""
    low, high = wilson(sum(right), len(right))
    return Row(what=what, number=len(right), value=sum(right) / len(right), low=low, high=high)


def markdown(tables: dict[str, list[Row]], *, counted: str = "recordings") -> str:
    """The tables as Markdown; ``counted`` is what stands in rows."""
    lines = []
    for title, rows in tables.items():
        lines += [f"| {title} | {counted} | | 95 % interval |", "|---|---|---|---|"]
        lines += [
            f"| {row.what} | {row.number} | {row.value:.1%} | {row.low:.1%} to {row.high:.1%} |"
            for row in rows
        ]
        lines.append("")
    return "\n".join(lines).rstrip()


def main() -> None:
    """Read the command line, evaluate and print."""
    parser = argparse.ArgumentParser(
        prog="python -m multimodal.world.speech_evaluation", description=__doc__
    )
    parser.add_argument("--model", default="tiny", help="directory of a model, or of speech parts")
    parser.add_argument("--core", help="directory of the model that speech parts belong to")
    parser.add_argument("--number", type=int, default=600, help="recordings of either kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    try:
        assistant = load(options.model, core=options.core)
        tables = evaluate(assistant, number=options.number, seed=options.seed)
    except InputError as error:
        parser.error(str(error))
    if options.json:
        plain = {title: [asdict(row) for row in rows] for title, rows in tables.items()}
        options.json.write_text(json.dumps(plain, indent=1) + "\n")
    print(markdown(tables))


if __name__ == "__main__":
    main()
