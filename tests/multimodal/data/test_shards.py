"""Shards against webdataset's own reader, and everything that may be wrong with a tar."""

import io
import pickle
import tarfile

import pytest
import webdataset

from language.errors import InputError
from multimodal.data.samples import caption, dialogues
from multimodal.data.shards import ShardSource
from tests.multimodal.data.sample_files import captioned, picture_bytes, write_shard


def add(tar, name, data=b"", **attributes):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def test_equals_webdataset(tmp_path, cache):
    for shard in range(3):
        samples = {f"{shard:05d}{i:04d}": captioned(10 * shard + i) for i in range(4)}
        samples["folder/with.dots/x"] = {"cls": "7", "0.png": picture_bytes(3, 5, kind="PNG")} | {
            "json": {"messages": [{"role": "user", "content": "hi"}]}
        }
        write_shard(tmp_path / f"{shard:05d}.tar", samples)
    pattern = str(tmp_path / "{00000..00002}.tar")
    source = ShardSource(pattern, cache=cache)
    wanted = list(webdataset.WebDataset(pattern, shardshuffle=False))
    assert len(source) == len(wanted) == 15
    for index, other in enumerate(wanted):
        sample = source.read(index)
        assert sample.name.endswith(f"sample {other['__key__']}")
        if "jpg" in other:
            assert sample.pictures == {"": other["jpg"]}
            assert caption(sample) == other["txt"].decode()
            assert source.extent(index).pictures == ((20, 10),)
        else:
            assert sample.pictures == {"0": other["0.png"]} and caption(sample) is None
            assert source.extent(index).pictures == ((3, 5),)


def test_paths_are_braces_globs_folders_and_urls(tmp_path, cache):
    for shard in range(3):
        write_shard(tmp_path / f"{shard}.tar", {f"{shard}": captioned(shard)})
    for path in ("{0..2}.tar", "*.tar", "", "[0-2].tar"):
        assert len(ShardSource(str(tmp_path / path), cache=cache)) == 3
        assert len(ShardSource(f"file://{tmp_path / path}", cache=cache)) == 3
    assert len(list((cache / "files").iterdir())) == 3  # one copy of each, made once


def test_a_remote_shard_is_copied_anew_when_it_changes(cache):
    import fsspec

    memory = fsspec.filesystem("memory")
    for count in (1, 2):
        data = io.BytesIO()
        with webdataset.TarWriter(data) as writer:
            for key in range(count):
                writer.write({"__key__": str(key), "txt": "words"})
        memory.pipe("/shards/a.tar", data.getvalue())
        assert len(ShardSource("memory://shards/a.tar", cache=cache)) == count


