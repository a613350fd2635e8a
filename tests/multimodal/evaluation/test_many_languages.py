"""Sets of many languages: in one run, and out of the archives in which they are published."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from multimodal.cli import main
from multimodal.evaluation.benchmark import Settings
from multimodal.evaluation.benchmarks import benchmark
from multimodal.evaluation.predictions import read_predictions
from multimodal.evaluation.runner import run
from tests.multimodal.evaluation.canned import Canned
from tests.multimodal.evaluation.sets import librispeech, pack, sound, write

SPOKEN = {
    "cmn_hans_cn": {"c1": ("小房子", "小方子"), "c2": ("大", "大")},  # 1 of 4 characters: 25 %
    "en_us": {
        "e1": ("A small house.", "a small house"),
        "e2": ("Two dogs run.", "two dogs"),
    },  # 1/6
    "hi_in": {"h1": ("यह किताब है", "यह किताब है")},  # none of 3
    "af_za": {"a1": ("n huis", "n huis")},  # which the paper's models do not know
}
"""By language and recording: what is said, and what is heard."""


def many_languages(folder: Path, *, is_packed: bool) -> None:
    for code, spoken in SPOKEN.items():
        top = folder / "data" / code
        rows = []
        for number, (name, (text, _)) in enumerate(spoken.items()):
            sound(top / "audio" / "test" / f"{name}.wav")
            rows.append(f"{number}\t{name}.wav\t{text}\t{text}\tx\t8000\tMALE\n")
        write(top / "test.tsv", "".join(rows))
        if is_packed:
            pack(top / "audio" / "test")


@pytest.mark.parametrize("is_packed", [False, True])
def test_all_languages_of_fleurs_in_one_run(is_packed, tmp_path: Path, capsys):
    """The mean over languages is that of 25, 100 / 6 and 0, and not 2 errors of 13."""
    data, out, settings = tmp_path / "data", tmp_path / "out", Settings(language="all")
    many_languages(data, is_packed=is_packed)
    said = {f"{code}/{name}": heard for code, spoken in SPOKEN.items()
            for name, (_, heard) in spoken.items()}  # fmt: skip
    chosen = benchmark("fleurs")
    model = Canned(chosen, data, settings, said)
    run(chosen, model, data, out, settings=settings, model={"name": "canned"}, batch_size=2)
    assert main(["score", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["value"] == pytest.approx((25 + 100 / 6) / 3, abs=1e-3)
    assert found["low"] <= found["value"] <= found["high"]
    assert found["mean_over"] == "language" and found["number"] == 5
    by_language = {code: each["value"] for code, each in found["groups"]["language"].items()}
    assert by_language == pytest.approx(
        {"cmn_hans_cn": 25, "en_us": 100 / 6, "hi_in": 0}, abs=1e-3
    )  # fmt: skip
    if is_packed:
        assert "c1.wav" in (out / "report.html").read_text()
        assert not list(data.rglob("*.wav"))


@pytest.mark.parametrize("is_packed", [False, True])
def test_all_languages_of_fleurs_into_english(is_packed, tmp_path: Path, capsys):
    data, out, settings = tmp_path / "data", tmp_path / "out", Settings(language="all")
    many_languages(data, is_packed=is_packed)
    chosen = benchmark("fleurs_translation")
    said = {"cmn_hans_cn/c1": "A small house.", "cmn_hans_cn/c2": "Two dogs run.",
            "hi_in/h1": "nothing of it"}  # fmt: skip
    model = Canned(chosen, data, settings, said)
    run(chosen, model, data, out, settings=settings, model={"name": "canned"})
    assert main(["score", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["groups"]["language"]) == {"cmn_hans_cn", "hi_in"}
    values = [each["value"] for each in found["groups"]["language"].values()]
    assert values[0] == 100 and found["value"] == pytest.approx(sum(values) / 2, abs=1e-3)


def test_two_runs_over_languages_are_compared_by_their_mean(tmp_path: Path, capsys):
    data, settings = tmp_path / "data", Settings(language="all")
    many_languages(data, is_packed=False)
    chosen = benchmark("fleurs")
    for name, number in (("heard", 1), ("right", 0)):
        said = {f"{code}/{key}": pair[number] for code, spoken in SPOKEN.items()
                for key, pair in spoken.items()}  # fmt: skip
        model = Canned(chosen, data, settings, said)
        run(chosen, model, data, tmp_path / name, settings=settings, model={"name": name})
    words = [str(tmp_path / "heard"), str(tmp_path / "right"), "--json"]
    assert main(["evaluate", "--compare", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["difference"] == pytest.approx(-(25 + 100 / 6) / 3) and found["second"] == 0


def test_archives_of_voxpopuli_are_read_as_they_are(tmp_path: Path, capsys):
    top = tmp_path / "data" / "data" / "en"
    for key in ("one", "two"):
        sound(top / "test" / "test_part_0" / f"{key}.wav")
    pack(top / "test" / "test_part_0")
    head = "id\traw_text\tnormalized_text\tspeaker_id\tsplit\n"
    write(top / "asr_test.tsv", head + "one\tthank you\tx\t1\ttest\ntwo\t\tvery much\t1\ttest\n")
    chosen, data = benchmark("voxpopuli"), tmp_path / "data"
    model = Canned(chosen, data, Settings(), {"one": "Thank you!", "two": "very well"})
    run(chosen, model, data, tmp_path / "out", settings=Settings(), model={"name": "canned"})
    assert main(["score", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == 25


def test_the_model_that_ships_hears_the_same_in_an_archive(tmp_path: Path, capsys):
    said = []
    for is_packed in (False, True):
        data, out = tmp_path / f"data-{is_packed}", tmp_path / f"out-{is_packed}"
        many_languages(data, is_packed=is_packed)
        words = ["evaluate", "fleurs", "--data", str(data), "--out", str(out), "--language", "all"]
        assert main([*words, "--batch_size", "1"]) == 0
        shown = capsys.readouterr().out
        assert "mean over each language" in shown and "language: hi_in" in shown
        said.append({each.key: each.answer for each in read_predictions(out)[1]})
    assert said[0] == said[1] and len(said[0]) == 5
    for archive in data.rglob("*.tar.gz"):
        archive.write_bytes(archive.read_bytes()[:300])
    assert main(["evaluate", "fleurs", "--data", str(data), "--out", str(tmp_path / "again")]) == 2
    fault = capsys.readouterr().err
    assert "not a whole tar archive" in fault and fault.count("\n") == 1


def test_the_archive_of_librispeech_is_read_as_it_is(tmp_path: Path, capsys):
    librispeech(tmp_path)
    top = tmp_path / "LibriSpeech"
    with tarfile.open(tmp_path / "test-other.tar.gz", "w:gz") as archive:
        for file in sorted(top.rglob("*.*"), reverse=True):  # the transcripts come before
            archive.add(file, str(file.relative_to(tmp_path)))
    shutil.rmtree(top)
    chosen = benchmark("librispeech")
    said = {"19-198-0000": "the bat sat", "19-198-0001": "on a red old"}
    model = Canned(chosen, tmp_path, Settings(), said)
    out = tmp_path / "out"
    run(chosen, model, tmp_path, out, settings=Settings(), model={"name": "canned"})
    assert [each.key for each in read_predictions(out)[1]] == ["19-198-0001", "19-198-0000"]
    assert main(["score", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == pytest.approx(200 / 7, abs=1e-3)


def test_a_recording_of_an_archive_that_is_broken_is_one_line(tmp_path: Path, capsys):
    many_languages(tmp_path / "data", is_packed=False)
    for code in SPOKEN:
        folder = tmp_path / "data" / "data" / code / "audio" / "test"
        if code == "en_us":
            (folder / "e2.wav").write_bytes(b"no sound")
        pack(folder)
    words = ["evaluate", "fleurs", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "one of 2 recordings from " in said and "test/e1.wav" in said and said.count("\n") == 1
