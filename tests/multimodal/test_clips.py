"""Clips from files to answers: the processor, the assistant, the command, and what is refused."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from language.errors import InputError
from multimodal.assistant import Assistant, load
from multimodal.checkpoint import load_model, save_model
from multimodal.cli import main
from multimodal.locations import TINY
from multimodal.media import Watched, kind_of
from multimodal.training.video_parts import (
    FreshAggregator,
    FreshVideoAdapter,
    VideoParts,
    build_video,
)
from tests.multimodal.clip_files import clip_bytes, frames, write_folder, write_gif
from video.frames import sample

NUM_FRAMES = 4
QUESTION = {"type": "text", "text": "What do you see?"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    """The shipped model with fresh video parts, their gates open."""
    torch.manual_seed(0)
    model = build_video(
        VideoParts(
            core=str(TINY),
            aggregator=FreshAggregator(dim=32, num_layers=1, num_heads=2, ffn_dim=48),
            adapter=FreshVideoAdapter(positions=(1, 4), gate_init=0.5, output_init_scale=5.0),
            num_frames=NUM_FRAMES,
            frames_per_group=3,
            max_num_tiles=1,
        )
    )
    target = tmp_path_factory.mktemp("watching") / "model"
    save_model(model, target, companions=TINY)
    return target


@pytest.fixture(scope="module")
def assistant(directory: Path) -> Assistant:
    return load(directory)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """One clip of each kind."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "a.mp4").write_bytes(clip_bytes(sound=1.0))
    (folder / "silent.mp4").write_bytes(clip_bytes())
    (folder / "b.webm").write_bytes(clip_bytes(container="webm", codec="libvpx-vp9"))
    write_gif(folder / "c.gif")
    write_folder(folder / "d")
    return folder


def user(*parts):
    return [{"role": "user", "content": list(parts)}]


def test_a_clip_is_one_placeholder_that_all_after_it_see(assistant, clips):
    batch = assistant.processor(user({"type": "video", "video": str(clips / "a.mp4")}, QUESTION))
    tokens = batch.tokens[0].tolist()
    (place,) = (i for i, t in enumerate(tokens) if t == assistant.processor.tokenizer.image_id)
    seen = batch.visible_clips[0, :, 0].tolist()
    assert seen == [False] * place + [True] * (len(tokens) - place)
    assert batch.images is None and batch.clips.lengths.tolist() == [NUM_FRAMES]
    assert batch.clips.tiles.shape == (NUM_FRAMES, 3, 90, 90)
    expected = [frame.time for frame in sample(clips / "a.mp4", NUM_FRAMES)]
    assert list(batch.clips.times[0]) == expected and expected[0] == 0


def test_frames_are_cut_as_pictures(assistant, clips):
    """A clip's frames give the tiles that the same pictures give."""
    folder = clips / "d"
    batch = assistant.processor(user({"type": "video", "video": str(folder)}, QUESTION))
    files = sorted(folder.iterdir())
    picked = [files[i] for i in (0, 1, 2, 4)]
    pictures = [{"type": "image", "image": str(file)} for file in picked]
    alone = assistant.processor(user(*pictures, QUESTION))
    assert torch.equal(batch.clips.tiles, alone.images.tiles)


def test_media_of_all_kinds_in_one_request(assistant, clips):
    """A clip with its sound, a picture and a recording: each goes to its own parts."""
    clip = {"type": "video", "video": str(clips / "a.mp4"), "sound": True}
    picture = {"type": "image", "image": frames(1)[0]}
    tone = np.sin(np.arange(16_000) / 10).astype(np.float32)
    speech = {"type": "audio", "audio": (tone, 16_000)}
    batch = assistant.processor(user(clip, picture, speech, QUESTION))
    assert len(batch.clips.lengths) == len(batch.images.rows) == 1
    assert len(batch.recordings.lengths) == 2
    # AAC rounds up to whole frames and begins with some silence of its own.
    assert batch.recordings.lengths[0] == pytest.approx(16_000, abs=2_000)
    with torch.no_grad():
        whole = assistant.model(batch)[0, -1]
        for left_out in (
            {"clips": None, "visible_clips": None},
            {"images": None, "visible": None},
        ):
            without = assistant.model(replace(batch, **left_out))[0, -1]
            assert not torch.allclose(whole, without, atol=1e-3)
        silent = replace(batch.recordings, waveforms=torch.zeros_like(batch.recordings.waveforms))
        unheard = assistant.model(replace(batch, recordings=silent))[0, -1]
        assert not torch.allclose(whole, unheard, atol=1e-3)
    assert isinstance("".join(assistant.stream(user(clip, picture, speech, QUESTION))), str)


