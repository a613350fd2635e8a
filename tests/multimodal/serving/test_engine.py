"""Requests that are answered together get the answers that they would get alone."""

import random
import threading
from dataclasses import replace

import pytest
import torch

from language.errors import InputError
from multimodal.locations import TINY
from multimodal.serving.engine import BusyError, Engine, Said, Ticket
from multimodal.serving.slots import Slots


@pytest.fixture
def engine(assistant):
    made = Engine(assistant.model, assistant.processor, num_rows=4, max_length=160, max_waiting=99)
    yield made
    made.close()


def image(number: int) -> dict:
    return {"type": "image", "image": TINY / "samples" / f"{number:02d}.png"}


def dialogue(kind: int) -> list[dict]:
    clip = {"type": "video", "video": next((TINY / "samples" / "clips").glob("*.mp4"))}
    heard = {"type": "audio", "audio": TINY / "samples" / "recordings" / "04.flac"}
    told = {"type": "text", "text": "What is on the left?"}
    contents = [
        [image(1), told],
        "What is the cup?",
        [image(2), image(3), told],
        [clip, {"type": "text", "text": "What comes last?"}],
        [heard],
        [image(4), {"type": "text", "text": "How many things are there?"}],
    ]
    return [{"role": "user", "content": contents[kind]}]


class Answer:
    """Collects what is said to a ticket."""

    def __init__(self, assistant, kind: int, **settings) -> None:
        self.text, self.end, self.fault = "", None, None
        self.over, self.started = threading.Event(), threading.Event()
        stops = settings.pop("stops", ())
        chosen = replace(assistant.generation, **{"max_new_tokens": 24, **settings})
        prompt = assistant.processor.encode(dialogue(kind), train=False)
        self.ticket = Ticket(prompt=prompt, settings=chosen, tell=self.told, stops=stops)

    def told(self, said: Said) -> None:
        self.text += said.text
        self.started.set()
        if said.end or said.fault:
            self.end, self.fault = said.end, said.fault
            self.over.set()

    def wait(self) -> str:
        assert self.over.wait(60)
        return self.text


def alone(assistant, kind: int, **settings) -> str:
    before = assistant.generation
    try:
        assistant.configure(**{"max_new_tokens": 24, **settings})
        return "".join(assistant.stream(dialogue(kind)))
    finally:
        assistant.generation = before


def test_many_of_all_kinds_side_by_side(assistant, engine):
    """24 requests for 4 rows, of text, pictures, clips and recordings, some drawn by chance."""
    rng = random.Random(3)
    kinds = [(rng.randrange(6), rng.choice([0.0, 0.8]), rng.randrange(9)) for _ in range(24)]
    answers = []
    for kind, temperature, seed in kinds:
        answers.append(Answer(assistant, kind, temperature=temperature, seed=seed))
        engine.submit(answers[-1].ticket)
    for (kind, temperature, seed), answer in zip(kinds, answers, strict=True):
        assert answer.wait() == alone(assistant, kind, temperature=temperature, seed=seed)
        assert answer.end in ("stop", "length") and answer.fault is None
    assert engine.num_running == engine.num_waiting == 0


def test_logits_of_a_row_do_not_depend_on_its_neighbours(assistant):
    model, processor = assistant.model, assistant.processor
    batches = [processor.collate([processor.encode(dialogue(kind), train=False)])
               for kind in (0, 2, 3, 1)]  # fmt: skip
    slots = Slots(model, number=4, max_length=100)
    first = [slots.join(batch) for batch in batches]
    together = [slots.step([11, 12, 13, 14]), slots.step([21, 22, 23, 24])]
    slots.leave(1)  # the last one takes its place
    moved = slots.step([31, 34, 33])
    for row, batch in enumerate(batches):
        single = Slots(model, number=1, max_length=100)
        torch.testing.assert_close(single.join(batch), first[row])
        for step, logits in zip((10, 20), together, strict=True):
            torch.testing.assert_close(
                single.step([step + 1 + row])[0], logits[row], atol=2e-5, rtol=1e-4
            )
        if row != 1:
            place = {0: 0, 3: 1, 2: 2}[row]
            torch.testing.assert_close(
                single.step([31 + row])[0], moved[place], atol=2e-5, rtol=1e-4
            )


def test_lengths_and_stop_texts(assistant, engine):
    whole = alone(assistant, 0)  # "A car.", or something else that is as long
    short = Answer(assistant, 0, max_new_tokens=2)
    stopped = Answer(assistant, 0, stops=(whole[3:5],))
    never = Answer(assistant, 0, stops=("xyzzy", whole[-1] + "!"))
    for answer in (short, stopped, never):
        engine.submit(answer.ticket)
    assert whole.startswith(short.wait()) and short.end == "length" and short.ticket.num_said == 2
    assert stopped.wait() == whole[: whole.find(whole[3:5])] and stopped.end == "stop"
    assert never.wait() == whole


def test_who_leaves_makes_room(assistant, engine):
    gone = [Answer(assistant, 1, max_new_tokens=100, stop_ids=(), max_loop=0) for _ in range(4)]
    for answer in gone:
        engine.submit(answer.ticket)
    for answer in gone:
        assert answer.started.wait(60)
        answer.ticket.is_cancelled = True
    late = Answer(assistant, 0)
    engine.submit(late.ticket)
    assert late.wait() == alone(assistant, 0)
    assert not any(answer.over.is_set() for answer in gone)


def test_too_many_and_too_long_are_refused(assistant):
    engine = Engine(assistant.model, assistant.processor, num_rows=1, max_length=60, max_waiting=0)
    with pytest.raises(BusyError):
        engine.submit(Answer(assistant, 1).ticket)
    engine.close()
    engine = Engine(assistant.model, assistant.processor, num_rows=1, max_length=60, max_waiting=9)
    long = Answer(assistant, 1)
    long.ticket.prompt = assistant.processor.encode(
        [{"role": "user", "content": "cup " * 80}], train=False
    )
    with pytest.raises(InputError, match="leave no room for an answer"):
        engine.submit(long.ticket)
    endless = Answer(assistant, 1, max_new_tokens=500, stop_ids=(), max_loop=0)
    engine.submit(endless.ticket)
    endless.wait()
    assert endless.end == "length"
    assert endless.ticket.num_prompt + endless.ticket.num_said == 60 + 1
    engine.close()


def test_a_fault_of_one_request_is_its_own(assistant, engine, monkeypatch):
    good, bad = Answer(assistant, 0), Answer(assistant, 1)
    collate = assistant.processor.collate

    def broken(rows):
        if rows[0] is bad.ticket.prompt:
            raise RuntimeError("of this request")
        return collate(rows)

    monkeypatch.setattr(assistant.processor, "collate", broken)
    for answer in (bad, good):
        engine.submit(answer.ticket)
    bad.wait()
    assert "of this request" in str(bad.fault)
    monkeypatch.undo()
    assert good.wait() == alone(assistant, 0)
