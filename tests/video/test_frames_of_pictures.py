"""Clips without a film: folders, lists, arrays and animated pictures."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from language.errors import InputError
from tests.video.film_files import film, number_of, numbered, on_screen
from video import stills
from video.frames import is_animated, is_clip, sample


def picture(number: int) -> Image.Image:
    return Image.fromarray(numbered(number))


def animation(durations, kind="GIF", **settings) -> bytes:
    file = io.BytesIO()
    frames = [picture(number) for number in range(len(durations))]
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(
        file,
        kind,
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        **options | settings,
    )
    return file.getvalue()


def seen(clip, num_frames):
    return [(frame.time, number_of(frame.picture)) for frame in sample(clip, num_frames)]


def agree(found, wanted):
    assert [number for _, number in found] == [number for _, number in wanted]
    assert [time for time, _ in found] == pytest.approx([time for time, _ in wanted], abs=1e-6)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 5, 8, 20])
def test_animations_keep_their_own_clock(kind, num_frames, tmp_path: Path):
    durations = [40, 100, 20, 500, 60, 1_000, 30, 70]
    data = animation(durations, kind)
    starts = np.cumsum([0, *durations[:-1]]).tolist()
    wanted = [
        (time / 1000, number)
        for time, number in on_screen(dict(zip(starts, range(8), strict=True)), num_frames)
    ]
    path = tmp_path / f"clip.{kind.lower()}"
    path.write_bytes(data)
    for source in (data, path, Image.open(io.BytesIO(data))):
        agree(seen(source, num_frames), wanted)


def test_an_image_that_is_held_stays_at_its_frame():
    image = Image.open(io.BytesIO(animation([50] * 5)))
    image.seek(2)
    assert len(sample(image, 5)) == 5
    assert image.tell() == 2


def test_frames_that_last_no_time_last_a_tenth_of_a_second():
    assert [time for time, _ in seen(animation([0, 0, 0]), 3)] == [0.0, 0.1, 0.2]


def test_transparent_frames_lie_on_white():
    frames = [Image.new("RGBA", (20, 20), (255, 0, 0, 255)) for _ in range(2)]
    for number, frame in enumerate(frames):
        frame.paste((0, 0, 0, 0), (number * 10, 0, number * 10 + 10, 20))
    for kind in ("GIF", "PNG"):
        file = io.BytesIO()
        options = {"disposal": 2 if kind == "GIF" else 1, "blend" if kind == "PNG" else "loop": 0}
        frames[0].save(
            file, kind, save_all=True, append_images=frames[1:], duration=[50, 50], **options
        )
        first, second = (frame.picture for frame in sample(file.getvalue(), 2))
        for shown, white, red in ((first, 5, 15), (second, 15, 5)):
            assert shown.getpixel((white, 10)) == (255, 255, 255)
            assert shown.getpixel((red, 10)) == (255, 0, 0)


def test_a_picture_that_does_not_move_is_one_frame():
    file = io.BytesIO()
    picture(5).save(file, "JPEG")
    assert seen(file.getvalue(), 4) == [(0.0, 5)]
    assert seen(picture(6), 4) == [(0.0, 6)]


def test_a_cut_animation_goes_as_far_as_it_can_be_read():
    data = animation([50] * 8)
    found = [number for _, number in seen(data[: len(data) // 2], 20)]
    assert found == list(range(len(found))) and 1 <= len(found) < 8


def test_folders_count_by_number(tmp_path: Path):
    for number in range(12):
        picture(number).save(tmp_path / f"frame {number}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "below").mkdir()
    picture(99).save(tmp_path / "below" / "frame 3.png")
    for num_frames in (1, 2, 5, 12, 20):
        wanted = on_screen({number: number for number in range(12)}, num_frames)
        agree(seen(tmp_path, num_frames), wanted)
        agree(seen(str(tmp_path), num_frames), wanted)


def test_names_in_natural_order():
    names = ["b1.png", "a10.png", "a9.png", "A1.png", "a.png", "a09.png", "10.png", "9.png"]
    ordered = ["9.png", "10.png", "A1.png", "a09.png", "a9.png", "a10.png", "a.png", "b1.png"]
    assert sorted(names, key=stills.natural_key) == ordered


def test_lists_of_all_kinds(tmp_path: Path):
    path, file = tmp_path / "1.png", io.BytesIO()
    picture(1).save(path)
    picture(2).save(file, "PNG")
    clip = [numbered(0), path, file.getvalue(), picture(3)]
    for source in (clip, tuple(clip)):
        assert seen(source, 4) == [(0.0, 0), (1.0, 1), (2.0, 2), (3.0, 3)]
        assert seen(source, 2) == [(0.0, 0), (3.0, 3)]


def test_two_arrays_are_two_pictures():
    assert seen((numbered(1), numbered(2)), 2) == [(0.0, 1), (1.0, 2)]


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
def test_arrays_with_and_without_a_rate(kind):
    frames = np.stack([numbered(number) for number in range(9)])
    frames = frames if kind is np.uint8 else (frames / 255).astype(kind)
    assert seen(frames, 3) == [(0.0, 0), (4.0, 4), (8.0, 8)]
    assert seen((frames, 4.0), 3) == [(0.0, 0), (1.0, 4), (2.0, 8)]
    found = seen((frames, 30), 20)
    agree(found, [(number / 30, number) for number in range(9)])


def test_differing_sizes_are_letterboxed_to_the_first():
    clip = [
        Image.new("RGB", (40, 20), "red"),
        Image.new("RGB", (20, 20), "white"),
        Image.new("RGB", (80, 10), "white"),
        Image.new("RGB", (1, 1_000), "white"),
    ]
    first, square, flat, thin = (np.asarray(frame.picture) for frame in sample(clip, 4))
    assert first.shape == square.shape == flat.shape == thin.shape == (20, 40, 3)
    columns, rows = square[10, :, 0] > 128, flat[:, 20, 0] > 128
    assert columns.tolist() == [False] * 10 + [True] * 20 + [False] * 10
    assert rows.sum() == 5 and rows[8:12].all()
    assert thin.any(axis=(0, 2)).sum() == 1


def test_films_are_told_from_pictures(tmp_path: Path):
    for name in ("a.mp4", "b.MKV", "c.webm", "d.mov", "e.avi", "f.m4v"):
        assert is_clip(name) and is_clip(Path(name))
    for name in ("a.gif", "b.png", "mp4", "c.mp3", "d.txt"):
        assert not is_clip(name)
    still = io.BytesIO()
    picture(1).save(still, "GIF")
    (tmp_path / "moves.gif").write_bytes(animation([50, 50]))
    assert is_animated(animation([50, 50])) and is_animated(animation([50, 50], "WEBP"))
    assert is_animated(tmp_path / "moves.gif") and is_animated(str(tmp_path / "moves.gif"))
    assert is_animated(Image.open(tmp_path / "moves.gif"))
    for source in (
        still.getvalue(),
        film([0, 40]),
        b"",
        b"GIF89a",
        tmp_path,
        tmp_path / "none.gif",
    ):
        assert not is_animated(source)


@pytest.mark.parametrize(
    ("clip", "fault"),
    [
        ([], "no picture"),
        ((), "no picture"),
        ([7], "clip[0]: int is not a picture"),
        ([b"", b""], "clip[0]: empty file"),
        ([picture(0), b"words"], "clip[1]: not a JPEG"),
        (np.zeros((3, 4, 4)), "shape [3, 4, 4]"),
        (np.zeros((3, 4, 4, 2), np.uint8), "shape [3, 4, 4, 2]"),
        (np.zeros((0, 4, 4, 3), np.uint8), "no picture"),
        (np.zeros((2, 0, 4, 3), np.uint8), "clip[0]: 4 x 0 pixels"),
        (np.full((2, 4, 4, 3), 7.0), "outside 0..1"),
        (np.zeros((2, 4, 4, 3), np.int32), "int32"),
        ((np.zeros((2, 4, 4, 3), np.uint8), 0), "0.0 frames per second"),
        ((np.zeros((2, 4, 4, 3), np.uint8), float("nan")), "nan frames per second"),
        ((np.zeros((2, 4, 4, 3), np.uint8), float("inf")), "inf frames per second"),
        (("a.mp4", 25.0), "str with a rate"),
        (None, "NoneType is not a clip"),
        (7, "int is not a clip"),
        (b"GIF89a", "broken or truncated picture"),
        (animation([50, 50])[:40], "broken or truncated picture"),
    ],
)
def test_refusals(clip, fault):
    with pytest.raises(InputError) as caught:
        sample(clip, 4)
    message = str(caught.value)
    assert message.startswith("clip") and fault in message and "\n" not in message


def test_refusals_of_folders(tmp_path: Path, monkeypatch):
    with pytest.raises(InputError, match="a folder without pictures"):
        sample(tmp_path, 2)
    for number in range(4):
        picture(number).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"words")
    with pytest.raises(InputError, match="2.png: not a JPEG"):
        sample(tmp_path, 4)
    monkeypatch.setattr(stills, "MAX_PICTURES", 3)
    with pytest.raises(InputError, match="more than the 3 allowed"):
        sample(tmp_path, 2)


def test_animations_are_bounded(monkeypatch):
    data = animation([50] * 8)
    monkeypatch.setattr(stills, "MAX_ANIMATION_PIXELS", 4 * 160 * 48)
    with pytest.raises(InputError, match="more than"):
        sample(data, 2)
    monkeypatch.undo()
    monkeypatch.setattr(stills, "MAX_PICTURES", 3)
    with pytest.raises(InputError, match="more than 3 frames"):
        sample(data, 2)