def test_without_clips_it_is_the_model_that_it_was(assistant, clips):
    shipped = load_model(TINY, dtype=torch.float32)
    batch = assistant.processor(user({"type": "image", "image": frames(1)[0]}, QUESTION))
    with torch.no_grad():
        assert torch.equal(assistant.model(batch), shipped(batch))


def test_several_clips_and_later_turns(assistant, clips, monkeypatch):
    first = {"type": "video", "video": str(clips / "a.mp4")}
    second = {"type": "video", "video": str(clips / "b.webm")}
    messages = user(first, QUESTION)
    answer = "".join(assistant.stream(messages))
    messages += [{"role": "assistant", "content": answer}, *user(second, QUESTION)]
    watched = []
    merge = type(assistant.model).merge_frames
    monkeypatch.setattr(
        type(assistant.model),
        "merge_frames",
        lambda model, clips: watched.append(len(clips.lengths)) or merge(model, clips),
    )
    continued = "".join(assistant.stream(messages))
    assert watched == [1]  # the second clip alone
    assert continued == "".join(load_again(assistant).stream(messages))


def load_again(assistant: Assistant) -> Assistant:
    return Assistant(assistant.model, companions=assistant.companions)


def test_dialogues_about_one_clip_are_packed(assistant, clips):
    part = {"type": "video", "video": str(clips / "a.mp4")}
    dialogues = [
        [*user(part, {"type": "text", "text": text}), {"role": "assistant", "content": "Red."}]
        for text in ("What?", "Which colour?")
    ]
    packed = assistant.processor.encode(dialogues)
    assert len(packed.clips) == 1 and packed.visible_clips.shape[1] == 1
    batch = assistant.processor.collate([packed])
    singles = [assistant.processor.collate([assistant.processor.encode(d)]) for d in dialogues]
    with torch.no_grad():
        together = assistant.model(batch)[0]
        apart = torch.cat([assistant.model(single)[0] for single in singles])
    torch.testing.assert_close(together, apart, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", ["a.mp4", "b.webm", "c.gif"])
def test_ask_and_caption_by_path_or_bytes(assistant, clips, name):
    path = clips / name
    answer = assistant.ask(str(path), "What do you see?")
    message = user({"type": "video", "video": str(path)}, QUESTION)
    assert answer == "".join(load_again(assistant).stream(message))
    assert assistant.caption([path, path]) == [assistant.caption(path)] * 2
    if name == "c.gif":
        assert assistant.ask(path.read_bytes(), "What do you see?") == answer


def test_what_is_a_clip():
    array = np.zeros((3, 8, 8, 3), np.uint8)
    assert kind_of(array, watches=True) == "video" == kind_of((array, 5.0), watches=True)
    assert kind_of(array[0], watches=True) == "image" == kind_of("a.png", watches=True)
    assert kind_of("a.MP4", watches=False) == "video" == kind_of(Watched(["a.png"]), watches=True)
    assert kind_of(Image.new("RGB", (4, 4)), watches=True) == "image"


def test_an_animation_is_a_picture_where_nobody_watches(clips, model_directory):
    blind_to_time = load(model_directory)
    first = Image.open(clips / "c.gif").convert("RGB")
    assert blind_to_time.caption(clips / "c.gif") == blind_to_time.caption(first)
    assert kind_of(clips / "c.gif", watches=True) == "video"
    assert kind_of(clips / "c.gif", watches=False) == "image"


def test_an_array_and_its_rate(assistant):
    array = np.stack(frames(8))
    clip = assistant.processor.watcher((array, 4.0))
    # Instants 0, 7/12, 14/12 and 21/12 of a second, each at the frame that began before it.
    assert clip.times == (0.0, 0.5, 1.0, 1.75)
    assert isinstance(assistant.ask((array, 4.0), "What do you see?"), str)


def test_the_command(directory, clips, capsys):
    model = ["--model", str(directory)]
    media = [str(clips / name) for name in ("a.mp4", "b.webm", "c.gif")]
    assert main(["caption", *media, *model, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == media
    assert main(["ask", str(clips / "d"), "What?", "--clip", *model, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["file"] == str(clips / "d")
    assert main(["ask", str(clips / "d"), "What?", *model, "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5  # each picture by itself
    assert main(["ask", str(clips / "a.mp4"), "What?", "--with-sound", *model]) == 0


def test_the_frames_sheet(directory, clips, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    words = ["ask", str(clips / "a.mp4"), "What?", "--model", str(directory)]
    assert main([*words, "--frames-sheet", str(sheet)]) == 0
    drawn = Image.open(sheet)
    assert drawn.mode == "RGB" and min(drawn.size) > 200
    shown = capsys.readouterr().out
    assert main(words) == 0
    assert capsys.readouterr().out == shown


def test_attention_on_a_clip_names_the_sheet(clips, tmp_path, capsys):
    words = ["ask", str(clips / "a.mp4"), "What?", "--attention", str(tmp_path / "map.png")]
    assert main(words) == 2
    assert "--frames-sheet" in capsys.readouterr().err and not (tmp_path / "map.png").exists()


def test_the_sheet_gives_each_frame_its_share(assistant, clips):
    from multimodal.attention_map import with_answer
    from multimodal.frames_sheet import frames_attention

    batch = assistant.processor(user({"type": "video", "video": str(clips / "a.mp4")}, QUESTION))
    weights = frames_attention(assistant.model, with_answer(batch, [5, 6]), num_tokens=3)
    assert weights.shape == (NUM_FRAMES, 10, 10)
    assert float(weights.sum()) == pytest.approx(1) and bool((weights >= 0).all())
    # Frames that are all alike have the same shares, but for their times.
    still = replace(batch.clips, tiles=batch.clips.tiles[:1].expand_as(batch.clips.tiles))
    with torch.no_grad():
        assistant.model.video_aggregator.positions.data, kept = (
            torch.zeros_like(assistant.model.video_aggregator.positions),
            assistant.model.video_aggregator.positions.data,
        )
    same = frames_attention(assistant.model, replace(batch, clips=still), num_tokens=1)
    assistant.model.video_aggregator.positions.data = kept
    torch.testing.assert_close(same[0], same[1])


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_text("not a clip at all\n" * 100), ""),
        (lambda path: path.write_bytes(clip_bytes()[:300]), ""),
        (lambda path: path.write_text("#EXTM3U\nhttp://example.org/a.ts\n"), ""),
    ],
)
def test_bad_clips_are_one_line_and_the_good_ones_are_answered(
    make, fault, directory, clips, tmp_path, capsys
):
    bad = tmp_path / "bad.mp4"
    make(bad)
    words = ["caption", str(bad), str(clips / "silent.mp4"), "--model", str(directory)]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 and str(clips / "silent.mp4") in out
    (line,) = err.splitlines()
    assert line.startswith(f"openherd: {bad}: ") and fault in line


def test_sound_that_is_not_there_is_named(directory, clips, capsys):
    silent = str(clips / "silent.mp4")
    assert main(["ask", silent, "What?", "--with-sound", "--model", str(directory)]) == 2
    assert capsys.readouterr().err == f"openherd: {silent}: no sound in it\n"


def test_sound_asked_of_a_picture_is_refused(directory, clips, tmp_path, capsys):
    picture = str(tmp_path / "a.png")
    Image.fromarray(frames(1)[0]).save(picture)
    words = ["ask", picture, str(clips / "a.mp4"), "What?", "--with-sound"]
    assert main([*words, "--model", str(directory)]) == 2
    out, err = capsys.readouterr()
    assert err == f"openherd: {picture}: a picture has no sound\n"
    assert len(out.splitlines()) == 1  # the clip is answered


def test_a_model_without_the_parts_names_what_it_cannot_take(model_directory, clips):
    model, clip = load(model_directory), clips / "a.mp4"
    with pytest.raises(InputError, match=r"a\.mp4: .*no video parts"):
        model.ask(clip, "What?")
    with pytest.raises(InputError, match=r"a\.mp4: .*no ears"):
        list(model.stream(user({"type": "audio", "audio": str(clip)})))


def test_chat_takes_a_clip_a_picture_and_a_recording_together(
    directory, clips, tmp_path, monkeypatch, capsys
):
    Image.fromarray(frames(1)[0]).save(tmp_path / "a.png")
    lines = [
        f"/video {clips / 'a.mp4'}",
        f"/image {tmp_path / 'a.png'}",
        f"/audio {clips / 'a.mp4'}",
        "What do you see?",
        "And now?",
        f"/video {tmp_path / 'gone.mp4'}",
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    assert main(["chat", "--model", str(directory), "--json"]) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2 and err.count("\n") == 1 and "no such file" in err
