"""What is rendered has the durations, the pitch and the power that were asked for."""

import numpy as np
import pytest
import torch

from language.errors import InputError
from speech.espeak import synthesise
from speech.prosody.measures import measure
from speech.prosody.phones import EspeakLexicon, FileLexicon, ProsodyPhone, Word
from speech.prosody.render import EspeakSynthesizer, psola, with_power

pytest.importorskip("espeakng_loader")
pytest.importorskip("parselmouth")


def words(*texts):
    return [Word(text, 0) for text in texts]


def natural(said):
    spans = [(phone.start_seconds, phone.end_seconds) for phone in said.phones]
    return torch.tensor(measure(said.samples, said.rate, spans))


@pytest.mark.parametrize(("slower", "higher", "louder"), [(1.0, 1.0, 1.0), (1.5, 1.3, 2.0)])
def test_phones_are_as_they_were_asked_for(slower, higher, louder):
    spoken = words("many", "yellow", "lions", "were", "running")
    said = synthesise("many yellow lions were running", "en-us")
    phones = EspeakLexicon().phones(spoken)
    asked = natural(said) + torch.log(torch.tensor([slower, higher, louder]))
    samples, rate = EspeakSynthesizer().say(spoken, phones, asked)
    ends = torch.exp(asked[:, 0]).cumsum(0).numpy()
    assert len(samples) / rate == pytest.approx(ends[-1], abs=1e-3)
    spans = np.stack([ends - torch.exp(asked[:, 0]).numpy(), ends], axis=1)
    heard = measure(samples, rate, spans)
    difference = np.abs(heard - asked.numpy())
    assert np.nanmedian(difference[:, 1]) < 0.04
    assert np.nanquantile(difference[:, 1], 0.8) < 0.05  # glides mislead what measures pitch
    assert np.median(difference[:, 2]) < 0.2


def test_durations_are_those_of_the_phones_themselves():
    """Two tones are told apart by their pitch: the border lies where the durations put it."""
    rate = 16_000
    times = np.arange(rate) / rate
    phase = 2 * np.pi * np.cumsum(np.where(times < 0.5, 150.0, 250.0)) / rate
    sound = sum(np.sin(k * phase) / k for k in range(1, 6)).astype(np.float32) * 0.2
    spans = np.array([[0.0, 0.5], [0.5, 1.0]])
    made = psola(sound, rate, spans, np.array([0.25, 0.8]), np.array([np.nan, np.nan]))
    assert len(made) / rate == pytest.approx(1.05)
    found = measure(made, rate, [(0.03, 0.22), (0.28, 1.0)])
    assert np.exp(found[:, 1]) == pytest.approx([150, 250], rel=0.03)


def test_power_is_set_phone_by_phone():
    generator = np.random.default_rng(0)
    sound = generator.normal(0, 0.05, 16_000).astype(np.float32)
    sound[4000:8000] = 0
    spans = np.arange(4)[:, None] * 0.25 + np.array([[0.0, 0.25]])
    made = with_power(sound, 16_000, spans, np.log([0.01, 0.01, 0.001, 0.004]))
    inner = [made[4000 * i + 400 : 4000 * (i + 1) - 400] for i in range(4)]
    assert [np.mean(part**2) for part in inner] == pytest.approx([0.01, 0, 0.001, 0.004], rel=0.1)


def test_a_lexicon_with_other_phones_is_spoken_too():
    lexicon = FileLexicon(["lion l ˈa j ə n", "ran ɹ ˈa n"])
    spoken = words("lion", "ran")
    phones = lexicon.phones(spoken)
    asked = torch.tensor([[-2.3, 4.8, -5.0]] * len(phones))
    samples, rate = EspeakSynthesizer().say(spoken, phones, asked)
    assert len(samples) / rate == pytest.approx(0.1 * len(phones), rel=0.02)


def test_what_cannot_be_said_is_refused():
    with pytest.raises(ValueError, match="a row for each phone"):
        EspeakSynthesizer().say(words("no"), [ProsodyPhone("n", 0, 0)], torch.zeros(2, 3))
    with pytest.raises(InputError, match="no such voice"):
        EspeakSynthesizer("en-us+nobody").say(
            words("no"), [ProsodyPhone("n", 0, 0)], torch.zeros(1, 3)
        )
