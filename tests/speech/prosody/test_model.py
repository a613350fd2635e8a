"""The prosody model: a stream is as the whole, and looks no further than it may."""

import pytest
import torch

from speech.prosody.model import ProsodyConfig, before, collate, owners
from speech.prosody.phones import MAX_CODES, NUM_FLAGS, PhoneInput
from speech.prosody.stream import ProsodyStream, predict

WORDS = (3, 1, 4, 2, 5, 3, 2)  # phones of each
CORE = (1, 2, 1, 1, 3, 2, 1)  # core tokens that end in each


def text(seed=0):
    generator = torch.Generator().manual_seed(seed)
    number = sum(WORDS)
    phones = PhoneInput(
        torch.randint(1, 900, (number, MAX_CODES), generator=generator),
        torch.randn(number, NUM_FLAGS, generator=generator),
    )
    states = torch.randn(sum(CORE), 12, generator=generator)
    firsts = [sum(WORDS[:word]) for word in range(len(WORDS))]
    owned = [firsts[word] for word, tokens in enumerate(CORE) for _ in range(tokens)]
    return phones, states, owned


def whole(model, phones, states, owned):
    cores = [(states, owned)] if model.config.core_dim else None
    batch, lengths = collate([phones], speakers=[1], styles=[1], cores=cores)
    return predict(model, batch, lengths)[0]


def streamed(model, phones, states, owned, *, words_at_once=1):
    stream, said, phone, token = ProsodyStream(model, speaker=1, style=1), [], 0, 0
    for first in range(0, len(WORDS), words_at_once):
        number = sum(WORDS[first : first + words_at_once])
        tokens = sum(CORE[first : first + words_at_once])
        part = slice(phone, phone + number)
        core = None
        if model.config.core_dim:
            core = (
                states[token : token + tokens],
                [owner - phone for owner in owned[token : token + tokens]],
            )
        said.append(stream.append(PhoneInput(phones.codes[part], phones.flags[part]), core))
        phone, token = phone + number, token + tokens
    return torch.cat([*said, stream.finish()])


@pytest.mark.parametrize("sees", [False, True])
@pytest.mark.parametrize(
    ("look_ahead", "memory"), [(0, 500), (1, 500), (4, 500), (40, 500), (3, 6)]
)
@pytest.mark.parametrize("words_at_once", [1, 3])
def test_a_stream_gives_what_the_whole_text_gives(
    new_model, sees, look_ahead, memory, words_at_once
):
    model = new_model(look_ahead=look_ahead, sees=sees, memory=memory)
    given = text()
    wanted = whole(model, *given)
    said = streamed(model, *given, words_at_once=words_at_once)
    assert said.shape == wanted.shape == (sum(WORDS), 3)
    torch.testing.assert_close(said, wanted, atol=1e-4, rtol=1e-4, equal_nan=True)


@pytest.mark.parametrize("look_ahead", [0, 3])
def test_a_phone_beyond_the_look_ahead_changes_nothing(new_model, look_ahead):
    model = new_model(look_ahead=look_ahead, sees=True)
    phones, states, owned = text()
    said = whole(model, phones, states, owned)
    for changed in range(look_ahead + 1, sum(WORDS)):
        flags = phones.flags.clone()
        flags[changed] += 1
        others = whole(model, PhoneInput(phones.codes, flags), states, owned)
        same = changed - look_ahead
        torch.testing.assert_close(others[:same], said[:same], equal_nan=True)
        assert not torch.allclose(others[same], said[same], equal_nan=True)


def test_a_token_of_a_word_that_is_not_there_yet_changes_nothing(new_model):
    model = new_model(look_ahead=2, sees=True)
    phones, states, owned = text()
    said = whole(model, phones, states, owned)
    for token, owner in enumerate(owned):
        changed = states.clone()
        changed[token] += 1
        others = whole(model, phones, changed, owned)
        same = max(0, owner - 2)
        torch.testing.assert_close(others[:same], said[:same], equal_nan=True)
        assert not torch.allclose(others[same], said[same], equal_nan=True)


@pytest.mark.parametrize("look_ahead", [2, None])
def test_company_changes_nothing(new_model, look_ahead):
    model = new_model(look_ahead=look_ahead, sees=True)
    one, two = text(0), text(1)
    short = (
        PhoneInput(two[0].codes[:4], two[0].flags[:4]),
        two[1][:3],
        two[2][:3],
    )
    batch, lengths = collate(
        [one[0], short[0]],
        speakers=[1, 1],
        styles=[1, 1],
        cores=[(one[1], one[2]), (short[1], short[2])],
    )
    together = predict(model, batch, lengths)
    torch.testing.assert_close(together[0], whole(model, *one), equal_nan=True)
    torch.testing.assert_close(
        together[1, :4], whole(model, *short), atol=1e-5, rtol=1e-4, equal_nan=True
    )


def test_a_whole_text_is_looked_at_from_its_end(new_model):
    model = new_model(look_ahead=None, sees=False)
    phones, *core = text()
    said = whole(model, phones, *core)
    flags = phones.flags.clone()
    flags[-1] += 1
    assert not torch.allclose(whole(model, PhoneInput(phones.codes, flags), *core)[0], said[0])
    with pytest.raises(ValueError, match="whole texts"):
        ProsodyStream(model)


def test_what_was_said_comes_delayed():
    said = torch.arange(1.0, 13.0).view(1, 3, 4)
    known = before(said, 2)
    assert known.shape == (1, 4, 5)
    assert known[0, :2].eq(0).all()
    torch.testing.assert_close(known[0, 2:, :4], said[0, :2])
    assert known[0, 2:, 4].eq(1).all()


def test_measures_go_both_ways(new_model):
    model = new_model(look_ahead=1, sees=False)
    measures = torch.tensor([[-2.0, 5.0, -4.0], [-3.0, torch.nan, -9.0]])
    said = model.normalized(measures)
    assert said[1, 1] == 0 and said[:, 3].tolist() == [1, 0]
    out = said.clone()
    out[:, 3] = said[:, 3] * 2 - 1
    torch.testing.assert_close(model.measures(out), measures, equal_nan=True)
    torch.testing.assert_close(model.fed_back(out), said)


def test_core_tokens_are_seen_from_the_first_phone_of_their_word():
    # "The red car.": words end at 3, 7 and 11; "red" is two core tokens, "." belongs to nobody yet
    assert owners([3, 5, 7, 11, 12], [3, 3, 7, 7, 7, 11, 11]) == [0, 2, 2, 5, 7]


def test_the_defaults_are_the_papers():
    config = ProsodyConfig()
    assert (config.dim, config.num_heads) == (864, 6)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"dim": 25}, "num_heads"),
        ({"look_ahead": -1}, "look_ahead"),
        ({"means": (0.0,)}, "means"),
        ({"spreads": (0.0, 1.0, 1.0)}, "spreads"),
    ],
)
def test_senseless_settings_are_refused(changes, fault):
    with pytest.raises(ValueError, match=fault):
        ProsodyConfig(**changes)


def test_unknown_speakers_are_refused(new_model):
    with pytest.raises(ValueError, match="speaker"):
        ProsodyStream(new_model(look_ahead=1, sees=False), speaker=3)
