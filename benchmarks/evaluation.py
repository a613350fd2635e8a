"""Samples of a benchmark a second, same weights, against a plain loop over transformers' generate.

Ours is the whole of ``openherd evaluate``: files read, pictures cut into tiles, batches of sixteen,
answers written to the disk. Theirs takes one sample after another, its inputs made beforehand.
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image

from benchmarks.decoding import TILE
from benchmarks.paired import Ratio, compare
from benchmarks.released_models import save_mllama
from benchmarks.training_step import their_inputs
from language.tokenizer import train_bpe
from multimodal.assistant import Assistant, load
from multimodal.evaluation.benchmark import Dialogue, Settings
from multimodal.evaluation.benchmarks import benchmark
from multimodal.evaluation.runner import read_samples
from multimodal.evaluation.runner import run as answer_all

SAMPLES, NEW = 32, 16


def run() -> list[Ratio]:
    """Questions about one-tile pictures, answers of sixteen tokens."""
    with tempfile.TemporaryDirectory() as folder:
        model, data = Path(folder) / "model", Path(folder) / "data"
        save_mllama(model, tile_size=TILE)
        train_bpe(["What stands in picture 12?"], num_merged=16).save(model)
        _write(data)
        assistant = load(model, device="cpu")
        assistant.configure(stop_ids=(), max_loop=0)
        theirs = transformers.MllamaForConditionalGeneration.from_pretrained(model).eval()
        chosen = benchmark("docvqa")
        object.__setattr__(chosen, "max_new_tokens", NEW)
        prompts = _prompts(assistant, data)
        starts = iter(range(1000))

        def read_ours() -> None:
            out = Path(folder) / f"out{next(starts)}"
            answer_all(chosen, assistant, data, out, settings=Settings(), model={})
            shutil.rmtree(out)

        @torch.inference_mode()
        def read_theirs() -> None:
            for tokens in prompts:
                inputs = their_inputs(tokens, [1])
                theirs.generate(
                    **inputs, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False,
                    pad_token_id=0,
                )  # fmt: skip

        return [
            compare(
                f"evaluation, {SAMPLES} pictures",
                ours=read_ours,
                theirs=read_theirs,
                against=f"transformers {transformers.__version__} Mllama, one by one",
                target=1.5,
                pairs=3,
            )
        ]


def _write(data: Path) -> None:
    """DocVQA of made-up pictures."""
    (data / "documents").mkdir(parents=True)
    records = []
    for number in range(SAMPLES):
        noise = np.random.default_rng(number).integers(0, 256, (TILE, TILE, 3), np.uint8)
        name = f"documents/{number}.png"
        Image.fromarray(noise).save(data / name)
        question = f"What stands in picture {number}?"
        records.append(
            {"questionId": number, "question": question, "image": name, "answers": ["noise"]}
        )
    (data / "val_v1.0.json").write_text(json.dumps({"data": records}))


def _prompts(assistant: Assistant, data: Path) -> list[torch.Tensor]:
    """Token ids of each question, [1, tokens]."""
    samples = read_samples(benchmark("docvqa"), data, settings=Settings())
    requests = [each.request for each in samples]
    return [
        torch.from_numpy(assistant.processor.encode(each.messages, train=False).tokens)[None]
        for each in requests
        if isinstance(each, Dialogue)
    ]
