"""The model that ships on clips that it never saw: what happens, and in which order."""

import json

import pytest

from multimodal.assistant import Assistant, load
from multimodal.batch import Clips
from multimodal.locations import TINY
from multimodal.rows import FrameTiles
from multimodal.world.sentences import LANGUAGES
from multimodal.world.speech_evaluation import word_errors
from multimodal.world.video_evaluation import evaluate
from video.frames import sample

CLIPS = TINY / "samples" / "clips"
KNOWN = json.loads((CLIPS / "clips.json").read_text())


@pytest.fixture(scope="module")
def assistant() -> Assistant:
    return load("tiny", device="cpu")


def share_right(assistant: Assistant, clip_of, *, names=tuple(KNOWN), sound=False) -> float:
    """Share of answers that are right where each question is asked about ``clip_of(name)``."""
    right = []
    for name in names:
        clip = clip_of(name)
        for question, answer in KNOWN[name]["questions"].items():
            message = {"type": "video", "video": clip, "sound": sound}
            asked = [
                {"role": "user", "content": [message, {"type": "text", "text": question}]},
            ]
            right.append("".join(assistant.stream(asked)) == answer)
    return sum(right) / len(right)


def test_says_what_happens(assistant):
    assert share_right(assistant, lambda name: str(CLIPS / name)) > 0.8


def test_answers_from_the_clip_and_not_from_the_question(assistant):
    names = list(KNOWN)
    after = dict(zip(names, [*names[1:], names[0]], strict=True))
    assert share_right(assistant, lambda name: str(CLIPS / after[name])) < 0.5


def test_sees_the_order_of_frames(assistant):
    """Backwards, a clip is another one: what came first comes last."""

    def backwards(name: str) -> FrameTiles:
        frames = sample(CLIPS / name, assistant.processor.watcher.clips.num_frames)
        return [frame.picture for frame in reversed(frames)]

    forwards = share_right(assistant, lambda name: str(CLIPS / name))
    assert share_right(assistant, backwards) < forwards - 0.2


def test_captions_by_the_same_name(assistant):
    said = assistant.caption([CLIPS / name for name in KNOWN])
    right = sum(s == facts["caption"] for s, facts in zip(said, KNOWN.values(), strict=True))
    assert right >= 0.7 * len(KNOWN)


def test_sees_and_hears_in_one_request(assistant):
    """What is said in a clip is written down from its sound, and from clip and sound together."""
    spoken = {name: facts["spoken"] for name, facts in KNOWN.items() if "spoken" in facts}
    prompts, errors, words = assistant.model.config.speech_prompts, 0, 0
    for name, record in spoken.items():
        heard = assistant.transcribe(str(CLIPS / name), language=record["lang"]).text
        assert heard.split()[:2] == record["text"].split()[:2]
        prompt = prompts.transcribe.format(language=LANGUAGES[record["lang"]])
        shown = {"type": "video", "video": str(CLIPS / name), "sound": True}
        wish = [{"role": "system", "content": prompt}, {"role": "user", "content": [shown]}]
        wrong, said = word_errors(record["text"], "".join(assistant.stream(wish)))
        errors, words = errors + wrong, words + said
    assert words > 20 and errors / words < 0.15
    assert share_right(assistant, lambda name: str(CLIPS / name), names=spoken, sound=True) > 0.7


def test_a_clip_with_sound_and_a_picture_in_one_request(assistant):
    spoken = [name for name, facts in KNOWN.items() if "spoken" in facts]
    assert spoken
    for name in spoken:
        batch = assistant.processor(
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "video", "video": str(CLIPS / name), "sound": True},
                        {"type": "image", "image": str(TINY / "samples" / "00.png")},
                        {"type": "text", "text": "What happens?"},
                    ],
                }
            ]
        )
        assert isinstance(batch.clips, Clips) and batch.recordings is not None
        assert batch.images is not None
        assert assistant.model(batch).isfinite().all()


@pytest.mark.slow
def test_the_evaluation_of_a_few(assistant):
    scores = {(s.several, s.kind): s for s in evaluate(assistant, number=60, seed=3)}
    several, one = scores[True, "all"], scores[False, "all"]
    assert several.right > 0.85 and one.right > 0.9
    assert several.disordered < several.guessing + 0.15
    assert several.mean < several.right - 0.2
