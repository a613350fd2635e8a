"""Write pictures of the world, or training data made of them.

`python -m multimodal.world --split test --number 12 --out DIR` writes pictures that no model has
been trained on, with their captions; `--content` writes shards of captions, shards of dialogues,
things without a word (strangers), language alone, stand-ins for recordings, shards of recordings
(speech), of clips or of clips in which somebody speaks, or files of their own (recordings,
clip-files); `--tokenizer` learns the core's tokens.
"""

import argparse
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from language.tokenizer import train_bpe
from multimodal.prompts import SpeechPrompts
from multimodal.world.clip_shards import write_clip_files, write_clips
from multimodal.world.rendering import draw
from multimodal.world.scenes import SPLITS, Split, sample_scene
from multimodal.world.sentences import LANGUAGES, sample_sentence
from multimodal.world.shards import CONTENTS, language_sample, write
from multimodal.world.texts import caption, questions
from multimodal.world.utterances import UTTERANCE_SPLITS, write_recordings, write_utterances

_EDGE = 224
_TOKENIZER_TEXTS = 20000
_NUM_MERGED = 1000
FILMED: dict[str, Callable[..., Any]] = {
    "clips": write_clips,
    "spoken-clips": partial(write_clips, spoken=True),
}
SPOKEN: dict[str, Callable[..., Any]] = {"speech": write_utterances, "recordings": write_recordings}


def write_pictures(
    directory: Path, *, split: Split, number: int, seed: int, shapes_only: bool
) -> None:
    """Write PNG files, and what can be said and asked about each as ``scenes.json``."""
    directory.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"pictures {split} {seed}")
    said = {}
    for index in range(number):
        scene = sample_scene(rng, split=split, shapes_only=shapes_only)
        name = f"{index:02d}.png"
        draw(scene, edge=_EDGE).quantize(128, dither=Image.Dither.NONE).save(
            directory / name, optimize=True
        )
        asked = {question.text: question.answer for question in questions(scene, rng)}
        said[name] = {"caption": caption(scene), "questions": asked}
    (directory / "scenes.json").write_text(json.dumps(said, indent=1) + "\n")


def write_tokenizer(directory: Path, *, seed: int) -> None:
    """Learn the world's tokens from its language."""
    rng = random.Random(f"tokenizer {seed}")
    samples = [language_sample(rng, split="train") for _ in range(_TOKENIZER_TEXTS)]
    texts = ["user\n\nassistant\n\nsystem\n\n"] * _TOKENIZER_TEXTS
    for sample in samples:
        for message in sample.get("messages", [{"content": sample.get("text")}]):
            content = message["content"]
            parts = [{"text": content}] if isinstance(content, str) else content
            texts += [part["text"] for part in parts]
        texts += [*sample_sentence(rng, split="train").text.values(), *LANGUAGES.values()]
    texts += [prompt for prompt in vars(SpeechPrompts()).values()] * 100
    directory.mkdir(parents=True, exist_ok=True)
    train_bpe(texts, num_merged=_NUM_MERGED).save(directory)


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(prog="python -m multimodal.world", description=__doc__)
    splits = sorted({*SPLITS, *UTTERANCE_SPLITS})
    parser.add_argument("--split", choices=splits, default="test", help="of what is drawn")
    parser.add_argument("--number", type=int, default=12, help="how many pictures or samples")
    parser.add_argument("--out", type=Path, required=True, help="directory to write into")
    parser.add_argument(
        "--content", choices=(*CONTENTS, *SPOKEN, *FILMED, "clip-files"), help="instead of pictures"
    )
    parser.add_argument("--tokenizer", action="store_true", help="the tokenizer alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--spoken", type=float, default=0.0, help="share of clip-files in which somebody speaks"
    )
    parser.add_argument("--shapes-only", action="store_true", help="no things, no emoji set")
    options = parser.parse_args()
    if options.tokenizer:
        write_tokenizer(options.out, seed=options.seed)
        return
    known = UTTERANCE_SPLITS if options.content in SPOKEN else SPLITS
    if options.split not in known:
        parser.error(f"--split: there are {', '.join(known)}")
    if options.content in SPOKEN:
        SPOKEN[options.content](
            options.out, split=options.split, number=options.number, seed=options.seed
        )
        return
    settings = {
        "split": options.split,
        "number": options.number,
        "seed": options.seed,
        "shapes_only": options.shapes_only,
    }
    if options.content in FILMED:
        FILMED[options.content](options.out, **settings)
    elif options.content == "clip-files":
        write_clip_files(options.out, **settings, spoken_share=options.spoken)
    elif options.content is None:
        write_pictures(options.out, **settings)
    else:
        write(options.content, options.out, **settings)


if __name__ == "__main__":
    main()
