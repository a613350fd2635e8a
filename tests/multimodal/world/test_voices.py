"""Voices of the spoken world: who speaks, the same each time, and phones where they are heard."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from language.errors import InputError
from multimodal.world.voices import ACCENTS, Voice, speak, speak_with_phones, voices

SENTENCES = {
    "en": "Peter buys three red cups.",
    "es": "Peter compra tres tazas rojas.",
    "de": "Peter kauft drei rote Tassen.",
}
ANNA = Voice(name="en-us+f2", language="en")


def variant(voice: Voice) -> str:
    return voice.name.partition("+")[2]


def fundamental(samples: np.ndarray, rate: int) -> float:
    """Median pitch in Hz by autocorrelation of the loud windows of 40 ms."""
    size, found = int(0.04 * rate), []
    for start in range(0, len(samples) - size, size // 2):
        window = samples[start : start + size] * np.hanning(size)
        if np.abs(window).max() < 0.05:
            continue
        correlation = np.correlate(window, window, "full")[size - 1 :]
        shortest, longest = rate // 400, rate // 60
        period = shortest + int(correlation[shortest:longest].argmax())
        if correlation[period] > 0.5 * correlation[0]:
            found.append(rate / period)
    return float(np.median(found))


@pytest.mark.parametrize("language", ACCENTS)
def test_held_out_speakers_are_not_in_training(language):
    trained, held_out = voices(language, "train"), voices(language, "test")
    assert voices(language, "validation") == trained
    assert not {variant(voice) for voice in trained} & {variant(voice) for voice in held_out}
    assert len({variant(voice) for voice in trained}) >= 20
    assert len({variant(voice) for voice in held_out}) >= 4
    assert len(set(trained + held_out)) == len(trained) + len(held_out)


def test_a_voice_out_of_range_is_refused():
    with pytest.raises(ValueError, match="rate"):
        replace(ANNA, rate=10)
    with pytest.raises(ValueError, match="pitch"):
        replace(ANNA, pitch=100)
    with pytest.raises(ValueError, match="language"):
        Voice(name="fr", language="fr")  # type: ignore[arg-type]


def test_the_module_opens_nothing_when_imported():
    code = "import sys, multimodal.world.voices; assert 'espeakng_loader' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(InputError, match=r"pip install openherd\[speak\]"):
        speak("Hello.", ANNA)


class TestSpeaking:
    @pytest.fixture(autouse=True)
    def espeak(self):
        pytest.importorskip("espeakng_loader")

    @pytest.mark.parametrize("language", ACCENTS)
    def test_every_voice_speaks_and_sounds_its_own(self, language):
        heard = set()
        everyone = voices(language, "train") + voices(language, "test")
        for voice in everyone:
            samples, rate = speak(SENTENCES[language], voice)
            assert samples.dtype == np.float32 and rate == 22050
            assert 0.8 < len(samples) / rate < 5
            assert 0.03 < np.abs(samples).max() < 0.9, f"{voice.name}: too quiet, or clipped"
            heard.add(samples.tobytes())
        assert len(heard) == len(everyone)

    def test_the_same_text_and_voice_sound_the_same_whatever_came_before(self):
        first, _ = speak(SENTENCES["en"], ANNA)
        for other in ("de", "es"):
            speak(SENTENCES[other], voices(other, "train")[3])
        assert np.array_equal(speak(SENTENCES["en"], ANNA)[0], first)

    def test_the_same_in_another_process(self):
        code = (
            "import hashlib; from multimodal.world.voices import Voice, speak; "
            f"print(hashlib.sha256(speak({SENTENCES['en']!r}, {ANNA!r})[0]).hexdigest())"
        )
        other = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
        samples, _ = speak(SENTENCES["en"], ANNA)
        assert other.stdout.strip() == hashlib.sha256(samples).hexdigest()

    def test_threads_do_not_disturb_each_other(self):
        speakers = [voices(language, "train")[i] for language in ACCENTS for i in range(4)]
        alone = [speak(SENTENCES[voice.language], voice)[0] for voice in speakers]
        with ThreadPoolExecutor(4) as pool:
            together = list(
                pool.map(lambda voice: speak(SENTENCES[voice.language], voice), speakers)
            )
        for one, (other, _) in zip(alone, together, strict=True):
            assert np.array_equal(one, other)

    def test_rate_and_pitch_are_heard(self):
        slow, rate = speak(SENTENCES["en"], replace(ANNA, rate=120))
        fast, _ = speak(SENTENCES["en"], replace(ANNA, rate=220))
        assert len(fast) < 0.7 * len(slow)
        low, _ = speak(SENTENCES["en"], replace(ANNA, pitch=25))
        high, _ = speak(SENTENCES["en"], replace(ANNA, pitch=75))
        assert fundamental(high, rate) > 1.15 * fundamental(low, rate)

    def test_phones_come_in_order_and_where_they_sound(self):
        samples, rate, phones = speak_with_phones("A sun, a sea, a seal.", ANNA)
        assert np.array_equal(samples, speak("A sun, a sea, a seal.", ANNA)[0])
        starts = [phone.start_seconds for phone in phones]
        assert starts == sorted(starts) and 0 <= starts[0] and starts[-1] < len(samples) / rate
        assert [phone.symbol for phone in phones].count("s") == 3
        # An independent clock: only the hiss of an s has most of its power above 4 kHz.
        size = int(0.01 * rate)
        for phone, following in zip(phones, phones[1:], strict=False):
            middle = int((phone.start_seconds + following.start_seconds) / 2 * rate)
            window = samples[middle - size : middle + size] * np.hanning(2 * size)
            power = np.abs(np.fft.rfft(window)) ** 2
            above = power[np.fft.rfftfreq(2 * size, 1 / rate) > 4000].sum() / power.sum()
            assert (above > 0.5) == (phone.symbol == "s"), phone

    @pytest.mark.parametrize(
        ("name", "fault"),
        [("en-us+nobody", "no such voice"), ("en-gb", "returned"), ("xx", "returned")],
    )
    def test_a_voice_that_does_not_exist_is_refused(self, name, fault):
        with pytest.raises(InputError, match=fault):
            speak("Hello.", Voice(name=name, language="en"))
        assert len(speak("Hello.", ANNA)[0]), "the next one speaks"
