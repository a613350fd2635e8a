"""From text to sound while the text comes, with a synthesizer that only notes what it is asked."""

import numpy as np
import pytest
import soundfile
import torch

from language.checkpoint import save_llama
from language.config import LlamaConfig
from language.errors import InputError
from language.model import Llama
from language.tokenizer import train_bpe
from speech.embeddings import CoreEmbeddings
from speech.normalization.checkpoint import save_tagger
from speech.normalization.normalizer import Normalizer
from speech.normalization.rules import language
from speech.normalization.tagger import Tagger, TaggerConfig
from speech.prosody.checkpoint import load_prosody, save_prosody
from speech.prosody.model import ProsodyConfig, ProsodyModel
from speech.prosody.phones import FileLexicon, split_stress
from speech.speaker import MAX_WORDS, Speaker, load_speaker, write_speaker_config

TEXT = "We saw the red car, not the blue one. It was 5:30; was it late? " + "on and " * 12 + "end"


class Letters(FileLexicon):
    """Every letter is a phone."""

    def __init__(self):
        super().__init__([])

    def phones(self, words, *, first_word=0):
        return [
            split_stress(letter, number)
            for number, word in enumerate(words, start=first_word)
            for letter in word.text
        ]


class Notes:
    """Ten samples a phone."""

    rate = 1000

    def __init__(self):
        self.asked = []

    def say(self, words, phones, measures):
        self.asked.append((list(words), list(phones), measures))
        return np.full(10 * len(phones), 0.1, np.float32), self.rate


@pytest.fixture(scope="module")
def core():
    torch.manual_seed(0)
    tokenizer = train_bpe([TEXT] * 20, num_merged=40)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        dim=16,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        ffn_dim=24,
        rope_theta=10000.0,
        max_positions=512,
    )
    model = Llama(config)
    model.reset_parameters()
    return CoreEmbeddings(model.eval(), tokenizer, layer=1)


def new_tagger(core, *, sees=True, look_ahead=2):
    torch.manual_seed(1)
    labels = language("en").labels
    config = TaggerConfig(
        labels=labels,
        look_ahead=look_ahead,
        core_dim=core.dim if sees else None,
        dim=16,
        hidden_dim=16,
    )
    return Tagger(config).eval()


def new_prosody(core, *, sees=True, look_ahead=3):
    torch.manual_seed(2)
    config = ProsodyConfig(
        dim=24, num_layers=1, ffn_dim=24, look_ahead=look_ahead, core_dim=core.dim if sees else None
    )
    return ProsodyModel(config).eval()


@pytest.fixture
def speaker(core):
    normalizer = Normalizer(new_tagger(core), language("en"), core)
    return Speaker(normalizer, new_prosody(core), Notes(), embeddings=core, lexicon=Letters())


def test_every_word_is_said_once_and_in_order(speaker):
    phrases = list(speaker.stream([TEXT]))
    said = [word.text for phrase in phrases for word in phrase.words]
    wanted = [w for s in speaker.normalizer.spans(TEXT) for w in s.said.replace(",", " ").split()]
    assert said == wanted
    numbers = [phone.word for phrase in phrases for phone in phrase.phones]
    assert numbers == sorted(numbers) and set(numbers) == set(range(len(said)))
    for phrase in phrases:
        assert len(phrase.words) <= MAX_WORDS + 12 and phrase.measures.shape == (
            len(phrase.phones),
            3,
        )


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_pieces_sound_as_the_whole(speaker, size):
    whole = list(speaker.stream([TEXT]))
    pieces = [TEXT[i : i + size] for i in range(0, len(TEXT), size)]
    streamed = list(speaker.stream(pieces))
    assert [phrase.words for phrase in streamed] == [phrase.words for phrase in whole]
    for one, other in zip(streamed, whole, strict=True):
        torch.testing.assert_close(
            one.measures, other.measures, atol=1e-4, rtol=1e-4, equal_nan=True
        )


def test_sound_comes_before_the_text_ends(speaker):
    read = []

    def pieces():
        for word in TEXT.split(" "):
            read.append(word)
            yield word + " "

    next(iter(speaker.stream(pieces())))
    assert len(read) <= 2 * MAX_WORDS < len(TEXT.split())


@pytest.mark.parametrize("sees", [False, True])
def test_embeddings_are_seen_by_whoever_asks(core, sees):
    normalizer = Normalizer(new_tagger(core, sees=not sees), language("en"), None if sees else core)
    prosody = new_prosody(core, sees=sees)
    speaker = Speaker(normalizer, prosody, Notes(), embeddings=core, lexicon=Letters())
    assert list(speaker.stream([TEXT]))


def test_marks_pause(speaker):
    (phrase,) = speaker.stream(["we saw it."])
    assert phrase.words[-1].after in (".", "")
    if phrase.words[-1].after:
        assert len(phrase.samples) == 10 * len(phrase.phones) + 300


def test_a_file(speaker, tmp_path):
    sound = speaker.speak("We saw it.", tmp_path / "out.wav")
    read, rate = soundfile.read(tmp_path / "out.wav")
    assert rate == Notes.rate and len(read) == len(sound)
    with pytest.raises(InputError, match="nothing that could be said"):
        speaker.speak(" \n ", tmp_path / "none.wav")
    assert not (tmp_path / "none.wav").exists()
    with pytest.raises(InputError, match="cannot be written"):
        speaker.speak("We saw it.", tmp_path / "nowhere/out.wav")


def test_what_does_not_belong_together(core):
    normalizer = Normalizer(new_tagger(core), language("en"), core)
    with pytest.raises(ValueError, match="embeddings"):
        Speaker(normalizer, new_prosody(core), Notes())
    with pytest.raises(ValueError, match="look-ahead"):
        Speaker(normalizer, new_prosody(core, look_ahead=None), Notes(), embeddings=core)


@pytest.fixture
def directory(core, tmp_path):
    target = tmp_path / "speaker"
    target.mkdir()
    core.tokenizer.save(tmp_path)
    save_llama(core.core, target / "core", companions=tmp_path)
    save_tagger(new_tagger(core), target / "normalization", language_code="en")
    save_prosody(new_prosody(core), target / "prosody")
    write_speaker_config(target, core_layer=1)
    return target


def test_a_saved_prosody_model_says_the_same(core, directory):
    one, other = new_prosody(core), load_prosody(directory / "prosody")
    assert one.config == other.config
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_a_directory(directory):
    pytest.importorskip("speech.prosody.render")
    speaker = load_speaker(directory)
    assert speaker.normalizer.tagger.config.look_ahead == 2
    assert len(speaker.speak("We saw 3 cars.")) > 1000


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("openherd-speaker", "other", "no speaker"),
        ('"core_layer": 1', '"core_layer": 9', "layer must be"),
        ('"core_layer": 1', '"core": "nowhere"', "nowhere"),
    ],
)
def test_broken_directories(directory, old, new, fault):
    pytest.importorskip("speech.prosody.render")
    file = directory / "config.json"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(InputError, match=fault):
        load_speaker(directory)


def test_parts_that_are_missing(directory):
    pytest.importorskip("speech.prosody.render")
    (directory / "prosody/model.safetensors").unlink()
    with pytest.raises(InputError, match="prosody"):
        load_speaker(directory)
