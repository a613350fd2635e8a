"""Recordings of any length as text: cut, answered side by side, nothing lost without a word."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from language.errors import InputError
from multimodal.assistant import load
from multimodal.cli import main
from multimodal.prompts import spoken_request
from multimodal.transcription import TranscriptionConfig
from speech.segmentation import SegmentationConfig, speech_segments
from speech.voice_activity import VoiceActivityConfig
from tests.multimodal.speaking import RATE, sound, write_speaking

GATE = SegmentationConfig(voice_activity=VoiceActivityConfig(detector="energy"))


def quiet(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), dtype=np.float32)


@pytest.fixture(scope="module")
def talk() -> np.ndarray:
    """Three stretches of speech-like sound between silences."""
    parts = [quiet(0.8)]
    for seed, seconds in enumerate((1.2, 0.9, 1.6)):
        parts += [sound(seconds, seed=seed)[0], quiet(0.8)]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_speaking(tmp_path_factory.mktemp("speaking") / "model")


@pytest.fixture
def assistant(directory):
    assistant = load(directory)
    assistant.configure(max_new_tokens=5)
    assistant.transcription = TranscriptionConfig(segmentation=GATE, min_confidence=-1e9)
    return assistant


def test_each_stretch_is_answered_as_alone(assistant, talk):
    transcript = assistant.transcribe((talk, RATE), language="en")
    cut = list(speech_segments(iter([torch.from_numpy(talk)]), GATE))
    assert len(cut) == 3
    prompt = "Repeat after me in English:"
    alone = assistant.answer_all(spoken_request((segment.samples, RATE), prompt) for segment in cut)
    said = [text.strip() for text in alone]
    assert [segment.text for segment in transcript.segments] == [text for text in said if text]
    assert transcript.text == " ".join(segment.text for segment in transcript.segments)
    assert transcript.language == "English"
    assert transcript.duration == pytest.approx(len(talk) / RATE)
    for segment, kept in zip(cut, transcript.segments, strict=True):
        assert (kept.start, kept.end) == (segment.speech_start, segment.speech_end)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_pieces_join_to_the_segments(assistant, talk, batch_size):
    assistant.transcription = replace(assistant.transcription, batch_size=batch_size)
    hearing = assistant.hearing((talk, RATE), language="English")
    shown, texts = "", []
    for piece in hearing.pieces():
        shown += piece.text
        if piece.segment is not None:
            texts.append((shown.strip(), piece.segment.text))
            shown = ""
    assert len(texts) == 3
    assert all(text == kept for text, kept in texts)
    assert hearing.transcript() == assistant.transcribe((talk, RATE), language="English")


def test_silence_and_tones_are_not_asked_about(assistant):
    time = np.arange(4 * RATE) / RATE
    for waveform in (quiet(3), (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)):
        transcript = assistant.transcribe((waveform, RATE))
        assert transcript.text == "" and transcript.segments == ()
        assert transcript.language is None


def test_what_is_not_made_out_is_said(assistant, talk):
    assistant.transcription = replace(assistant.transcription, min_confidence=-1e-6)
    transcript = assistant.transcribe((talk, RATE), language="en")
    assert transcript.text == ""
    assert len([r for r in transcript.remarks if "no words made out" in r]) == 3


def test_confidence_is_the_mean_over_the_answer(assistant, talk):
    segment = next(iter(speech_segments(iter([torch.from_numpy(talk)]), GATE)))
    messages = spoken_request((segment.samples, RATE), "Repeat after me in English:")
    batch = assistant.processor(messages)
    scores = []
    with torch.no_grad():
        for _ in range(5):
            shares = assistant.model(batch)[0, -1].log_softmax(-1)
            scores.append(float(shares.max()))
            token = int(shares.argmax())
            if token in assistant.generation.stop_ids:
                break
            more = torch.tensor([[token]])
            batch = replace(
                batch,
                tokens=torch.cat((batch.tokens, more), 1),
                lengths=batch.lengths + 1,
                spoken=torch.cat((batch.spoken, torch.zeros(1, 1, dtype=torch.bool)), 1),
            )
    mean = sum(scores) / len(scores)
    for bound, kept in ((mean - 1e-3, True), (mean + 1e-3, False)):
        assistant.transcription = replace(assistant.transcription, min_confidence=bound)
        remarks = assistant.transcribe((segment.samples.numpy(), RATE), language="en").remarks
        assert any("no words made out" in remark for remark in remarks) != kept


def test_an_answer_that_does_not_end_is_remarked(assistant, talk):
    transcript = assistant.transcribe((talk, RATE), language="en")
    unfinished = [remark for remark in transcript.remarks if "cut" in remark]
    assert len(unfinished) == len(transcript.segments)


def test_translation_is_another_question(assistant, talk):
    spanish = assistant.hearing((talk, RATE), to="es")
    assert spanish.to == "Spanish"
    with pytest.raises(InputError, match="Klingon"):
        assistant.translate((talk, RATE), to="Klingon")


def test_a_model_without_ears_says_so(tmp_path, talk):
    from multimodal.checkpoint import load_model, save_model
    from tests.multimodal.speaking import TOKENIZER

    whole = load_model(write_speaking(tmp_path / "whole"))
    deaf = load_model(tmp_path / "whole", without=whole.config)
    save_model(deaf, tmp_path / "deaf", TOKENIZER)
    with pytest.raises(InputError, match="cannot hear"):
        load(tmp_path / "deaf").transcribe((talk, RATE))


@pytest.fixture
def files(tmp_path, talk):
    """A folder with good recordings and bad ones."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    soundfile.write(folder / "good.wav", talk, RATE)
    soundfile.write(folder / "eight.flac", np.stack([talk] * 8, axis=1), 48_000)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("this is no sound\n" * 50)
    buffer = io.BytesIO()
    soundfile.write(buffer, talk, RATE, format="FLAC")
    (folder / "cut.flac").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    soundfile.write(folder / "zero.wav", quiet(0), RATE)
    broken = talk.copy()
    broken[100] = np.nan
    soundfile.write(folder / "nan.wav", broken, RATE, subtype="FLOAT")
    return folder


