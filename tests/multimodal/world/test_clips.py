"""Clips of the world: splits, balance, answers, and that their order alone tells what is asked."""

import io
import json
import random
import subprocess
import sys
import tarfile
from collections import Counter, defaultdict

import av
import numpy as np
import pytest

from multimodal.prompts import SpeechPrompts
from multimodal.world.clip_rendering import ENCODINGS, draw_at, encode
from multimodal.world.clip_shards import evaluation_clips, write_clip_files, write_clips
from multimodal.world.clip_texts import clip_caption, clip_dialogues, clip_questions
from multimodal.world.clips import DIRECTIONS, EVENTS, ClipScene, sample_clip
from multimodal.world.scenes import COLOURS, SHAPES, SPLITS
from multimodal.world.sentences import LANGUAGES
from video.frames import sample

DRAWN = 1500


def drawn(split="train", event=None, number=DRAWN, seed=0) -> list[ClipScene]:
    rng = random.Random(seed)
    return [sample_clip(rng, split=split, event=event, shapes_only=True) for _ in range(number)]


def combination(clip: ClipScene) -> tuple:
    looks = tuple((track.kind, track.colours) for track in clip.tracks)
    return clip.event, clip.alternative, looks


def test_splits_share_no_combination():
    seen = {split: set(map(combination, drawn(split))) for split in SPLITS}
    for one in SPLITS:
        for other in SPLITS:
            assert one == other or not seen[one] & seen[other]


def test_each_event_look_and_alternative_is_well_represented_in_training():
    clips = drawn("train", number=4000)
    events = Counter(clip.event for clip in clips)
    assert min(events[event] for event in EVENTS) > 0.8 * len(clips) / len(EVENTS)
    alternatives = Counter((clip.event, clip.alternative) for clip in clips)
    for event, names in (("move", DIRECTIONS), ("times", "123"), ("resize", ("grows", "shrinks"))):
        counts = [alternatives[event, name] for name in names]
        assert min(counts) > 0.6 * max(counts), event
    looks = Counter((t.kind, c) for clip in clips for t in clip.tracks for c in t.colours)
    assert len(looks) == len(SHAPES) * len(COLOURS)
    assert min(looks.values()) > 0.4 * max(looks.values())


def items_at(clip: ClipScene, instants: int) -> list:
    """What is there at so many instants: looks, and places on a coarse grid."""
    found = []
    for index in range(instants):
        items = clip.at(index / (instants - 1))
        found.append([(i.kind, i.colour, round(i.x, 2), round(i.y, 2)) for i in items])
    return found


@pytest.mark.parametrize("instants", [8, 16])
def test_the_number_of_times_is_in_the_frames(instants):
    """Counted from what is there at the sampled instants; and shown about as long for all."""
    shown = defaultdict(list)
    for clip in drawn(event="times", number=400):
        there = [bool(items) for items in items_at(clip, instants)]
        starts = sum(b and not a for a, b in zip([False, *there], there, strict=False))
        assert starts == int(clip.alternative)
        shown[clip.alternative].append(sum(there))
    means = {number: float(np.mean(counts)) for number, counts in shown.items()}
    assert set(means) == {"1", "2", "3"}
    if instants == 8:
        assert {count for counts in shown.values() for count in counts} == {4}
    assert max(means.values()) - min(means.values()) < 0.06 * instants


@pytest.mark.parametrize("instants", [8, 16])
@pytest.mark.parametrize("event", ["order", "recolour"])
def test_halves_are_equally_long(event, instants):
    """Each alternative has as many frames of the one as of the other."""
    for clip in drawn(event=event, number=100):
        first, last = items_at(clip, instants)[0], items_at(clip, instants)[-1]
        halves = items_at(clip, instants)
        assert halves.count(first) == halves.count(last) == instants // 2


@pytest.mark.parametrize("event", ["move", "pass", "resize"])
def test_reversed_frames_are_another_alternative(event):
    """What moves or grows gives the same frames backwards: only their order tells which it was."""
    for clip in drawn(event=event, number=100):
        forwards = [clip.at(t / 7) for t in range(8)]
        track = clip.tracks[0]
        turned = ClipScene(
            event=clip.event,
            alternative=clip.alternative,
            tracks=tuple(
                type(t)(**{**vars(t), "start": t.end, "end": t.start}) for t in clip.tracks
            ),
            ground=clip.ground,
        )
        mirrored = [turned.at(t / 7) for t in reversed(range(8))]
        for ours, theirs in zip(forwards, mirrored, strict=True):
            for a, b in zip(ours, theirs, strict=True):
                assert (a.x, a.y, a.edge) == pytest.approx((b.x, b.y, b.edge))
        if event == "move":
            axis = 0 if clip.alternative in ("left", "right") else 1
            way = track.end[axis] - track.start[axis]
            assert (way > 0) == (clip.alternative in ("right", "down"))
            assert abs(way) > 0.4 and track.start[axis] + track.end[axis] == pytest.approx(1)


