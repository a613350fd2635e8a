"""A continued dialogue gives what reading it all anew gives, and reads only what is new."""

from dataclasses import replace

import pytest
import torch

from multimodal.batch import Batch, Images
from multimodal.conversation import Conversation
from multimodal.session import MultimodalSession


def cut(batch: Batch, *, num_tokens: int, num_images: int) -> Batch:
    """The first tokens and pictures of a dialogue of one row."""
    images = None
    if num_images:
        arrangements = batch.images.arrangements[:num_images]
        num_tiles = int(arrangements.prod(1).sum())
        images = Images(
            tiles=batch.images.tiles[:num_tiles],
            arrangements=arrangements,
            rows=batch.images.rows[:num_images],
        )
    return Batch(
        tokens=batch.tokens[:, :num_tokens],
        lengths=torch.tensor([num_tokens]),
        images=images,
        visible=batch.visible[:, :num_tokens, :num_images] if num_images else None,
    )


def anew(model, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return model(batch)[:, -1]


@pytest.fixture
def dialogue(make_batch) -> Batch:
    return make_batch([[(3, (1, 2)), (20, (2, 1))]], num_tokens=32)


@pytest.fixture
def reads(monkeypatch):
    """What the session was given to read: (tokens, pictures) of each call."""
    seen = []
    prefill = MultimodalSession.prefill

    def watched(self, batch):
        pictures = 0 if batch.images is None else len(batch.images.arrangements)
        seen.append((batch.tokens.shape[1], pictures))
        return prefill(self, batch)

    monkeypatch.setattr(MultimodalSession, "prefill", watched)
    return seen


def say(conversation: Conversation, session: MultimodalSession, tokens: list[int]) -> None:
    for token in tokens:
        session.append(torch.tensor([[token]]))
        conversation.extend(token)


def test_a_further_turn_reads_what_is_new(model, dialogue, reads):
    conversation = Conversation(model)
    # First turn: 10 tokens and a picture; the answer is what the dialogue has at 10..13.
    first = cut(dialogue, num_tokens=10, num_images=1)
    session, logits = conversation.read(first, max_new_tokens=40)
    assert torch.allclose(logits, anew(model, first), atol=1e-5)
    say(conversation, session, dialogue.tokens[0, 10:14].tolist())
    # Second turn: 18 tokens more, another picture.
    _, logits = conversation.read(dialogue, max_new_tokens=8)
    assert torch.allclose(logits, anew(model, dialogue), atol=1e-5)
    assert reads == [(10, 1), (18, 1)]


def test_an_answer_told_otherwise_is_read_again_from_there(model, dialogue, reads):
    conversation = Conversation(model)
    first = cut(dialogue, num_tokens=10, num_images=1)
    session, _ = conversation.read(first, max_new_tokens=40)
    other = (dialogue.tokens[0, 12:14] + 1) % 300
    say(conversation, session, [*dialogue.tokens[0, 10:12].tolist(), *other.tolist()])
    _, logits = conversation.read(dialogue, max_new_tokens=8)
    assert torch.allclose(logits, anew(model, dialogue), atol=1e-5)
    assert reads == [(10, 1), (20, 1)]


def test_a_shortened_dialogue(model, dialogue, reads):
    conversation = Conversation(model)
    conversation.read(dialogue, max_new_tokens=8)
    for num_tokens, num_images in ((25, 2), (15, 1), (3, 0)):
        part = cut(dialogue, num_tokens=num_tokens, num_images=num_images)
        _, logits = conversation.read(part, max_new_tokens=8)
        assert torch.allclose(logits, anew(model, part), atol=1e-5)
    assert reads == [(32, 2), (1, 0), (15, 1), (3, 0)]


def test_another_picture_at_the_same_place(model, dialogue, reads):
    conversation = Conversation(model)
    conversation.read(dialogue, max_new_tokens=8)
    other = replace(dialogue.images, tiles=dialogue.images.tiles.flip(0))
    dialogue = replace(dialogue, images=other)
    _, logits = conversation.read(dialogue, max_new_tokens=8)
    assert torch.allclose(logits, anew(model, dialogue), atol=1e-5)
    assert reads == [(32, 2), (32, 2)]


def test_a_dialogue_that_outgrows_its_memory(model, dialogue, reads):
    conversation = Conversation(model)
    first = cut(dialogue, num_tokens=10, num_images=1)
    conversation.read(first, max_new_tokens=1)
    _, logits = conversation.read(dialogue, max_new_tokens=8)
    assert torch.allclose(logits, anew(model, dialogue), atol=1e-5)
    assert reads == [(10, 1), (32, 2)]


def test_a_reading_that_failed_leaves_nothing_behind(model, dialogue, monkeypatch):
    conversation = Conversation(model)
    conversation.read(cut(dialogue, num_tokens=3, num_images=0), max_new_tokens=40)
    with monkeypatch.context() as patch:
        patch.setattr(model, "remember", lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            conversation.read(dialogue, max_new_tokens=8)
    _, logits = conversation.read(dialogue, max_new_tokens=8)
    assert torch.allclose(logits, anew(model, dialogue), atol=1e-5)


def test_a_long_turn_is_read_in_pieces(model, make_batch, monkeypatch):
    """Unequal rows, some of which end pieces before the others."""
    monkeypatch.setattr("multimodal.session.PIECE", 5)
    batch = make_batch([[(1, (1, 1)), (9, (1, 2))], [(0, (1, 1)), (3, (2, 1))]], num_tokens=23)
    whole = model(batch)
    lengths = torch.tensor([23, 12])
    session = MultimodalSession(model, batch_size=2, max_length=30)
    logits = session.prefill(replace(batch, lengths=lengths))
    assert torch.allclose(logits, whole[torch.arange(2), lengths - 1], atol=2e-5)
    assert session.cache.lengths == [23, 12]