def run(capfd, *words: object) -> tuple[int, str, list[str]]:
    status = main([str(word) for word in words])
    out, err = capfd.readouterr()
    return status, out, [line for line in err.splitlines() if line.startswith("openherd: ")]


@pytest.mark.parametrize("name", ["empty.wav", "text.wav", "cut.flac", "zero.wav", "nan.wav"])
def test_a_bad_recording_is_one_line(capfd, directory, files, name):
    status, out, faults = run(capfd, "transcribe", files / name, "--model", directory)
    assert status == 2 and out == ""
    assert len(faults) == 1 and name in faults[0]


def test_good_ones_are_answered_beside_bad_ones(capfd, directory, files):
    use = ("--model", directory, "--max_new_tokens", 4, "--detector", "energy", "--language", "en")
    status, out, faults = run(capfd, "transcribe", files, *use, "--json")
    answers = {json.loads(line)["file"].rpartition("/")[2]: json.loads(line) for line in
               out.splitlines()}  # fmt: skip
    assert status == 2 and set(answers) == {"good.wav", "eight.flac"}
    named = [
        fault
        for fault in faults
        if any(n in fault for n in ("empty", "text", "cut.f", "zero", "nan"))
    ]
    assert len(named) == 5
    assert answers["good.wav"]["language"] == "English"


def test_files_are_written(capfd, tmp_path, directory, files):
    use = ("--model", directory, "--max_new_tokens", 4, "--detector", "energy", "--language", "en")
    target = tmp_path / "texts"
    status, *_ = run(
        capfd,
        "transcribe",
        files / "good.wav",
        *use,
        "--output-format",
        "all",
        "--output-dir",
        target,
    )
    assert status == 0
    assert {file.name for file in target.iterdir()} == {
        f"good.{form}" for form in ("txt", "json", "srt", "vtt", "tsv")
    }
    assert "language" in json.loads((target / "good.json").read_text())


