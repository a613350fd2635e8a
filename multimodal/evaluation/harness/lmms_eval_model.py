"""openherd as a model of lmms-eval, which asks about pictures, clips and recordings in messages."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from tqdm import tqdm

from language.chat import encode_dialog
from multimodal.assistant import load
from multimodal.evaluation.harness.answers import answers
from multimodal.evaluation.harness.drawing import Drawing
from multimodal.evaluation.harness.likelihoods import Likelihood, Question, likelihoods
from multimodal.evaluation.harness.lmms_eval_messages import messages_of, shown
from multimodal.evaluation.harness.prompt import Prompt
from multimodal.evaluation.launchers import own_device
from multimodal.processor import Message


class OpenherdLMM(lmms):
    """A chat model: lmms-eval hands it messages with the media in their places."""

    is_simple = False

    def __init__(
        self,
        pretrained: str = "tiny",
        *,
        core: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int | str = 1,
        max_batch_size: int | str | None = None,
        max_new_tokens: int | str = 1024,
        sound: bool = False,
    ) -> None:
        """Load the model; numbers may be written out, as on a command line.

        Args:
            pretrained: what `multimodal.assistant.load` takes.
            core: the core that belongs to an adapter.
            device: a GPU by default, if there is one.
            dtype: of the weights.
            batch_size: dialogs side by side; "auto" is ``max_batch_size``, less what memory lacks.
            max_batch_size: most that "auto" tries, by default 16.
            max_new_tokens: most tokens of an answer where the task does not say.
            sound: whether clips are heard, too.

        Raises:
            InputError: what is wrong with which file or argument.
        """
        super().__init__()
        self.assistant = load(pretrained, core=core, device=own_device(device), dtype=dtype)
        automatic = str(batch_size).startswith("auto")
        self.batch_size = int(max_batch_size or 16) if automatic else int(batch_size)
        self.max_new_tokens = int(max_new_tokens)
        self.sound = sound

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.assistant.model.language.embedding.weight.device

    @property
    def max_length(self) -> int:
        """Most tokens of a dialog."""
        return self.assistant.model.config.language.max_positions

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answers; media of one batch at a time are in memory."""
        found: list[str] = []
        for start in self._starts(requests):
            some = requests[start : start + self.batch_size]
            dialogs = [self._messages(request) for request in some]
            found += self._answers(dialogs, some, first_seed=start)
        return found

    def generate_until_multi_round(self, requests: list[Instance]) -> list[list[str]]:
        """Answers of each round of each request, whose task says what is asked next."""
        found: list[list[str]] = [[] for _ in requests]
        for start in self._starts(requests):
            going = list(range(start, min(start + self.batch_size, len(requests))))
            infos: dict[int, Any] = dict.fromkeys(going)
            dialogs = [self._messages(requests[index]) for index in going]
            while going:
                asked = [requests[index] for index in going]
                said = self._answers(dialogs, asked, first_seed=start)
                for index, text in zip(going, said, strict=True):
                    found[index].append(text)
                dialogs, asking = [], going
                going = []
                for index in asking:
                    following = self._following(requests[index], found[index], infos[index])
                    if following is not None:
                        dialog, infos[index] = following
                        dialogs.append(dialog)
                        going.append(index)
        return found

    def loglikelihood(self, requests: list[Instance]) -> list[Likelihood]:
        """Log-probability of each continuation as the answer, and whether it is the greedy one.

        Chat tasks of lmms-eval 0.7.3 never ask for it; others send (context, continuation or what
        gives it, what gives the media, document, task, split), or (context, continuation) alone.
        """
        found: list[Likelihood] = []
        for start in self._starts(requests):
            found += likelihoods(
                self.assistant,
                [self._question(*each.args) for each in requests[start : start + self.batch_size]],
                batch_size=self.batch_size,
                max_length=self.max_length,
            )
        return found

    def _starts(self, requests: Sequence[Instance]) -> Iterator[int]:
        starts = range(0, len(requests), self.batch_size)
        yield from tqdm(starts, desc="openherd", disable=self.rank != 0)

    def _document(self, request: Instance) -> tuple[Any, Any]:
        """A request's function that gives messages, and its document.

        Arguments end with that function, settings, document's number, task and split; the release
        0.7.3 puts the prompt of simple models before them.
        """
        to_messages, _, number, task, split = request.args[-5:]
        return to_messages, self.task_dict[task][split][number]

    def _messages(self, request: Instance) -> list[Message]:
        to_messages, document = self._document(request)
        return messages_of(to_messages(document), sound=self.sound)

    def _following(
        self, request: Instance, said: list[str], info: Any
    ) -> tuple[list[Message], Any] | None:
        """Messages of the next round and what the task notes for the one after; None at the end."""
        to_messages, document = self._document(request)
        given = to_messages(
            document, round_idx=len(said), previous_output=list(said), previous_round_info=info
        )
        if not isinstance(given, tuple) or len(given) != 4 or given[1]:
            return None
        messages, _, _, info = given
        return messages_of(messages, sound=self.sound), info

    def _answers(
        self, dialogs: list[list[Message]], requests: Sequence[Instance], *, first_seed: int
    ) -> list[str]:
        drawings = [
            Drawing.asked(
                request.args[-4],
                tokenizer=self.assistant.processor.tokenizer,
                stop_ids=self.assistant.generation.stop_ids,
                max_new_tokens=self.max_new_tokens,
            )
            for request in requests
        ]
        return answers(
            self.assistant,
            list(zip(map(self._prompt, dialogs), drawings, strict=True)),
            batch_size=self.batch_size,
            max_length=self.max_length,
            shorten=False,
            first_seed=first_seed,
        )

    def _prompt(self, messages: list[Message]) -> Prompt:
        processor = self.assistant.processor
        dialog = encode_dialog(messages, processor.tokenizer, add_header=True, date=processor.date)
        return Prompt(tuple(dialog.tokens), tuple(dialog.media))

    def _question(self, context: str, continuation: Any, *where: Any) -> Question:
        tokenizer = self.assistant.processor.tokenizer
        if not where:
            return Question(Prompt((tokenizer.bos_id,)), tuple(tokenizer.encode(continuation)))
        to_visual, number, task, split = where
        document = self.task_dict[task][split][number]
        parts = [shown(visual) for visual in to_visual(document) or ()]
        parts.append({"type": "text", "text": context})
        messages = messages_of([{"role": "user", "content": parts}], sound=self.sound)
        answer = continuation(document) if callable(continuation) else continuation
        return Question(self._prompt(messages), tuple(tokenizer.encode(answer.lstrip())))
