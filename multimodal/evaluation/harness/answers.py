"""Answers to a harness's prompts: batched, each cut where the harness wants it to end."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from language.errors import InputError
from language.generation import LlamaSession, Session, generate
from language.tokenizer import TextStream
from multimodal.assistant import Assistant
from multimodal.batch import Batch
from multimodal.evaluation.harness.batches import in_batches
from multimodal.evaluation.harness.drawing import Drawing
from multimodal.evaluation.harness.prompt import Prompt
from multimodal.model import MultimodalLlama
from multimodal.session import MultimodalSession


def answers(
    assistant: Assistant,
    wanted: Sequence[tuple[Prompt, Drawing]],
    *,
    batch_size: int,
    max_length: int,
    shorten: bool = True,
    first_seed: int = 0,
    done: Callable[[int], None] = lambda number: None,
) -> list[str]:
    """Answers in the order of the prompts, each what the prompt would be answered alone.

    Args:
        assistant: its model is asked.
        wanted: prompts, and how their answers are drawn; the random numbers of one that is not
            greedy depend on its place.
        batch_size: most prompts that are answered side by side.
        max_length: most tokens of prompt and answer.
        shorten: whether a text that leaves too little room for its answer loses its beginning, as
            lm-eval has it; otherwise, and where there are media, the answer gets what room is left.
        first_seed: of the random numbers of the first prompt, each further one having the next.
        done: told of each number of prompts that are answered.

    Raises:
        InputError: there is no room for prompt and answer, or a medium is unusable.
    """
    found = [""] * len(wanted)
    groups: dict[Drawing, list[int]] = {}
    for index, (_, drawing) in enumerate(wanted):
        if shorten and drawing.config.max_new_tokens >= max_length:
            number = drawing.config.max_new_tokens
            raise InputError("max_gen_toks", f"{number:,} of {max_length:,} tokens leave no prompt")
        groups.setdefault(drawing, []).append(index)
    for drawing, indices in groups.items():
        fit = max_length - drawing.config.max_new_tokens
        prompts = {i: wanted[i][0].last(fit) if shorten else wanted[i][0] for i in indices}

        def work(
            some: Sequence[int],
            drawing: Drawing = drawing,
            prompts: dict[int, Prompt] = prompts,
        ) -> None:
            texts = _batch_answers(
                assistant,
                [prompts[i] for i in some],
                drawing,
                max_length=max_length,
                seeds=[first_seed + i for i in some],
            )
            for index, text in zip(some, texts, strict=True):
                found[index] = text
            done(len(some))

        longest_first = sorted(indices, key=lambda index: -len(prompts[index].tokens))
        in_batches(longest_first, work, batch_size=batch_size)
    return found


def _batch_answers(
    assistant: Assistant,
    prompts: Sequence[Prompt],
    drawing: Drawing,
    *,
    max_length: int,
    seeds: Sequence[int],
) -> list[str]:
    processor, model = assistant.processor, assistant.model
    batch = processor.collate([prompt.row(processor) for prompt in prompts])
    weight = model.language.embedding.weight
    batch = batch.to(weight.device, dtype=weight.dtype)
    room = max_length - batch.tokens.shape[1]
    if room < 1:
        raise InputError("request", f"{batch.tokens.shape[1]:,} tokens leave no room for an answer")
    config = replace(drawing.config, max_new_tokens=min(room, drawing.config.max_new_tokens))
    session, logits = begin(model, batch, max_new_tokens=config.max_new_tokens)
    streams = [TextStream(processor.tokenizer) for _ in prompts]
    texts = [""] * len(prompts)
    ended = [False] * len(prompts)
    for step in generate(session, logits, config, seeds=seeds):
        for row, token in enumerate(step):
            if token is None or ended[row]:
                ended[row] = True
                continue
            texts[row] += streams[row].push(token)
            ended[row] = any(stop in texts[row] for stop in drawing.until)
        if all(ended):
            break
    whole = (text + stream.finish() for text, stream in zip(texts, streams, strict=True))
    return [cut(text, drawing.until) for text in whole]


def begin(model: MultimodalLlama, batch: Batch, *, max_new_tokens: int) -> tuple[Session, Tensor]:
    """A session that has read a batch of prompts, and its logits [batch, vocabulary].

    Text alone goes through the core alone.
    """
    room = {
        "batch_size": len(batch.tokens),
        "max_length": batch.tokens.shape[1] + max_new_tokens,
    }
    if batch.images is None and batch.clips is None and batch.recordings is None:
        core = LlamaSession(model.language, **room)
        return core, core.append(batch.tokens, lengths=batch.lengths)
    session = MultimodalSession(model, **room)
    return session, session.prefill(batch)


def cut(text: str, until: Sequence[str]) -> str:
    """The text before the first of the stop texts."""
    return text[: min((text.find(stop) for stop in until if stop in text), default=len(text))]
