"""Archives are read as they are: in one pass, and refused where they are broken."""

import io
import random
import tarfile
from pathlib import Path

import pytest

from language.errors import InputError
from multimodal.evaluation import packed
from multimodal.evaluation.packed import Packed, find_packed, packed_texts

CONTENTS = {f"test/{n}.wav": random.Random(n).randbytes(5000 + n) for n in range(12)}


@pytest.fixture(params=["w:gz", "w", "w:bz2"])
def archive(tmp_path: Path, request) -> Path:
    return write(tmp_path / "test.tar.gz", mode=request.param)


def write(path: Path, *, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as opened:
        folder = tarfile.TarInfo("test")
        folder.type = tarfile.DIRTYPE
        opened.addfile(folder)
        for name, content in CONTENTS.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("test/link.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(link)
    return path


def test_files_come_in_the_archive_s_order_and_in_one_pass(archive, monkeypatch):
    opens = []
    real = tarfile.open
    monkeypatch.setattr(tarfile, "open", lambda *a, **k: opens.append(a) or real(*a, **k))
    wanted = {"7": "seven", "3": "three", "11": "eleven"}
    found = list(find_packed([archive], wanted))
    assert [known for known, _ in found] == ["three", "seven", "eleven"] and not wanted
    assert [each.read() for _, each in found] == [CONTENTS[each.name] for _, each in found]
    assert len(opens) == 2  # once for the names, once for what they hold
    assert found[0][1].read() == CONTENTS["test/3.wav"]  # back to the beginning
    assert len(opens) == 3


def test_any_order_gives_the_same(archive, tmp_path):
    other = write(tmp_path / "other.tar")
    rng = random.Random(0)
    for _ in range(40):
        name = rng.choice(list(CONTENTS))
        assert Packed(rng.choice([archive, other]), name).read() == CONTENTS[name]


def test_several_archives(tmp_path):
    archives = [write(tmp_path / "a.tar.gz"), write(tmp_path / "b.tar.gz")]
    (found,) = find_packed(archives, {"5": 5})
    assert found == (5, Packed(archives[0], "test/5.wav"))
    assert str(found[1]) == f"{archives[0]}/test/5.wav"
    with pytest.raises(InputError, match=r"b\.tar\.gz/99: missing: half of the set"):
        list(find_packed(archives, {"5": 5, "99": 99}))


def test_what_is_no_file_of_it_is_not_read(archive):
    with pytest.raises(InputError, match="missing"):
        list(find_packed([archive], {"link": 1}))
    for name in ("test/link.wav", "test", "nothing"):
        with pytest.raises(InputError, match="no such file in the archive"):
            Packed(archive, name).read()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9])
def test_an_archive_that_was_cut_off_is_one_line(tmp_path, share):
    path = write(tmp_path / "test.tar.gz")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"not a whole tar archive|missing"):
        list(find_packed([path], dict.fromkeys("0 5 11".split(), 1)))
    with pytest.raises(InputError, match=r"not a whole tar archive|no such file") as fault:
        Packed(path, "test/11.wav").read()
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_with_wrong_bytes_is_read_or_refused(tmp_path, mode):
    """And nothing else: a bit is changed, a piece taken out or overwritten, two hundred times."""
    content, rng = write(tmp_path / "whole.tar", mode=mode).read_bytes(), random.Random(1)
    path, refused = tmp_path / "test.tar", 0
    for _ in range(200):
        changed, start = bytearray(content), rng.randrange(len(content))
        if mode == "w" and rng.random() < 0.7:  # where it counts: in a file's header
            start = start // 512 * 512 + rng.randrange(156)
        if rng.random() < 0.5:
            changed[start : start + 1] = rng.randbytes(1)
        else:
            changed[start : start + rng.randrange(600)] = rng.randbytes(rng.randrange(600))
        path.write_bytes(changed)
        try:
            found = list(find_packed([path], dict.fromkeys("2 9".split(), 1)))
            _ = [each.read() for _, each in found]
            _ = list(packed_texts(path, ending="4.wav"))
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 20


def test_texts_of_an_archive(tmp_path):
    path = tmp_path / "texts.tar.gz"
    with tarfile.open(path, "w:gz") as opened:
        for name, content in (("a/1.txt", "größer\n"), ("a/1.wav", "no"), ("b/2.txt", "2")):
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            opened.addfile(member, io.BytesIO(content.encode()))
    found = list(packed_texts(path, ending=".txt"))
    assert found == [(Packed(path, "a/1.txt"), "größer\n"), (Packed(path, "b/2.txt"), "2")]
    with pytest.raises(InputError, match=r"test/3\.wav: not a text"):
        list(packed_texts(write(tmp_path / "test.tar"), ending="3.wav"))


def test_what_is_no_archive_is_one_line(tmp_path):
    for content in (b"no archive", b"\x1f\x8b\x08" + b"\0" * 600, b"x" * 2000):
        path = tmp_path / "test.tar.gz"
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a whole tar archive"):
            list(find_packed([path], {"1": 1}))
        with pytest.raises(InputError, match="not a whole tar archive"):
            Packed(path, "test/1.wav").read()
    with pytest.raises(InputError, match="not a whole tar archive"):
        Packed(tmp_path / "gone.tar", "a").read()


def test_a_file_that_is_too_large_is_not_read(archive, monkeypatch):
    monkeypatch.setattr(packed, "MAX_BYTES", 5005)
    assert Packed(archive, "test/5.wav").read()
    with pytest.raises(InputError, match="has 5,006 bytes"):
        Packed(archive, "test/6.wav").read()
