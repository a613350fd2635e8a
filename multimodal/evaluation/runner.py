"""Asking a model every question of a benchmark: in batches, over processes, resumable.

Batches are the same consecutive samples whatever the number of processes and of starts, so that a
run that was killed and started again, or spread otherwise, gives the answers that it would have
given. Processes do not talk to each other: each takes every so-many-eth batch and keeps its answers
in a file; whoever is last puts them together. So any launcher will do.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from language.errors import InputError
from multimodal.assistant import Assistant
from multimodal.evaluation.benchmark import Benchmark, Dialogue, Sample, Settings, Spoken
from multimodal.evaluation.launchers import place
from multimodal.evaluation.packed import Packed
from multimodal.evaluation.predictions import Answers, Prediction, Run, prediction_of
from multimodal.evaluation.results import scored

Told = Callable[[int, int, float], None]
"""Called with samples done, samples in all, and seconds that are left."""


def run(
    benchmark: Benchmark,
    assistant: Assistant,
    data: Path,
    out: Path,
    *,
    settings: Settings,
    model: dict[str, Any],
    limit: int = 0,
    batch_size: int = 16,
    told: Told | None = None,
) -> Path | None:
    """Answer all samples of a set.

    Args:
        benchmark: says what is asked.
        assistant: answers; its way of drawing becomes greedy.
        data: folder of the set as it is published.
        out: folder of the run; one that was begun is gone on with.
        settings: of the benchmark.
        model: what the model is, for the record.
        limit: first samples that are taken; 0 takes all.
        batch_size: samples that are answered side by side.
        told: of how far it is.

    Returns:
        The file of predictions; None if other processes are not done yet.

    Raises:
        InputError: the set, a medium of it, or the folder of the run is at fault.
    """
    benchmark.check(settings)
    benchmark = benchmark.under(settings)
    assistant.configure(temperature=0.0, max_new_tokens=benchmark.max_new_tokens)
    samples = read_samples(benchmark, data, settings=settings, limit=limit)
    if benchmark.score is not None:  # before any work is done
        scored(benchmark, samples[0].references, "", settings)
    rank, size = place()
    decoding = {
        "temperature": 0.0,
        "max_new_tokens": benchmark.max_new_tokens,
        "batch_size": batch_size,
    }
    about = Run(
        benchmark=benchmark.name,
        version=benchmark.version,
        settings=settings,
        number=len(samples),
        prompt=benchmark.prompt or _spoken_prompt(assistant, samples),
        model=model,
        decoding=decoding,
    )
    answers = Answers(out, about, name=f"process-{rank:05d}")
    batches = [samples[start : start + batch_size] for start in range(0, len(samples), batch_size)]
    mine = batches[rank::size]
    owed = [batch for batch in mine if any(sample.key not in answers.known for sample in batch)]
    begun, whole = time.monotonic(), sum(map(len, mine))
    done = whole - sum(map(len, owed))
    for number, batch in enumerate(owed, start=1):
        answers.add(_answered(assistant, batch))
        done += len(batch)
        if told is not None:
            passed = time.monotonic() - begun
            told(done, whole, passed / number * (len(owed) - number))
    return answers.finish([sample.key for sample in samples])


def read_samples(
    benchmark: Benchmark, data: Path, *, settings: Settings, limit: int = 0
) -> list[Sample]:
    """The samples of a set.

    Raises:
        InputError: it is no such set, holds nothing, or one sample twice.
    """
    samples = list(islice(benchmark.read(data, settings), limit or None))
    if not samples:
        raise InputError(data, f"holds no samples of {benchmark.title}")
    seen: set[str] = set()
    for sample in samples:
        if sample.key in seen:
            raise InputError(data, f"holds the sample {sample.key} twice")
        seen.add(sample.key)
    return samples


def _spoken_prompt(assistant: Assistant, samples: Sequence[Sample]) -> str:
    """What the model's own config says of recordings: that is asked where a benchmark is silent."""
    prompts = assistant.model.config.speech_prompts
    translates = any(isinstance(each.request, Spoken) and each.request.to for each in samples)
    return prompts.translate if translates else prompts.transcribe


def _answered(assistant: Assistant, batch: Sequence[Sample]) -> Iterator[Prediction]:
    requests = [sample.request for sample in batch]
    dialogues = [each for each in requests if isinstance(each, Dialogue)]
    messages = (dialogue.messages for dialogue in dialogues)
    answers = iter(assistant.answer_all(messages, batch_size=len(batch)))
    heard = iter(_heard(assistant, [each for each in requests if isinstance(each, Spoken)]))
    for sample, request in zip(batch, requests, strict=True):
        text = next(heard) if isinstance(request, Spoken) else next(answers)
        yield prediction_of(sample, text, media=media_of(request))


def _heard(assistant: Assistant, requests: Sequence[Spoken]) -> Iterator[str]:
    """Transcripts or translations, those that ask for the same side by side."""
    for (language, to), some in groupby(requests, key=lambda each: (each.language, each.to)):
        recordings = [each.recording for each in some]
        packed = [each for each in recordings if isinstance(each, Packed)]
        opened = [each.read() if isinstance(each, Packed) else each for each in recordings]
        try:
            found = assistant.hear_all(opened, language=language if to is None else None, to=to)
        except InputError as error:
            if not packed:
                raise
            where = f"one of {len(packed)} recordings from {packed[0]} to {packed[-1].name}"
            raise InputError(where, error.fault) from None
        for transcript in found:
            yield transcript.text


def media_of(request: Dialogue | Spoken) -> list[str]:
    """Files that a request shows or plays."""
    if isinstance(request, Spoken):
        given = [request.recording]
    else:
        contents = [message["content"] for message in request.messages]
        parts = [part for content in contents if isinstance(content, list) for part in content]
        given = [part.get(part["type"]) for part in parts if part["type"] != "text"]
    return [str(each) for each in given if isinstance(each, str | os.PathLike | Packed)]
