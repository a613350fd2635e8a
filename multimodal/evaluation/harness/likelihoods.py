"""How likely a model finds continuations, and whether it would have written them itself.

Letters: N predicted tokens of a batch, D width, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multimodal.assistant import Assistant
from multimodal.batch import Batch
from multimodal.evaluation.harness.batches import in_batches
from multimodal.evaluation.harness.prompt import Prompt
from multimodal.model import MultimodalLlama, visible_in

Likelihood = tuple[float, bool]
"""Log-probability of a continuation, and whether each of its tokens is the likeliest."""

PIECE = 1024
"""Predicted tokens whose logits are in memory at once: a vocabulary of 128,000 takes 0.5 GB."""


@dataclass(frozen=True)
class Question:
    """What is read, and what might follow."""

    context: Prompt
    """One token at least."""
    continuation: tuple[int, ...]


def likelihoods(
    assistant: Assistant,
    questions: Sequence[Question],
    *,
    batch_size: int,
    max_length: int,
    done: Callable[[int], None] = lambda number: None,
) -> list[Likelihood]:
    """Likelihoods in the order of the questions; those that read the same are read once.

    Args:
        assistant: its model is asked.
        questions: any number.
        batch_size: most rows that are read side by side.
        max_length: most tokens that are read; what is longer loses its beginning.
        done: told of each number of questions that are answered.
    """
    reads: dict[object, Prompt] = {}
    asked: dict[object, list[int]] = {}
    for index, question in enumerate(questions):
        # The last token is predicted, but never read.
        whole = question.context.followed_by(question.continuation[:-1]).last(max_length)
        reads.setdefault(whole.identity, whole)
        asked.setdefault(whole.identity, []).append(index)
    found: list[Likelihood] = [(0.0, True)] * len(questions)

    def work(some: Sequence[Prompt]) -> None:
        wanted = [[questions[i].continuation for i in asked[p.identity]] for p in some]
        answers = _row_likelihoods(assistant, some, wanted)
        for prompt, row in zip(some, answers, strict=True):
            for index, answer in zip(asked[prompt.identity], row, strict=True):
                found[index] = answer
        done(sum(map(len, answers)))

    longest_first = sorted(reads.values(), key=lambda prompt: -len(prompt.tokens))
    in_batches(longest_first, work, batch_size=batch_size)
    return found


@torch.inference_mode()
def _row_likelihoods(
    assistant: Assistant, prompts: Sequence[Prompt], wanted: list[list[tuple[int, ...]]]
) -> list[list[Likelihood]]:
    """Likelihoods of the continuations that end each row, its last token being one behind it."""
    processor, model = assistant.processor, assistant.model
    batch = processor.collate([prompt.row(processor) for prompt in prompts])
    weight = model.language.embedding.weight
    hidden = hidden_states(model, batch.to(weight.device, dtype=weight.dtype))
    rows: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    for row, (length, continuations) in enumerate(zip(batch.lengths.tolist(), wanted, strict=True)):
        for tokens in continuations:
            assert len(tokens) <= length, "a continuation longer than what fits"
            rows += [row] * len(tokens)
            positions += range(length - len(tokens), length)
            targets += tokens
    predicting = hidden[rows, positions]  # [N, D]
    scores, greedy = _scores(model, predicting, torch.tensor(targets, device=hidden.device))
    answers: list[list[Likelihood]] = []
    start = 0
    for continuations in wanted:
        answers.append([])
        for tokens in continuations:
            part = slice(start, start + len(tokens))
            answers[-1].append((sum(scores[part]), all(greedy[part])))
            start += len(tokens)
    return answers


def _scores(
    model: MultimodalLlama, hidden: Tensor, targets: Tensor
) -> tuple[list[float], list[bool]]:
    """Log-probability of each target after its hidden state [N, D], and whether it is likeliest."""
    scores: list[float] = []
    greedy: list[bool] = []
    for some, wanted in zip(hidden.split(PIECE), targets.split(PIECE), strict=True):
        logits = model.language.logits(some).float()  # [N, V]
        shares = logits.log_softmax(dim=-1).gather(-1, wanted[:, None])
        scores += shares.squeeze(-1).tolist()
        greedy += (logits.argmax(dim=-1) == wanted).tolist()
    return scores, greedy


def hidden_states(model: MultimodalLlama, batch: Batch) -> Tensor:
    """The last block's output, [batch, tokens, D]; text alone goes through the core alone."""
    if batch.images is None and batch.clips is None and batch.recordings is None:
        return model.language.hidden_states(batch.tokens)
    sensed = model.sense(batch)
    sights = model.sights(model.remember(batch, sensed), visible_in(batch))
    return model.walk(model.embed_batch(batch, sensed), sights=sights)
