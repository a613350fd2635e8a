"""Transcription of many short recordings, same weights, against transformers' generate.

The shipped model hears on both sides, recordings in the same batches: theirs reads the embeddings
of prompt and speech (``inputs_embeds``, padded on the left as its generation wants it) with the
core as a ``LlamaForCausalLM``. What is said must be the same. The real-time factor is ours: seconds
of sound by seconds of work.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import transformers
from torch import Tensor

from benchmarks.paired import Ratio, compare
from language.checkpoint import save_llama
from multimodal.assistant import BATCH_SIZE, Assistant, load
from multimodal.locations import TINY
from multimodal.prompts import spoken_request
from speech.audio import SAMPLE_RATE, read_audio

SECONDS = 600
"""Of sound in all."""
RECORDINGS = TINY / "samples" / "recordings"


def run() -> list[Ratio]:
    """Ten minutes in some hundred files."""
    assistant = load("tiny")
    assistant.configure(max_new_tokens=40)
    known = json.loads((RECORDINGS / "sentences.json").read_text(encoding="utf-8"))
    samples = [read_audio(RECORDINGS / name) for name in known]
    waveforms: list[Tensor] = []
    while sum(map(len, waveforms)) < SECONDS * SAMPLE_RATE:
        waveforms.append(samples[len(waveforms) % len(samples)])
    prompt = assistant.model.config.speech_prompts.transcribe.format(language="English")
    dialogues = [spoken_request((waveform.numpy(), SAMPLE_RATE), prompt) for waveform in waveforms]
    core = their_core(assistant)
    answers: dict[str, list[str]] = {}

    def ours() -> None:
        answers["ours"] = assistant.answer_all(dialogues)

    def theirs() -> None:
        answers["theirs"] = their_answers(assistant, core, dialogues)

    result = compare(
        f"transcription, {SECONDS // 60} min in {len(waveforms)} recordings",
        ours=ours,
        theirs=theirs,
        against=f"transformers {transformers.__version__} generate",
        target=1.0,
        pairs=3,
    )
    if answers["ours"] != answers["theirs"]:
        raise AssertionError("the two sides said different things: the comparison is void")
    speed = sum(map(len, waveforms)) / SAMPLE_RATE / (result.ours_ms / 1000)
    return [replace(result, name=f"{result.name}, {speed:.0f} times real time")]


def their_core(assistant: Assistant) -> transformers.LlamaForCausalLM:
    """The model's core as transformers reads it."""
    with tempfile.TemporaryDirectory() as folder:
        save_llama(assistant.model.language, Path(folder) / "core", companions=TINY)
        return transformers.LlamaForCausalLM.from_pretrained(Path(folder) / "core").eval()


@torch.no_grad()
def their_answers(
    assistant: Assistant, core: transformers.LlamaForCausalLM, dialogues: list[list[object]]
) -> list[str]:
    """Greedy answers by transformers."""
    processor, said = assistant.processor, []
    for start in range(0, len(dialogues), BATCH_SIZE):
        rows = [
            processor.encode(each, train=False) for each in dialogues[start : start + BATCH_SIZE]
        ]
        batch = processor.collate(rows)
        embedded = assistant.model.embed_batch(batch, assistant.model.sense(batch))
        length = embedded.shape[1]
        shift = length - batch.lengths
        places = (torch.arange(length) - shift[:, None]) % length
        embedded = embedded.gather(1, places.unsqueeze(-1).expand_as(embedded))
        mask = (torch.arange(length) >= shift[:, None]).long()
        out = core.generate(
            inputs_embeds=embedded,
            attention_mask=mask,
            max_new_tokens=assistant.generation.max_new_tokens,
            do_sample=False,
            eos_token_id=list(assistant.generation.stop_ids),
            pad_token_id=processor.tokenizer.pad_id,
        )
        said += [processor.tokenizer.decode(row, skip_special=True) for row in out.tolist()]
    return said