def test_the_index_is_read_once_and_follows_the_file(tmp_path, cache, monkeypatch):
    path = write_shard(tmp_path / "a.tar", {"1": captioned(1)})
    assert len(ShardSource(str(path), cache=cache)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", None)
        assert len(ShardSource(str(path), cache=cache)) == 1
    (stored,) = (cache / "indexes").iterdir()
    stored.write_bytes(stored.read_bytes()[:100])  # as after a crash
    assert len(ShardSource(str(path), cache=cache)) == 1
    write_shard(path, {"1": captioned(1), "2": captioned(2)})
    assert len(ShardSource(str(path), cache=cache)) == 2


def test_a_source_survives_pickling(tmp_path, cache):
    source = ShardSource(str(write_shard(tmp_path / "a.tar", {"1": captioned(1)})), cache=cache)
    source.read(0)
    assert len(pickle.dumps(source)) < 2000
    assert pickle.loads(pickle.dumps(source)).read(0) == source.read(0)


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('code from data was run')",)


def test_pickles_and_unknown_members_are_passed_over(tmp_path, cache):
    parts = captioned(1) | {"pkl": pickle.dumps(Bomb()), "pth": pickle.dumps(Bomb())}
    write_shard(tmp_path / "a.tar", {"only": {"pkl": pickle.dumps(Bomb())}, "1": parts})
    source = ShardSource(str(tmp_path / "a.tar"), cache=cache)
    assert len(source) == 1 and source.read(0).pictures == {"": parts["jpg"]}


def broken(tmp_path, cache, write):
    """The message for the first of two samples, of which the second is sound."""
    path = tmp_path / "bad.tar"
    with tarfile.open(path, "w") as tar:
        write(tar)
        add(tar, "sound.jpg", picture_bytes(5, 5))
        add(tar, "sound.txt", b"text")
    source = ShardSource(str(path), cache=cache)
    assert len(source) == 2
    assert caption(source.read(1)) == "text"
    source.extent(0)
    with pytest.raises(InputError) as caught:
        caption(source.read(0))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_are_named(tmp_path, cache, kind):
    def write(tar):
        add(tar, "bad.jpg", type=kind, linkname="/etc/passwd")
        add(tar, "bad.txt", b"text")

    assert "sample bad: jpg is a link" in broken(tmp_path, cache, write)


@pytest.mark.parametrize("name", ["/etc/bad", "../bad", "a/../../bad"])
def test_names_that_leave_are_named(tmp_path, cache, name):
    message = broken(tmp_path, cache, lambda tar: add(tar, f"{name}.jpg", picture_bytes(2, 2)))
    assert "leaves its folder" in message and name in message


def test_samples_without_text_are_named(tmp_path, cache):
    message = broken(tmp_path, cache, lambda tar: add(tar, "bad.jpg", picture_bytes(2, 2)))
    assert message.endswith("sample bad: no text")


@pytest.mark.parametrize(
    "data, fault",
    [
        (b'{"text": ', "broken JSON"),
        (b"[1, 2]", "want an object"),
        (b"[" * 100_000, "broken JSON"),
        (b'{"text": 3}', "no text"),
        (b'{"text": "  "}', "no text"),
        (b"\xff\xfe\x00", "broken JSON"),
    ],
)
def test_broken_records_are_named(tmp_path, cache, data, fault):
    assert fault in broken(tmp_path, cache, lambda tar: add(tar, "bad.json", data))


def test_doubles_are_named(tmp_path, cache):
    def write(tar):
        add(tar, "bad.txt", b"one")
        add(tar, "bad.txt", b"two")

    assert "stands twice" in broken(tmp_path, cache, write)


def test_huge_members_are_named_and_not_read(tmp_path, cache, monkeypatch):
    monkeypatch.setattr("multimodal.data.tar.MAX_RECORD_BYTES", 10)
    message = broken(tmp_path, cache, lambda tar: add(tar, "bad.txt", b"x" * 11))
    assert "larger than allowed" in message


def test_a_cut_tar_gives_what_came_before(tmp_path, cache, caplog):
    path = write_shard(tmp_path / "a.tar", {str(i): captioned(i) for i in range(3)})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    source = ShardSource(str(path), cache=cache)
    assert str(path) in caplog.text and "unexpected end" in caplog.text
    assert caption(source.read(0)) == "picture number 0"
    with pytest.raises(InputError, match="cut off|no text"):
        caption(source.read(len(source) - 1))


@pytest.mark.parametrize("headers", [{"size": "-1536"}, {"GNU.sparse.size": "abc"}])
@pytest.mark.parametrize("name", ["bad.cls", "bad.jpg"])
def test_senseless_headers_end_a_tar_and_not_the_run(tmp_path, cache, caplog, headers, name):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        add(tar, "0.jpg", picture_bytes(4, 4))
        add(tar, "0.txt", b"picture number 0")
        add(tar, name, b"x", pax_headers=headers)
        add(tar, "1.txt", b"never read")
    source = ShardSource(str(path), cache=cache)
    assert caption(source.read(0)) == "picture number 0"
    assert len(source) <= 2 and str(path) in caplog.text


def test_more_shards_than_files_may_be_open(tmp_path, cache, monkeypatch):
    monkeypatch.setattr("multimodal.data.indexed.MAX_OPEN_FILES", 2)
    for shard in range(5):
        write_shard(tmp_path / f"{shard}.tar", {f"{shard}-{i}": captioned(i) for i in range(2)})
    source = ShardSource(str(tmp_path / "*.tar"), cache=cache)
    assert [caption(source.read(i)) for i in (9, 0, 5, 1, 8)] == [
        f"picture number {i % 2}" for i in (9, 0, 5, 1, 8)
    ]
    assert len(source._shards._indexes) <= 2 and len(source._shards._descriptors) <= 2


def test_a_shard_that_shrank_after_indexing(tmp_path, cache):
    path = write_shard(tmp_path / "a.tar", {str(i): captioned(i) for i in range(3)})
    source = ShardSource(str(path), cache=cache)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="sample 2: is cut off"):
        source.read(2)


