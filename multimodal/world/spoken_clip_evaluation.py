"""The tiny model on held-out clips that it watches and hears at once.

`python -m multimodal.world.spoken_clip_evaluation` draws clips of combinations that no model has
seen, in which held-out voices say held-out sentences. What is seen is asked with the sound and
without; what is said is asked of the sound alone, of clip and sound, and, as a control, of clip and
another clip's sound. Whoever attends to the right thing answers as well with both as with one.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from language.errors import InputError
from multimodal.assistant import Assistant, load
from multimodal.processor import Message
from multimodal.prompts import SpeechPrompts
from multimodal.rows import FrameTiles
from multimodal.world.acoustics import SAMPLE_RATE
from multimodal.world.clip_shards import spoken_evaluation_clips
from multimodal.world.sentences import LANGUAGES
from multimodal.world.speech_evaluation import Row, error_rate, markdown, share, word_errors
from multimodal.world.texts import Question
from speech.audio import read_audio

SEEN, SAID = "what is seen, in clips with speech", "what is said, word error rate"
_LONGEST = 60.0


@dataclass(frozen=True, kw_only=True)
class SpokenClip:
    """A clip, ready to be shown, and what is known of it."""

    frames: FrameTiles
    sound: Any
    """Samples and rate."""
    questions: list[Question]
    text: str
    language: str
    """Code."""


def evaluate(
    assistant: Assistant, *, number: int, seed: int, shapes_only: bool = False
) -> dict[str, list[Row]]:
    """Both tables, by their titles.

    Args:
        assistant: the model.
        number: clips.
        seed: of the clips and of what is asked.
        shapes_only: leave out things, which need the emoji set.

    Raises:
        InputError: the model lacks ears or eyes, or there is one clip only.
    """
    if number < 2:
        raise InputError("--number", "exchanging sounds takes two or more")
    clips = list(_clips(assistant, number=number, seed=seed, shapes_only=shapes_only))
    tables = defaultdict(list)
    asked = [(clip, question) for clip in clips for question in clip.questions]
    for title, sound in (("seen alone", False), ("seen and heard", True)):
        answers = assistant.answer_all(
            _user(clip, question.text, sound=clip.sound if sound else None)
            for clip, question in asked
        )
        right = [given == q.answer for given, (_, q) in zip(answers, asked, strict=True)]
        for frames in ("several", "one"):
            of_kind = [r for r, (_, q) in zip(right, asked, strict=True) if q.frames == frames]
            if of_kind:
                words = "one frame" if frames == "one" else "several frames"
                tables[SEEN].append(share(f"{title}, {words}", of_kind))
    prompts = assistant.model.config.speech_prompts
    others = [*clips[1:], clips[0]]
    for title, requests in {
        "heard alone": [_request(clip, prompts, sound=clip.sound, seen=False) for clip in clips],
        "seen and heard": [_request(clip, prompts, sound=clip.sound) for clip in clips],
        "another clip's sound": [
            _request(clip, prompts, sound=other.sound)
            for clip, other in zip(clips, others, strict=True)
        ],
    }.items():
        texts = assistant.answer_all(requests)
        errors = [word_errors(clip.text, text) for clip, text in zip(clips, texts, strict=True)]
        tables[SAID].append(error_rate(title, errors))
    return dict(tables)


def _clips(
    assistant: Assistant, *, number: int, seed: int, shapes_only: bool
) -> Iterator[SpokenClip]:
    watcher = assistant.processor.watcher
    if watcher is None:
        raise InputError("--model", "has no video parts")
    drawn = spoken_evaluation_clips("test", number=number, seed=seed, shapes_only=shapes_only)
    for data, questions, spoken in drawn:
        yield SpokenClip(
            frames=watcher(data),
            sound=(read_audio(data, max_seconds=_LONGEST).numpy(), SAMPLE_RATE),
            questions=questions,
            text=spoken["text"],
            language=spoken["lang"],
        )


def _user(clip: SpokenClip, text: str | None, *, sound: Any, seen: bool = True) -> list[Message]:
    """What a user shows, plays and asks; `{"type": "video", "sound": true}` makes the same row."""
    content: list[dict[str, Any]] = [{"type": "video", "video": clip.frames}] if seen else []
    if sound is not None:
        content.append({"type": "audio", "audio": sound})
    if text is not None:
        content.append({"type": "text", "text": text})
    return [{"role": "user", "content": content}]


def _request(
    clip: SpokenClip, prompts: SpeechPrompts, *, sound: Any, seen: bool = True
) -> list[Message]:
    """The wish for a transcript."""
    prompt = prompts.transcribe.format(language=LANGUAGES[clip.language])
    return [{"role": "system", "content": prompt}, *_user(clip, None, sound=sound, seen=seen)]


def main() -> None:
    """Read the command line, evaluate and print."""
    parser = argparse.ArgumentParser(
        prog="python -m multimodal.world.spoken_clip_evaluation", description=__doc__
    )
    parser.add_argument("--model", default="tiny", help="directory of a model")
    parser.add_argument("--core", help="directory of the model that video parts alone belong to")
    parser.add_argument("--number", type=int, default=300, help="held-out clips")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shapes-only", action="store_true", help="no things, no emoji set")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    try:
        assistant = load(options.model, core=options.core)
        tables = evaluate(
            assistant,
            number=options.number,
            seed=options.seed,
            shapes_only=options.shapes_only,
        )
    except InputError as error:
        parser.error(str(error))
    if options.json:
        plain = {title: [asdict(row) for row in rows] for title, rows in tables.items()}
        options.json.write_text(json.dumps(plain, indent=1) + "\n")
    print(markdown(tables, counted="asked"))


if __name__ == "__main__":
    main()