def test_two_texts_never_share_a_file(capfd, tmp_path, directory, files, talk):
    soundfile.write(files / "good.flac", talk, RATE)
    both = (files / "good.wav", files / "good.flac")
    status, _, faults = run(
        capfd, "transcribe", *both, "--model", directory, "--output-format", "txt"
    )
    assert status == 2 and "overwrite" in faults[0]


def test_unknown_language(capfd, directory, files):
    status, _, faults = run(
        capfd, "translate", files / "good.wav", "--to", "Klingon", "--model", directory
    )
    assert status == 2 and len(faults) == 1


def test_a_model_that_samples_in_dialogue_does_not_when_it_writes_down(tmp_path, talk):
    directory = write_speaking(tmp_path / "model")
    file = directory / "generation_config.json"
    told = json.loads(file.read_text()) | {"do_sample": True, "temperature": 5.0}
    file.write_text(json.dumps(told))
    texts = set()
    for seed in range(3):
        assistant = load(directory)
        assistant.configure(max_new_tokens=5, seed=seed)
        assistant.transcription = TranscriptionConfig(segmentation=GATE, min_confidence=-1e9)
        texts.add(assistant.transcribe((talk, RATE), language="en").text)
    assert len(texts) == 1


def test_date_lines_of_a_template_are_not_in_the_prompt(tmp_path, talk):
    directory = write_speaking(tmp_path / "model")
    (directory / "chat_template.jinja").write_text("Cutting Knowledge Date: December 2023")
    dated = load(directory)
    assert dated.processor.date is not None
    hearing = dated.hearing((talk, RATE), language="en")
    prompt = spoken_request(sound(0.5), "Repeat after me in English:")
    row = hearing.processor.encode(prompt, train=False)
    plain = load(write_speaking(tmp_path / "plain")).processor.encode(prompt, train=False)
    assert row.tokens.tolist() == plain.tokens.tolist()


def test_what_was_heard_before_a_fault_is_kept(assistant, talk, monkeypatch):
    def broken(*_, **__):
        yield torch.from_numpy(talk)
        raise InputError("talk.wav", "broken at 7 s")

    monkeypatch.setattr("multimodal.transcription.stream_audio", broken)
    hearing = assistant.hearing("talk.wav", language="en")
    with pytest.raises(InputError, match="broken at 7 s"):
        for _ in hearing.pieces():
            pass
    assert len(hearing.segments) == 3 and not hearing.is_complete


def test_only_languages_count_as_languages(assistant, talk):
    transcript = assistant.transcribe((talk, RATE))  # random weights name none
    assert transcript.language is None
    assert len(transcript.segments) == 3


def test_recordings_heard_side_by_side_are_each_heard_as_alone(assistant, talk):
    """Short ones, one of three stretches, and one in which nobody speaks."""
    recordings = [(sound(0.5 + 0.3 * n, seed=n)[0], RATE) for n in range(4)]
    recordings += [(talk, RATE), (quiet(1.0), RATE)]
    assistant.transcription = replace(assistant.transcription, batch_size=4)
    together = assistant.hear_all(recordings, language="en")
    assert together == [assistant.transcribe(each, language="en") for each in recordings]
    assert len(together[4].segments) == 3 and not together[5].text
    translated = assistant.hear_all(recordings, to="German")
    assert translated == [assistant.translate(each, to="German") for each in recordings]
    unknown = assistant.hear_all(recordings[:2])  # each is asked for its language
    assert unknown == [assistant.transcribe(each) for each in recordings[:2]]
    assert assistant.hear_all([], language="en") == []
    with pytest.raises(InputError):
        assistant.hear_all([recordings[0], b"no sound"], language="en")