def read_answer(clip: ClipScene, text: str) -> str | None:
    """Answers of questions about order, read from what is there at eight instants."""
    seen = [clip.at(t / 7) for t in range(8)]

    def name(item) -> str:
        return f"A {item.colour} {item.kind}."

    if text == "What comes first?":
        return name(seen[0][0])
    if text == "What comes last?":
        return name(seen[-1][0])
    if text.startswith("Does the") and "come before" in text:
        return "Yes." if seen[0][0].kind == text.split()[2] else "No."
    if text.startswith("Does the"):
        grows = seen[-1][0].edge > seen[0][0].edge
        return "Yes." if grows == text.endswith("grow?") else "No."
    if text.startswith("How many times"):
        there = [bool(items) for items in seen]
        starts = sum(b and not a for a, b in zip([False, *there], there, strict=False))
        return ("One.", "Two.", "Three.")[starts - 1]
    if text.endswith(("at first?", "at the end?")):
        items = seen[0] if text.endswith("at first?") else seen[-1]
        if text.startswith("What colour"):
            return f"{items[0].colour.capitalize()}."
        if "big or small" in text:
            edges = [seen[0][0].edge, seen[-1][0].edge]
            return "Big." if items[0].edge == max(edges) else "Small."
        key, sign = ("x", 1) if "on the" in text else ("y", 1)
        sign = -1 if "right" in text or "below" in text else sign
        return name(min(items, key=lambda item: sign * getattr(item, key)))
    if text.startswith("Where does"):
        kind = text.split()[3]
        first, last = (next(i for i in items if i.kind == kind) for items in (seen[0], seen[-1]))
        across, down = last.x - first.x, last.y - first.y
        if abs(across) > abs(down):
            return "Right." if across > 0 else "Left."
        return "Below." if down > 0 else "Above."
    return None


def test_answers_are_what_the_frames_show():
    asked = Counter()
    rng = random.Random(1)
    for clip in drawn(number=600):
        for question in clip_questions(clip, rng):
            assert question.answer in question.choices
            read = read_answer(clip, question.text)
            assert (read is not None) == (question.frames == "several"), question.text
            if read is not None:
                assert read == question.answer, (question.text, clip)
                asked[question.kind] += 1
    assert set(asked) == {"move", "order", "recolour", "resize", "times", "pass"}


def test_answers_are_balanced():
    """No answer to a question about order is worth guessing."""
    rng, answers = random.Random(2), defaultdict(Counter)
    for clip in drawn(number=3000):
        for question in clip_questions(clip, rng):
            if question.frames == "several" and question.kind in ("move", "times"):
                answers[question.kind][question.answer] += 1
            elif question.kind in ("order", "resize") and len(question.choices[0]) < 7:
                answers[question.choices][question.answer] += 1
    for kind, counts in answers.items():
        assert max(counts.values()) < 1.35 * sum(counts.values()) / len(counts), kind


def test_captions_are_sentences_that_tell_alternatives_apart():
    captions = defaultdict(set)
    for clip in drawn(number=1500):
        said = clip_caption(clip)
        assert said[0].isupper() and said.endswith(".")
        captions[said].add(combination(clip))
    # Without size, place and angle a caption says all: one combination each.
    assert all(len(found) == 1 for found in captions.values())


