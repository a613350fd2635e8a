"""JSONL beside folders of pictures: the layouts in use, and paths that lead elsewhere."""

import json
import pickle

import pytest

from language.errors import InputError
from multimodal.data.jsonl import JsonlSource
from multimodal.data.samples import caption, dialogues
from tests.multimodal.data.sample_files import picture_bytes


def source_of(tmp_path, cache, *records):
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number in range(3):
        data = picture_bytes(10 + number, 5, seed=number)
        (folder / "images" / f"{number}.jpg").write_bytes(data)
    (tmp_path / "secret.jpg").write_bytes(picture_bytes(3, 3))
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    (folder / "data.jsonl").write_text("\n".join(lines))
    return JsonlSource(str(folder / "data.jsonl"), cache=cache)


def user(*parts):
    return {"role": "user", "content": list(parts)}


def image(name=None):
    return {"type": "image"} | ({} if name is None else {"image": name})


def shown(sample):
    return [
        [p["image"].name for m in dialogue for p in m["content"] if p["type"] == "image"]
        for dialogue in dialogues(sample)
    ]


def test_the_layouts_in_use(tmp_path, cache):
    a, b = "images/0.jpg", "images/1.jpg"
    source = source_of(
        tmp_path,
        cache,
        {"messages": [user(image(), image())], "images": [a, b]},
        {"messages": [user(image(b)), user(image(a))]},
        "",
        {"image": a, "dialogues": [[user(image())], [user(image())]]},
        {"image": b, "text": " a caption "},
        {"messages": [{"role": "user", "content": "text alone"}]},
    )
    assert len(source) == 5
    samples = [pickle.loads(pickle.dumps(source)).read(i) for i in range(5)]
    assert [shown(sample) for sample in samples[:3]] == [
        [["0.jpg", "1.jpg"]],
        [["1.jpg", "0.jpg"]],
        [["0.jpg"], ["0.jpg"]],
    ]
    assert samples[2].name.endswith("data.jsonl: line 4")
    assert caption(samples[3]) == "a caption" and list(samples[3].pictures) == [b]
    assert dialogues(samples[4]) == [[{"role": "user", "content": "text alone"}]]
    extents = [source.extent(i).pictures for i in range(5)]
    assert extents == [((10, 5), (11, 5)), ((11, 5), (10, 5)), ((10, 5),), ((11, 5),), ()]


@pytest.mark.parametrize(
    "record, fault",
    [
        ({"image": "../secret.jpg", "text": "x"}, "must be a path inside"),
        ({"image": "/etc/passwd", "text": "x"}, "must be a path inside"),
        ({"image": "images/\0.jpg", "text": "x"}, "must be a path inside"),
        ({"image": "images/9.jpg", "text": "x"}, "no such file"),
        ({"image": "images", "text": "x"}, "no such file"),
        ({"image": 7, "messages": [user(image())]}, "more image parts than pictures"),
        ({"images": ["images/0.jpg"], "messages": "no"}, "must be a list"),
        ("{'text': 1}", "broken JSON"),
        ("[]", "want an object"),
    ],
)
def test_bad_lines_are_named(tmp_path, cache, record, fault):
    source = source_of(tmp_path, cache, record, {"text": "sound"})
    source.extent(0)
    with pytest.raises(InputError, match=fault) as caught:
        sample = source.read(0)
        assert caption(sample) is None
        dialogues(sample)
    assert "data.jsonl: line 1: " in str(caught.value) and "\n" not in str(caught.value)
    assert source.read(1).record == {"text": "sound"}


def test_an_endless_line_is_passed_over(tmp_path, cache, monkeypatch):
    monkeypatch.setattr("multimodal.data.jsonl.MAX_RECORD_BYTES", 50)
    source = source_of(tmp_path, cache, {"text": "x" * 149}, {"text": "sound"})
    assert len(source) == 2 and source.read(1).record == {"text": "sound"}
    with pytest.raises(InputError, match="line 1: .*larger than allowed"):
        source.read(0)


def test_no_lines(tmp_path, cache):
    with pytest.raises(InputError, match="no lines in it"):
        source_of(tmp_path, cache, "", " ")
