"""Files of forced aligners, in the forms that Praat itself writes, and broken ones."""

import pytest

from language.errors import InputError
from speech.prosody.textgrid import ipa, read_alignment

WORDS = [(0.0, 0.2, "red"), (0.2, 0.3, ""), (0.3, 0.55, 'a "car"')]
PHONES = [
    *((0.0, 0.05, "R"), (0.05, 0.15, "EH1"), (0.15, 0.2, "D"), (0.2, 0.3, "sil")),
    *((0.3, 0.4, "k"), (0.4, 0.5, "ˈɑː"), (0.5, 0.55, "ɹ")),
]
WANTED = [("ɹ", 0), ("ˈɛ", 0), ("d", 0), ("k", 1), ("ˈɑː", 1), ("ɹ", 1)]


def grid(form, words=WORDS, phones=PHONES, names=("words", "phones")):
    """A TextGrid as Praat writes it."""
    parselmouth = pytest.importorskip("parselmouth")
    call = parselmouth.praat.call
    made = call("Create TextGrid", 0.0, 0.55, " ".join(names), "")
    for tier, rows in enumerate((words, phones), start=1):
        for start, *_ in rows:
            if start > 0:
                call(made, "Insert boundary", tier, start)
        for number, row in enumerate(rows, start=1):
            call(made, "Set interval text", tier, number, row[2])
    return made, {"long": "Save as text file", "short": "Save as short text file"}[form]


@pytest.fixture
def written(tmp_path):
    def write(form, **changes):
        parselmouth = pytest.importorskip("parselmouth")
        made, command = grid(form, **changes)
        file = tmp_path / f"{form}.TextGrid"
        parselmouth.praat.call(made, command, str(file))
        return file

    return write


@pytest.mark.parametrize("form", ["long", "short"])
def test_what_praat_writes_is_read(written, form):
    phones = read_alignment(written(form))
    assert [(phone.symbol, phone.word) for phone in phones] == WANTED
    times = [(phone.start, phone.end) for phone in phones]
    assert times == [pytest.approx(row[:2]) for row in PHONES if row[2] != "sil"]


def test_a_tier_may_name_its_speaker(written, tmp_path):
    file = written("long")
    text = file.read_text(encoding="utf-16" if b"\xfe\xff" in file.read_bytes()[:2] else "utf-8")
    file.write_text(text.replace('"words"', '"Ann - words"').replace('"phones"', '"Ann - phones"'))
    assert len(read_alignment(file)) == len(WANTED)


def test_plain_lists_are_read(tmp_path):
    file = tmp_path / "a.phones"
    file.write_text("ð 0.0 0.05\nə 0.05 0.1\n\n_ 0.1 0.2\nk 0.2 0.3\nɑː 0.3 0.45\n\n\n")
    phones = read_alignment(file)
    assert [(p.symbol, p.start, p.word) for p in phones] == [
        *(("ð", 0.0, 0), ("ə", 0.05, 0), ("k", 0.2, 1), ("ɑː", 0.3, 1))
    ]


def test_lists_may_number_their_words(tmp_path):
    file = tmp_path / "a.phones"
    file.write_text("a 0 0.1 0\nb 0.1 0.2 2\nc 0.2 0.3 2\n")
    assert [phone.word for phone in read_alignment(file)] == [0, 2, 2]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no phones"),
        ("a 0.0\n", "line 1"),
        ("a 0.0 0.1\nb zero 1\n", "line 2"),
        ("a 0.0 0.1\nb 0.05 0.2\n", "times must rise"),
        ("a 0.2 0.1\n", "times must rise"),
        ("a 0 inf\n", "times must rise"),
        ("a nan 1\n", "times must rise"),
        ("a 0.0 0.1 1\nb 0.1 0.2 0\n", "a word back"),
        ("a 0.0 0.1 x\n", "line 1"),
        ("a 0.0 0.1 0 0\n", "line 1"),
    ],
)
def test_broken_lists_are_named(tmp_path, text, fault):
    file = tmp_path / "broken.phones"
    file.write_text(text)
    with pytest.raises(InputError, match=f"broken.phones.*{fault}"):
        read_alignment(file)


def test_broken_grids_are_named(tmp_path, written):
    whole = written("short")
    data = whole.read_bytes()
    text = data.decode("utf-16" if data[:2] in (b"\xfe\xff", b"\xff\xfe") else "utf-8")
    file = tmp_path / "broken.TextGrid"
    for broken, fault in (
        ("Hello", "no TextGrid"),
        (text[: len(text) // 2], "broken TextGrid|want one tier"),
        (text.replace('"phones"', '"sounds"'), "called 'phones'"),
        (text.replace("<exists>", "nothing"), "broken TextGrid"),
        (text.replace('"red"', '""'), "in no word"),
    ):
        file.write_text(broken)
        with pytest.raises(InputError, match=f"broken.TextGrid: .*({fault})"):
            read_alignment(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF"):
        read_alignment(file)
    with pytest.raises(InputError, match="none.TextGrid"):
        read_alignment(tmp_path / "none.TextGrid")


def test_arpabet_becomes_ipa():
    assert [ipa(label) for label in ("AH0", "IY1", "OW2", "NG", "ˈuː", "x")] == [
        *("ʌ", "ˈiː", "ˌoʊ", "ŋ", "ˈuː", "x")
    ]