def test_the_same_chance_gives_the_same_bytes():
    clip = drawn(number=1)[0]
    one, other = (encode(clip, random.Random(5)) for _ in range(2))
    assert one == other
    assert encode(clip, random.Random(6)) != one


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda each: each.codec)
def test_every_encoding_shows_what_is_drawn(encoding, monkeypatch):
    monkeypatch.setattr("multimodal.world.clip_rendering.ENCODINGS", (encoding,))
    clip = sample_clip(random.Random(3), split="train", event="pass", shapes_only=True)
    suffix, data = encode(clip, random.Random(4))
    assert suffix == encoding.suffix
    names = {"libx264": "h264", "libvpx": "vp8", "libvpx-vp9": "vp9"}
    with av.open(io.BytesIO(data)) as file:
        name = file.streams.video[0].codec_context.codec.canonical_name
    assert name == names.get(encoding.codec, encoding.codec)
    frames = sample(data, 8)
    last = frames[-1].time
    assert 2 < last < 4.1
    for frame in frames:
        wanted = np.asarray(draw_at(clip, frame.time / last, edge=frame.picture.width), np.float32)
        difference = np.abs(np.asarray(frame.picture, np.float32) - wanted).mean()
        assert difference < 8, frame.time


def test_shards(tmp_path):
    files = write_clips(
        tmp_path, split="validation", number=5, shapes_only=True, shard_size=3, workers=0
    )
    assert [file.name for file in files] == [f"clips-validation-0000{i}.tar" for i in range(2)]
    names, records = [], []
    for file in files:
        with tarfile.open(file) as archive:
            for member in archive.getmembers():
                names.append(member.name)
                if member.name.endswith(".json"):
                    records.append(json.load(archive.extractfile(member)))
                else:
                    assert len(sample(archive.extractfile(member).read(), 8)) == 8
    assert len(names) == 10 and len({name.split(".")[0] for name in names}) == 5
    for record in records:
        for question, answer in record["dialogues"]:
            assert question["content"][0] == {"type": "video"} and answer["content"]
    again = tmp_path / "again"
    write_clips(again, split="validation", number=5, shapes_only=True, shard_size=3, workers=0)
    assert all((again / file.name).read_bytes() == file.read_bytes() for file in files)


def test_spoken_clips_are_heard(tmp_path):
    pytest.importorskip("espeakng_loader")
    write_clip_files(tmp_path, split="test", number=2, shapes_only=True, spoken_share=1.0)
    said = json.loads((tmp_path / "clips.json").read_text())
    from speech.audio import read_audio

    for name, record in said.items():
        assert record["spoken"]["text"] and record["caption"] and record["questions"]
        heard = read_audio(str(tmp_path / name), max_seconds=60)
        assert float(heard.square().mean().sqrt()) > 1e-3
        # The clip lasts as long as what is said in it.
        assert sample(tmp_path / name, 2)[-1].time >= len(heard) / 16_000 - 0.2


def test_shards_of_spoken_clips_ask_what_is_seen_and_what_is_said(tmp_path):
    pytest.importorskip("espeakng_loader")
    (file,) = write_clips(
        tmp_path, split="validation", number=6, shapes_only=True, workers=0, spoken=True
    )
    assert file.name == "spoken-clips-validation-00000.tar"
    with tarfile.open(file) as archive:
        texts = [n for n in archive.getnames() if n.endswith(".json")]
        records = [json.load(archive.extractfile(name)) for name in texts]
    prompts, translated = SpeechPrompts(), 0
    for record in records:
        *seen, speech = record["dialogues"]
        heard = [dialogue[0]["content"][0].get("sound", False) for dialogue in seen]
        assert heard in ([True], [True, False])
        system, user, answer = speech
        assert user["content"] == [{"type": "video", "sound": True}]
        spoken = record["spoken"]
        wanted = {
            prompts.translate.format(language=language): text
            for language, text in spoken["translations"].items()
        }
        translated += system["content"] in wanted
        wanted[prompts.transcribe.format(language=LANGUAGES[spoken["lang"]])] = spoken["text"]
        assert answer["content"] == wanted[system["content"]]
    assert len(records) == 6 and 0 < translated < 6


def test_dialogues_are_apart_and_few():
    for clip in drawn(number=50):
        dialogues = clip_dialogues(clip, random.Random(0))
        assert 2 <= len(dialogues) <= 4
        assert dialogues[-1][1]["content"] == clip_caption(clip)


def test_evaluation_draws_the_same_each_time():
    one, other = (
        list(evaluation_clips("test", number=3, seed=1, shapes_only=True)) for _ in range(2)
    )
    assert one == other and len(one) == 3


def test_the_command_writes_clips(tmp_path):
    words = ["--content", "clip-files", "--number", "2", "--shapes-only", "--out", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "multimodal.world", *words], check=True)
    assert len(json.loads((tmp_path / "clips.json").read_text())) == 2
