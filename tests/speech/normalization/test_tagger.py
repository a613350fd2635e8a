"""The tagger: a stream is as the whole, looks no further than it may, and company is nothing."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.normalization.tagger import TaggerConfig, TaggerInput, collate, owners
from speech.normalization.tagging import TaggingStream, tag
from speech.normalization.written import clean, split

TEXT = "Dr. Lee lives at 12 Elm Dr. My PIN is 1234; it's $3.50 (really), e.g. éa x@y.com!"
TEXTS = st.lists(
    st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=6),
    min_size=1,
    max_size=10,
).map(lambda words: clean(" ".join(words)))


def streamed(text, tagger, embeddings):
    stream = TaggingStream(tagger)
    core = None if embeddings is None else embeddings.stream()
    tokens, scores = [], []
    for word in re.findall(r" ?[^ ]+", text):
        read, decided = stream.push(word, core and core.append(word))
        tokens += read
        scores.append(decided)
    return tokens, torch.cat([*scores, stream.finish()])


@pytest.mark.parametrize("look_ahead", [0, 1, 3, 50])
@pytest.mark.parametrize("sees", [False, True])
@settings(max_examples=10, deadline=None)
@given(text=TEXTS)
def test_a_stream_gives_what_the_whole_text_gives(new_tagger, embeddings, look_ahead, sees, text):
    tagger, seen = new_tagger(look_ahead=look_ahead, sees=sees), embeddings if sees else None
    for each in (TEXT, text):
        tokens, scores = streamed(each, tagger, seen)
        wanted_tokens, wanted = tag(each, tagger, seen)
        assert tokens == wanted_tokens
        torch.testing.assert_close(scores, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("look_ahead", [0, 2, 3])
@pytest.mark.parametrize("sees", [False, True])
def test_a_token_beyond_the_look_ahead_changes_nothing(new_tagger, embeddings, look_ahead, sees):
    tagger, seen = new_tagger(look_ahead=look_ahead, sees=sees), embeddings if sees else None
    tokens, scores = tag(TEXT, tagger, seen)
    for changed in range(1, len(tokens)):
        at = tokens[changed].start
        if TEXT[at - 1] != " ":
            continue  # else the token before it could become another one
        _, others = tag(TEXT[:at] + "QQQ 77 zz", tagger, seen)
        same = changed - look_ahead
        if same > 0:
            torch.testing.assert_close(others[:same], scores[:same], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(others[changed - 1 : changed], scores[changed - 1 : changed]) or (
            look_ahead == 0
        )


def test_within_the_look_ahead_it_is_looked_at(new_tagger, embeddings):
    tagger = new_tagger(look_ahead=3, sees=True)
    _, scores = tag("one two three four five", tagger, embeddings)
    _, others = tag("one two three FOUR five", tagger, embeddings)
    assert not torch.allclose(scores[0], others[0], atol=1e-6)


def test_embeddings_are_looked_at_and_no_further_back_than_memory(new_tagger, embeddings):
    tagger = new_tagger(look_ahead=1, sees=True, memory=3)
    read = TaggerInput.of(split(TEXT), before=-1, rows=64).seen_by(
        embeddings.embed(TEXT), split(TEXT)
    )
    batch, lengths = collate([read])
    scores = tagger(batch, lengths)[0]
    assert batch.states is not None and batch.owners is not None
    place = 12
    for owner, is_seen in ((place - 4, False), (place - 3, True), (place + 1, True), (14, False)):
        states = batch.states.clone()
        states[batch.owners == owner] += 1.0
        x = tagger.read(batch, torch.arange(len(scores)))
        again = TaggerInput(batch.words, batch.characters, batch.flags, states, batch.owners)
        changed = tagger.decide(
            x, torch.zeros(1, len(scores), 24), again, torch.arange(len(scores))
        )
        plain = tagger.decide(x, torch.zeros(1, len(scores), 24), batch, torch.arange(len(scores)))
        assert torch.allclose(changed[0, place], plain[0, place]) != is_seen, owner


@pytest.mark.parametrize("look_ahead", [3, None])
def test_company_changes_nothing(new_tagger, embeddings, look_ahead):
    tagger = new_tagger(look_ahead=look_ahead, sees=True)
    texts = [TEXT, "short", "A bit longer, at 5:30."]
    rows = [
        TaggerInput.of(split(text), before=-1, rows=64).seen_by(embeddings.embed(text), split(text))
        for text in texts
    ]
    together = tagger(*collate(rows))
    for text, row in zip(texts, together, strict=True):
        _, alone = tag(text, tagger, embeddings)
        torch.testing.assert_close(row[: len(alone)], alone, atol=1e-5, rtol=1e-4)


def test_without_a_look_ahead_the_last_token_counts_for_the_first(new_tagger):
    tagger = new_tagger(look_ahead=None, sees=False)
    _, scores = tag("a b c d e f g h", tagger, None)
    _, others = tag("a b c d e f g 9", tagger, None)
    assert not torch.allclose(scores[0], others[0], atol=1e-6)
    with pytest.raises(ValueError, match="whole texts"):
        TaggingStream(tagger)


def test_core_tokens_are_owned_by_the_token_in_which_they_end():
    text = "Dr. 1234!"
    ends = [token.end for token in split(text)]
    assert ends == [2, 3, 8, 9]
    assert owners([1, 2, 3, 4, 7, 8, 9], ends) == [0, 0, 1, 2, 2, 2, 3]


def test_senseless_settings_are_refused():
    with pytest.raises(ValueError, match="look_ahead"):
        TaggerConfig(labels=("plain",), look_ahead=-1)
    with pytest.raises(ValueError, match="num_heads"):
        TaggerConfig(labels=("plain",), dim=30, num_heads=4)
    with pytest.raises(ValueError, match="labels"):
        TaggerConfig(labels=())
