"""Continuous batching: requests join the rows that are being decoded, and leave when they are done.

One thread runs the model. It lets waiting requests in whenever a row is free, and takes a step of
all rows together; what each row says goes to its :class:`Ticket` as it is said.
"""

import queue
import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from language.errors import InputError
from language.generation import GenerationConfig, draw
from language.repetition import ends_in_loop
from language.tokenizer import TextStream
from multimodal.model import MultimodalLlama
from multimodal.processor import Processor
from multimodal.rows import Encoded
from multimodal.serving.slots import Slots
from multimodal.serving.stopping import StopText

End = Literal["stop", "length"]
"""Why an answer ended: by itself or a stop text, or because it may not be longer."""


class BusyError(Exception):
    """As many requests wait as may."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """A piece of an answer, or its end."""

    text: str = ""
    end: End | None = None
    fault: Exception | None = None
    """What went wrong; nothing more will come."""


@dataclass(eq=False)
class Ticket:
    """A request on its way."""

    prompt: Encoded
    settings: GenerationConfig
    tell: Callable[[Said], None]
    """Called in the engine's thread with each piece, the end last."""
    stops: tuple[str, ...] = ()
    """Texts before which the answer ends."""
    is_cancelled: bool = False
    """Set by whoever no longer waits for it."""
    num_said: int = 0
    """Tokens of the answer so far."""

    @property
    def num_prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.prompt.tokens)


@dataclass(eq=False)
class _Row:
    ticket: Ticket
    text: TextStream
    stop: StopText
    rng: random.Random
    logits: Tensor
    """After what was read last, [vocabulary]."""
    said: list[int] = field(default_factory=list)


class Engine:
    """Answers requests side by side."""

    def __init__(
        self,
        model: MultimodalLlama,
        processor: Processor,
        *,
        num_rows: int,
        max_length: int,
        max_waiting: int,
    ) -> None:
        """Take the memory of all rows.

        Args:
            model: in eval mode.
            processor: of the model.
            num_rows: requests that are answered at once.
            max_length: tokens of a prompt and its answer together.
            max_waiting: requests that may wait for a row.
        """
        self.model, self.processor = model, processor
        self.max_length, self.max_waiting = max_length, max_waiting
        self._slots = Slots(model, number=num_rows, max_length=max_length)
        self._rows: list[_Row] = []
        self._waiting: deque[Ticket] = deque()
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def num_running(self) -> int:
        """Requests that are being answered."""
        return len(self._rows)

    @property
    def num_waiting(self) -> int:
        """Requests that wait for a row."""
        return len(self._waiting)

    def submit(self, ticket: Ticket) -> None:
        """Let a request in.

        Raises:
            BusyError: too many wait.
            InputError: its prompt leaves no room for an answer.
        """
        if ticket.num_prompt >= self.max_length:
            raise InputError(
                "messages",
                f"{ticket.num_prompt:,} tokens leave no room for an answer: "
                f"{self.max_length:,} is the most",
            )
        with self._lock:
            if self._is_closed or len(self._waiting) >= self.max_waiting:
                raise BusyError
            self._waiting.append(ticket)
        self._news.put(None)

    def close(self) -> None:
        """Answer nobody any more."""
        self._is_closed = True
        self._news.put(None)
        self._thread.join()

    def _run(self) -> None:
        while not self._is_closed:
            if not self._rows and not self._waiting:
                self._news.get()
                continue
            try:
                self._admit()
                self._advance()
            except Exception as error:  # of the model itself: those in it are told, the rest go on
                for row in self._rows:
                    row.ticket.tell(Said(fault=error))
                while self._rows:
                    self._remove(len(self._rows) - 1)
        for ticket in (*(row.ticket for row in self._rows), *self._waiting):
            ticket.tell(Said(fault=BusyError()))

    def _admit(self) -> None:
        """Read the prompts of waiting requests into free rows."""
        while self._waiting and not self._slots.is_full:
            with self._lock:
                ticket = self._waiting.popleft()
            if ticket.is_cancelled:
                continue
            weight = self.model.language.embedding.weight
            try:
                batch = self.processor.collate([ticket.prompt])
                batch = batch.to(weight.device, dtype=weight.dtype)
                logits = self._slots.join(batch)
            except Exception as error:  # of this request alone
                ticket.tell(Said(fault=error))
                continue
            self._rows.append(
                _Row(
                    ticket=ticket,
                    text=TextStream(self.processor.tokenizer),
                    stop=StopText(ticket.stops),
                    rng=random.Random(ticket.settings.seed),
                    logits=logits,
                )
            )

    def _advance(self) -> None:
        """Take the next token of every row, and one step with those that go on."""
        for index in reversed(range(len(self._rows))):
            row, settings = self._rows[index], self._rows[index].ticket.settings
            if row.ticket.is_cancelled:
                self._remove(index)
                continue
            token = _chosen(row.logits, settings, row.rng)
            end = self._say(row, token, room=self._slots.room(index))
            if end is not None:
                rest = row.stop.push(row.text.finish()) + row.stop.finish()
                row.ticket.tell(Said(text=rest, end=end))
                self._remove(index)
        if self._rows:
            logits = self._slots.step([row.said[-1] for row in self._rows])
            for row, after in zip(self._rows, logits, strict=True):
                row.logits = after

    def _say(self, row: _Row, token: int, *, room: int) -> End | None:
        """Give out what a token adds; why the answer ends with it, if it does."""
        ticket, settings = row.ticket, row.ticket.settings
        if token in settings.stop_ids:
            return "stop"
        row.said.append(token)
        ticket.num_said += 1
        if text := row.stop.push(row.text.push(token)):
            ticket.tell(Said(text=text))
        if row.stop.is_found or ends_in_loop(
            row.said, max_loop=settings.max_loop, num_loops=settings.num_loops
        ):
            return "stop"
        return "length" if len(row.said) >= settings.max_new_tokens or room < 1 else None

    def _remove(self, index: int) -> None:
        """Free a row; the last one takes its place here as it does there."""
        self._slots.leave(index)
        last = self._rows.pop()
        if index < len(self._rows):
            self._rows[index] = last


def _chosen(logits: Tensor, settings: GenerationConfig, rng: random.Random) -> int:
    if settings.temperature == 0:
        return int(logits.argmax())
    return int(draw(logits[None], settings, [rng])[0])