def test_what_is_no_shard_at_all(tmp_path, cache):
    def fault(path):
        with pytest.raises(InputError) as caught:
            ShardSource(str(path), cache=cache)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        return caught.value.fault

    assert fault(tmp_path / "missing.tar") == "no such file"
    assert "no files there" in fault(tmp_path / "*.tar")
    (tmp_path / "text.tar").write_text("these are words" * 1000)
    assert "not a plain" in fault(tmp_path / "text.tar")
    (tmp_path / "void.tar").write_bytes(b"")
    assert "not a plain" in fault(tmp_path / "void.tar")
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    assert "no samples" in fault(tmp_path / "empty.tar")
    with tarfile.open(tmp_path / "zip.tar", "w:gz") as tar:
        add(tar, "a.txt", b"text")
    assert "uncompressed" in fault(tmp_path / "zip.tar")
    import os

    os.mkfifo(tmp_path / "pipe.tar")
    assert fault(tmp_path / "pipe.tar") == "not a regular file"
    assert fault("pipe:touch pwned") == "no such file"


def message(role, *parts):
    return {"role": role, "content": list(parts)}


def image(name=None):
    return {"type": "image"} | ({} if name is None else {"image": name})


def test_pictures_are_put_in_their_places(tmp_path, cache):
    one, two = picture_bytes(2, 2, seed=1), picture_bytes(2, 2, seed=2)
    talk = [message("user", image(), {"type": "text", "text": "?"}, image())]
    named = [message("user", image("1"), image("0"))]
    alone = {"jpg": one, "json": {"messages": [message("user", image())] * 2}}
    both = {"0.jpg": one, "1.jpg": two, "json": {"dialogues": [talk, named]}}
    source = ShardSource(
        str(write_shard(tmp_path / "a.tar", {"alone": alone, "both": both})), cache=cache
    )

    def shown(dialogue):
        parts = [part for m in dialogue for part in m["content"]]
        return [part["image"] for part in parts if part["type"] == "image"]

    assert [shown(d) for d in dialogues(source.read(0))] == [[one, one]]
    assert [shown(d) for d in dialogues(source.read(1))] == [[one, two], [two, one]]


@pytest.mark.parametrize(
    "record, fault",
    [
        ({"messages": "hi"}, "must be a list"),
        ({"messages": []}, "must be a list"),
        ({"messages": ["hi"]}, "must be an object"),
        ({"messages": [{"role": "user", "content": ["hi"]}]}, "must be an object"),
        ({"dialogues": {}}, "list of lists"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "no message shows the picture"),
        ({"messages": [message("user", image("3"))]}, "no picture '3'"),
        ({"messages": [message("user", image([]))]}, "no picture"),
    ],
)
def test_malformed_dialogues_are_named(tmp_path, cache, record, fault):
    parts = {"jpg": picture_bytes(2, 2), "json": record}
    source = ShardSource(str(write_shard(tmp_path / "a.tar", {"bad": parts})), cache=cache)
    with pytest.raises(InputError, match=fault) as caught:
        dialogues(source.read(0))
    assert "sample bad" in str(caught.value)
