"""Language for the core that reads like speech: words at frame rate, to be repeated or translated.

A frozen core can use of a recording only what it can already do with tokens in its context. So part
of its own training stands in for recordings: the tokens of a sentence, each one to three times,
with fillers around them, as frames of speech come. The filler is the reserved token that is also
the blank of the adapter's start (`multimodal.training.warm_up`).
"""

import json
import random
from pathlib import Path
from typing import Any

from language.chat import encode_dialog
from language.tokenizer import Tokenizer
from multimodal.prompts import SpeechPrompts, spoken_request
from multimodal.world.scenes import Split
from multimodal.world.sentences import LANGUAGES, sample_sentence
from multimodal.world.texts import small_talk

FILLER = "<|reserved_special_token_0|>"
_PROMPTS = SpeechPrompts()


def stand_in(text: str, tokenizer: Tokenizer, rng: random.Random) -> list[int]:
    """Tokens that stand for a recording of ``text``; of nothing but fillers where it is empty."""
    filler = tokenizer.special_tokens[FILLER]
    placed = [filler] * rng.randint(1, 5)
    for token in tokenizer.encode(text):
        placed += [token] * rng.choice((1, 1, 1, 2, 2, 3))
        placed += [filler] * rng.choice((0, 0, 1, 1, 2, 2, 3, 4, 5))
    return placed + [filler] * rng.randint(0 if text else 8, 5 if text else 40)


def hearing_task(
    rng: random.Random, tokenizer: Tokenizer, *, split: Split
) -> tuple[str, dict[str, list[Any]]]:
    """A dialogue about a stand-in, as tokens, and the name of what is asked in it."""
    chance = rng.random()
    if chance < 0.05:
        language, prompts = rng.choice(list(LANGUAGES.values())), _PROMPTS
        prompt = rng.choice((prompts.transcribe, prompts.translate, prompts.identify))
        return "nothing", _encoded("", prompt.format(language=language), "", tokenizer, rng)
    if chance < 0.10:
        question, answer, *_ = small_talk(rng)
        said = question["content"]
        assert isinstance(said, list) and isinstance(answer["content"], str)
        return "talk", _encoded(said[0]["text"], None, answer["content"], tokenizer, rng)
    sentence = sample_sentence(rng, split=split)
    spoken, other = rng.sample(list(LANGUAGES), 2)
    text = sentence.text[spoken]
    if chance < 0.15:
        return "name", _encoded(text, _PROMPTS.identify, LANGUAGES[spoken], tokenizer, rng)
    if chance < 0.45:
        prompt = _PROMPTS.transcribe.format(language=LANGUAGES[spoken])
        return "repeat", _encoded(text, prompt, text, tokenizer, rng)
    prompt = _PROMPTS.translate.format(language=LANGUAGES[other])
    return "translate", _encoded(text, prompt, sentence.text[other], tokenizer, rng)


def hearing_sample(
    rng: random.Random, tokenizer: Tokenizer, *, split: Split
) -> dict[str, list[Any]]:
    """A dialogue about a stand-in, as tokens: repeated, translated, named, or answered."""
    return hearing_task(rng, tokenizer, split=split)[1]


def _encoded(
    spoken: str, prompt: str | None, answer: str, tokenizer: Tokenizer, rng: random.Random
) -> dict[str, list[Any]]:
    dialog = encode_dialog(spoken_request(None, prompt, answer), tokenizer, add_header=False)
    (slot,) = dialog.media
    placed = stand_in(spoken, tokenizer, rng)
    start = dialog.loss_mask.index(True) + len(placed) - 1
    tokens = dialog.tokens[: slot.position] + placed + dialog.tokens[slot.position + 1 :]
    return {"tokens": tokens, "learned": [[start, len(tokens)]]}


def write_hearing(
    directory: Path, tokenizer: Tokenizer, *, split: Split, number: int, seed: int = 0
) -> Path:
    """Write samples as ``hearing-SPLIT.jsonl``, a function of the arguments alone."""
    directory.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"hearing {split} {seed}")
    file = directory / f"hearing-{split}.jsonl"
    with file.open("w") as out:
        for _ in range(number):
            out.write(json.dumps(hearing_sample(rng, tokenizer, split=split)) + "\n")
    return file
