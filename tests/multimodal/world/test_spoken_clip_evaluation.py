"""The evaluation of clips that are seen and heard asks what a user would ask."""

import pytest
import torch

from language.errors import InputError
from multimodal.assistant import load
from multimodal.media import Watched
from multimodal.world.clip_shards import spoken_evaluation_clips
from multimodal.world.sentences import LANGUAGES
from multimodal.world.spoken_clip_evaluation import SAID, SEEN, _clips, _request, _user, evaluate

pytest.importorskip("espeakng_loader")


@pytest.fixture(scope="module")
def assistant():
    return load("tiny", device="cpu")


def same_row(one, other) -> bool:
    return (
        one.tokens.tolist() == other.tokens.tolist()
        and all(
            torch.equal(a.pixels, b.pixels) for a, b in zip(one.clips, other.clips, strict=True)
        )
        and all(torch.equal(a, b) for a, b in zip(one.recordings, other.recordings, strict=True))
    )


def test_rows_are_those_of_a_clip_with_its_sound(assistant):
    drawn = list(spoken_evaluation_clips("test", number=2, seed=3, shapes_only=True))
    clips = list(_clips(assistant, number=2, seed=3, shapes_only=True))
    prompts = assistant.model.config.speech_prompts
    encode = assistant.processor.encode
    for (data, questions, spoken), clip in zip(drawn, clips, strict=True):
        shown = {"type": "video", "video": data, "sound": True}
        said = {"type": "text", "text": questions[0].text}
        asked = encode([{"role": "user", "content": [shown, said]}], train=False)
        ours = encode(_user(clip, questions[0].text, sound=clip.sound), train=False)
        assert same_row(ours, asked)
        prompt = prompts.transcribe.format(language=LANGUAGES[spoken["lang"]])
        wish = [{"role": "system", "content": prompt}, {"role": "user", "content": [shown]}]
        ours = encode(_request(clip, prompts, sound=clip.sound), train=False)
        assert same_row(ours, encode(wish, train=False))
        alone = encode(_request(clip, prompts, sound=clip.sound, seen=False), train=False)
        assert not alone.clips and len(alone.recordings) == 1


def test_shares_are_those_of_real_answers(assistant):
    tables = evaluate(assistant, number=6, seed=4, shapes_only=True)
    rows = {row.what: row for row in tables[SEEN]}
    right = {"several": [], "one": []}
    drawn = spoken_evaluation_clips("test", number=6, seed=4, shapes_only=True)
    for data, questions, _ in drawn:
        for question in questions:
            given = assistant.ask(Watched(data), question.text, sound=True)
            right[question.frames].append(given == question.answer)
    for frames, words in (("several", "several frames"), ("one", "one frame")):
        row = rows[f"seen and heard, {words}"]
        assert row.number == len(right[frames])
        assert row.value == sum(right[frames]) / len(right[frames])
    assert [row.what for row in tables[SAID]] == [
        "heard alone",
        "seen and heard",
        "another clip's sound",
    ]
    assert all(row.number == 6 for row in tables[SAID])


def test_exchanging_takes_two(assistant):
    with pytest.raises(InputError, match="two or more"):
        evaluate(assistant, number=1, seed=0)
