"""Recordings in the dialogue: their places, what they change, and what they leave alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from language.errors import InputError
from multimodal.adapter_checkpoint import SPEECH_PARTS, load_adapter, open_adapter, save_adapter
from multimodal.assistant import Assistant, load
from multimodal.checkpoint import load_model
from multimodal.model import MultimodalLlama
from multimodal.processor import Processor
from multimodal.rows import collate
from speech.audio import read_audio
from tests.multimodal.speaking import (
    TOKENIZER,
    says,
    sound,
    speaking_model,
    write_speaking,
)


@pytest.fixture(scope="module")
def model() -> MultimodalLlama:
    return speaking_model()


@pytest.fixture(scope="module")
def processor(model) -> Processor:
    return Processor(TOKENIZER, model.config)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_speaking(tmp_path_factory.mktemp("speaking") / "model")


@pytest.mark.parametrize("num_samples", [1, 399, 400, 401, 1039, 1040, 16_000, 16_001, 40_123])
def test_a_recording_has_as_many_places_as_embeddings(model, processor, num_samples):
    samples = torch.from_numpy(sound(3)[0][:num_samples])
    batch = processor([says((samples.numpy(), 16_000))])
    with torch.no_grad():
        heard = model.hear(batch.recordings)
    assert len(heard) == int(batch.spoken.sum()) == processor.num_positions(num_samples)
    assert torch.equal(heard[0], model.speech_adapter.start)
    assert torch.equal(heard[-1], model.speech_adapter.end)


def test_embeddings_stand_where_the_recordings_are(model, processor):
    first, second = sound(0.7, seed=1), sound(1.3, seed=2)
    batch = processor([says("one", first, "two", second, "three")])
    with torch.no_grad():
        embedded = model.embed_batch(batch, model.sense(batch))[0]
        alone = [model.hear(processor([says(each)]).recordings) for each in (first, second)]
        text = model.embed(batch.tokens.masked_fill(batch.spoken, 0))[0]
    assert torch.allclose(embedded[batch.spoken[0]], torch.cat(alone), atol=1e-5)
    assert torch.equal(embedded[~batch.spoken[0]], text[~batch.spoken[0]])
    runs = batch.spoken[0].int().diff().clamp(min=0).sum()
    assert int(runs) == 2


def test_rows_without_recordings_are_the_core_s_own(model, processor):
    rows = [
        processor.encode([says("What is the cup?")], train=False),
        processor.encode([says(sound(0.5))], train=False),
    ]
    batch = processor.collate(rows)
    length = int(batch.lengths[0])
    with torch.no_grad():
        heard = model(batch)[0, :length]
        text = batch.tokens.masked_fill(batch.spoken, 0)
        core = model.language(text)[0, :length]
    assert torch.equal(heard, core)


def test_a_row_says_the_same_alone_and_beside_others(model, processor):
    rows = [
        processor.encode([says("one", sound(s, seed=i))], train=False)
        for i, s in enumerate((0.4, 1.7, 0.9))
    ]
    with torch.no_grad():
        together = model(processor.collate(rows))
        for row, logits in zip(rows, together, strict=True):
            alone = model(processor.collate([row]))[0]
            assert (alone - logits[: len(alone)]).abs().max() < 1e-4


def test_sound_matters(model, processor):
    with torch.no_grad():
        one, other = (model(processor([says(sound(1.0, seed=s))])) for s in (1, 2))
    assert (one[0, -1] - other[0, -1]).abs().max() > 1e-3


def test_pictures_and_recordings_in_one_message(model, processor):
    picture = Image.new("RGB", (20, 30), "red")
    message = says("one", sound(0.6), "two")
    message["content"].insert(2, {"type": "image", "image": picture})
    batch = processor([message])
    place = int((batch.tokens[0] == TOKENIZER.image_id).nonzero())
    assert batch.visible[0, place:].all() and not batch.visible[0, :place].any()
    assert int(batch.spoken[0].nonzero()[-1]) == place - 1
    with torch.no_grad():
        assert model(batch).isfinite().all()


def test_only_answers_are_learned(processor):
    messages = [says(sound(0.6)), {"role": "assistant", "content": "one two"}]
    row = processor.encode(messages)
    learned = row.tokens[1:][row.targets[:-1] != -100]
    assert TOKENIZER.decode(learned.tolist()) == "one two<|eot_id|>"
    assert not (row.targets[row.spoken] >= 0).any()


def test_dialogues_about_one_recording_decode_it_once(processor, monkeypatch):
    read = []

    def counting(item, **settings):
        read.append(item)
        return read_audio(item, **settings)

    monkeypatch.setattr("multimodal.processor.read_audio", counting)
    first, second = sound(0.5, seed=1), sound(0.7, seed=2)
    dialogues = [[says(heard), says("one", role="assistant")] for heard in (first, second, first)]
    row = processor.encode(dialogues)
    assert len(read) == 2 and len(row.recordings) == 3
    alone = [processor.encode(dialogue) for dialogue in dialogues]
    assert row.tokens.tolist() == [token for each in alone for token in each.tokens.tolist()]
    for found, each in zip(row.recordings, alone, strict=True):
        assert torch.equal(found, each.recordings[0])


def test_a_row_of_text_has_no_recordings(processor):
    batch = collate([processor.encode([says("one")], train=False)], pad_id=TOKENIZER.pad_id)
    assert batch.recordings is None and batch.spoken is None


def test_samples_stay_float32(processor):
    batch = processor([says(sound(0.5))]).to("cpu", dtype=torch.bfloat16)
    assert batch.recordings.waveforms.dtype == torch.float32


def test_bfloat16_weights_hear(processor):
    model = speaking_model().to(torch.bfloat16)
    with torch.no_grad():
        assert model(processor([says(sound(0.5))])).isfinite().all()


def test_too_long_and_deaf(model, processor):
    with pytest.raises(InputError, match="60"):
        processor([says((np.zeros(61 * 16_000, np.float32), 16_000))])
    deaf = Processor(TOKENIZER, model.config.without_speech_parts())
    with pytest.raises(InputError, match="no speech parts"):
        deaf([says(sound(0.5))])
    bare = MultimodalLlama(model.config.without_speech_parts())
    with pytest.raises(ValueError, match="cannot hear"):
        bare(processor([says(sound(0.5))]))


def test_a_spelled_placeholder_is_text(processor):
    batch = processor([says("<|audio|>")])
    assert batch.recordings is None
    assert TOKENIZER.audio_id not in batch.tokens[0].tolist()


def test_dialogue_with_recordings_reads_only_what_is_new(directory):
    assistant, fresh = load(directory), load(directory)
    assistant.configure(max_new_tokens=6)
    fresh.configure(max_new_tokens=6)
    messages = [says("one", sound(0.8, seed=1))]
    for turn in range(3):
        answer = "".join(assistant.stream(messages))
        prompt = fresh.processor(messages)
        assert answer == fresh.answer_all([messages])[0], f"turn {turn}"
        known = assistant._conversation._tokens[: prompt.tokens.shape[1]]
        assert known == prompt.tokens[0].tolist()
        messages += [{"role": "assistant", "content": answer}, says(sound(0.5, seed=9 + turn))]


def test_another_recording_is_not_the_one_that_was_heard(directory):
    assistant = load(directory)
    assistant.configure(max_new_tokens=6)
    answers = {}
    for seed in (1, 2, 1):
        answer = "".join(assistant.stream([says("one", sound(0.8, seed=seed))]))
        assert answers.setdefault(seed, answer) == answer


def test_speech_parts_join_a_model_that_sees(tmp_path, directory):
    whole = load_model(directory)
    save_adapter(whole, tmp_path / "speech", parts=SPEECH_PARTS)
    stored = open_adapter(tmp_path / "speech")
    assert stored.config.image_encoder is None and stored.config.speech_encoder is not None
    seeing = load_model(directory, without=stored.config)
    assert not hasattr(seeing, "speech_encoder")
    joined = load_adapter(tmp_path / "speech", seeing)
    assert joined.config == whole.config
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, joined.get_parameter(name)), name
    alone = load_adapter(tmp_path / "speech", whole.language)
    assert alone.config.image_encoder is None and hasattr(alone, "speech_adapter")


def test_speech_parts_know_their_core(tmp_path, directory):
    whole = load_model(directory)
    save_adapter(whole, tmp_path / "speech", parts=SPEECH_PARTS)
    other = speaking_model()
    with torch.no_grad():
        other.language.embedding.weight.add_(1)
    with pytest.raises(InputError, match="another"):
        load_adapter(tmp_path / "speech", other)


def test_saved_prompts_and_limit_come_back(tmp_path):
    model = speaking_model(pictures=False)
    prompts = replace(model.config.speech_prompts, transcribe="Write down, in {language}:")
    model.config = replace(model.config, speech_prompts=prompts, max_seconds=7.5)
    from multimodal.checkpoint import save_model

    save_model(model, tmp_path / "model", TOKENIZER)
    assistant = load(tmp_path / "model")
    assert isinstance(assistant, Assistant)
    assert assistant.model.config.speech_prompts == prompts
    assert assistant.processor.max_seconds == 7.5
