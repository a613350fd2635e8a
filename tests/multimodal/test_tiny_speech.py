"""The model that ships hears: its samples, a long file of them, a video's sound, and nothing."""

import json
import re

import av
import numpy as np
import pytest
import soundfile

from multimodal.assistant import Assistant, load
from multimodal.cli import main
from multimodal.locations import TINY
from multimodal.transcription import TranscriptionConfig
from multimodal.world.sentences import LANGUAGES
from multimodal.world.speech_evaluation import word_errors
from speech.audio import SAMPLE_RATE, read_audio
from speech.segmentation import SegmentationConfig
from speech.voice_activity import VoiceActivityConfig

RECORDINGS = TINY / "samples" / "recordings"
SENTENCES = json.loads((RECORDINGS / "sentences.json").read_text(encoding="utf-8"))
GATE = SegmentationConfig(voice_activity=VoiceActivityConfig(detector="energy"))


@pytest.fixture(scope="module")
def assistant() -> Assistant:
    assistant = load("tiny", device="cpu")
    assistant.transcription = TranscriptionConfig(segmentation=GATE)
    return assistant


def error_rate(pairs) -> float:
    counted = [word_errors(wanted, heard) for wanted, heard in pairs]
    return sum(wrong for wrong, _ in counted) / sum(words for _, words in counted)


def test_transcribes_sentences_that_it_never_heard(assistant):
    pairs = []
    for name, facts in SENTENCES.items():
        heard = assistant.transcribe(RECORDINGS / name, language=facts["lang"])
        pairs.append((facts["text"], heard.text))
    assert error_rate(pairs) < 0.1
    others = [text for _, text in pairs[1:]] + [pairs[0][1]]
    assert error_rate([(text, other) for (text, _), other in zip(pairs, others, strict=True)]) > 0.7


def test_names_the_language(assistant):
    named = [assistant.transcribe(RECORDINGS / name).language for name in SENTENCES]
    right = [LANGUAGES[facts["lang"]] for facts in SENTENCES.values()]
    assert sum(a == b for a, b in zip(named, right, strict=True)) >= 0.9 * len(right)


def test_translates(assistant):
    right = 0
    for name, facts in SENTENCES.items():
        language, meaning = next(iter(facts["translations"].items()))
        right += assistant.translate(RECORDINGS / name, to=language).text == meaning
    assert right >= 0.7 * len(SENTENCES)


@pytest.fixture(scope="module")
def long_file(tmp_path_factory):
    """Two minutes with twenty sentences, and where each of them is."""
    samples, truth, seconds = [], [], 120.0
    names = list(SENTENCES)[:20]
    sounds = [read_audio(RECORDINGS / name).numpy() for name in names]
    pause = (seconds * SAMPLE_RATE - sum(map(len, sounds))) / len(sounds)
    at = 0
    for name, waveform in zip(names, sounds, strict=True):
        start, end = SENTENCES[name]["speech"]
        truth.append((at / SAMPLE_RATE + start, at / SAMPLE_RATE + end))
        samples += [waveform, np.zeros(round(pause), np.float32)]
        at += len(waveform) + round(pause)
    file = tmp_path_factory.mktemp("long") / "long.wav"
    soundfile.write(file, np.concatenate(samples), SAMPLE_RATE)
    return file, truth


def seconds(clock: str) -> float:
    hours, minutes, rest = clock.replace(",", ".").split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


def test_subtitles_of_a_long_file_stand_where_the_speech_is(tmp_path, long_file, capsys):
    file, truth = long_file
    words = ["transcribe", str(file), "--output-format", "srt", "--output-dir", str(tmp_path)]
    assert main([*words, "--detector", "energy", "--device", "cpu"]) == 0
    capsys.readouterr()
    cues = re.findall(r"(\S+) --> (\S+)\n(.+)", (tmp_path / "long.srt").read_text())
    assert len(cues) == len(truth)
    for (start, end, _), (first, last) in zip(cues, truth, strict=True):
        assert abs(seconds(start) - first) < 0.3
        assert abs(seconds(end) - last) < 0.3


def test_the_sound_of_a_video(tmp_path, assistant):
    name, facts = next((n, f) for n, f in SENTENCES.items() if f["lang"] == "en")
    waveform = read_audio(RECORDINGS / name).numpy()
    file = tmp_path / "clip.mp4"
    with av.open(str(file), "w") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for _ in range(int(10 * len(waveform) / SAMPLE_RATE) + 1):
            still = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(picture.encode(still))
        container.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    assert error_rate([(facts["text"], assistant.transcribe(file, language="en").text)]) <= 0.25


def test_a_recording_and_a_picture_in_one_dialogue(assistant):
    scenes = json.loads((TINY / "samples" / "scenes.json").read_text())
    picture, facts = next(iter(scenes.items()))
    name, said = next((n, f) for n, f in SENTENCES.items() if f["lang"] == "en")
    prompt = assistant.model.config.speech_prompts.transcribe.format(language="English")
    heard = [
        {"role": "system", "content": prompt},
        {"role": "user", "content": [{"type": "audio", "audio": str(RECORDINGS / name)}]},
    ]
    shown = {"type": "image", "image": str(TINY / "samples" / picture)}
    seen = [{"role": "user", "content": [shown, {"type": "text", "text": "Describe the picture."}]}]
    both = assistant.answer_all([heard, seen])
    assert both[1] == assistant.caption(str(TINY / "samples" / picture))
    assert error_rate([(said["text"], both[0])]) <= 0.25
    assert facts["caption"]


def test_nobody_speaks(assistant):
    rng = np.random.default_rng(0)
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    nothing = {
        "silence": np.zeros(3 * SAMPLE_RATE),
        "noise": 0.05 * rng.standard_normal(3 * SAMPLE_RATE),
        "tone": 0.3 * np.sin(2 * np.pi * 523 * time),
    }
    for kind, waveform in nothing.items():
        assert assistant.transcribe((waveform.astype(np.float32), SAMPLE_RATE)).text == "", kind
