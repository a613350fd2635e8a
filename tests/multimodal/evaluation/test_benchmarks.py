"""Every benchmark reads its published layout and gives the score that was computed by hand."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from language.errors import InputError
from multimodal.cli import main
from multimodal.evaluation.benchmark import Settings
from multimodal.evaluation.benchmarks import NAMES, benchmark
from multimodal.evaluation.runner import read_samples, run
from tests.multimodal.evaluation.canned import Canned
from tests.multimodal.evaluation.metrics.dictionary_files import write_dictionary
from tests.multimodal.evaluation.sets import SETS, mutox, nextqa


@pytest.mark.parametrize("name", list(SETS))
def test_scores_are_those_by_hand(name, tmp_path: Path, capsys):
    make, settings, answers, value = SETS[name]
    data, out = tmp_path / "data", tmp_path / "out"
    make(data)
    chosen, given = benchmark(name), Settings(**settings)
    file = run(
        chosen,
        Canned(chosen, data, given, answers),
        data,
        out,
        settings=given,
        model={"name": "canned"},
    )
    assert file == out / "predictions.jsonl"
    assert main(["score", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["value"] == pytest.approx(value, abs=1e-3)
    assert found["number"] == len(answers) and found["low"] <= found["value"] <= found["high"]
    assert found["benchmark"] == name and found["judge"] == "none"
    assert json.loads((out / "metrics.json").read_text())["value"] == found["value"]
    page = (out / "report.html").read_text()
    assert chosen.title in page and "http" not in page.replace("http-equiv", "")
    has_options = name in ("ai2d", "perceptiontest", "nextqa_mc", "tvqa")
    assert ("Options: right, and named" in page) == has_options


LAYOUTS = {name: (make, words, len(answers)) for name, (make, words, answers, _) in SETS.items()}
LAYOUTS["mutox"] = mutox, {}, 3
"""By benchmark: what writes the set, settings, number of samples."""


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_another_folder_is_told_what_was_looked_for(name, tmp_path: Path):
    (tmp_path / "holiday.txt").write_text("nothing")
    chosen, settings = benchmark(name), Settings(**LAYOUTS[name][1])
    with pytest.raises(InputError, match=r"looked for|missing"):
        read_samples(chosen, tmp_path, settings=settings)
    with pytest.raises(InputError, match="no such folder"):
        read_samples(chosen, tmp_path / "nowhere", settings=settings)


@pytest.mark.parametrize("name", [n for n in LAYOUTS if n not in ("mmmu",)])
def test_half_of_a_set_is_refused(name, tmp_path: Path):
    LAYOUTS[name][0](tmp_path)
    endings = {".png", ".jpg", ".mp4", ".mkv", ".flac", ".ogg", ".wav", ".mp3"}
    for path in list(tmp_path.rglob("*")):
        if path.suffix in endings:
            path.unlink()
    with pytest.raises(InputError, match="missing: half of the set"):
        read_samples(benchmark(name), tmp_path, settings=Settings(**LAYOUTS[name][1]))


BROKEN = (
    lambda data: data[: len(data) // 2],
    lambda data: b'{"data": 5, "questions": []}',
    lambda data: b"5",
    lambda data: b"[5]",
    lambda data: b"",
    lambda data: b"\xff\xfe\x00" + data,
    lambda data: data.replace(b".png", b"\\u0000").replace(b".jpg", b"\\u0000"),
    lambda data: data.replace(b"1", b"1" * 5000),
)
"""Cut off, of other types, empty, no text, names that are none."""


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_annotations_that_are_cut_off_or_of_other_types_are_one_line(name, tmp_path: Path):
    """Each annotation file is cut in the middle, then filled with something else."""
    make, settings, number_of_samples = LAYOUTS[name]
    chosen = benchmark(name)
    kinds = {".json", ".jsonl", ".csv", ".tsv", ".txt", ".parquet"}
    make(tmp_path / "whole")
    files = [p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*")
             if p.suffix in kinds]  # fmt: skip
    assert files
    for number, file in enumerate(files):
        for kind, how in enumerate(BROKEN):
            folder = tmp_path / f"{number}-{kind}"
            shutil.copytree(tmp_path / "whole", folder)
            broken = folder / file
            broken.write_bytes(how(broken.read_bytes()))
            try:
                found = read_samples(chosen, folder, settings=Settings(**settings))
            except InputError as error:
                assert "\n" not in str(error)
            else:  # a table that ends early is a smaller table
                assert len(found) <= number_of_samples


def test_all_are_listed_with_metric_layout_and_the_paper_s_figures(capsys):
    assert main(["evaluate", "--list", "--json"]) == 0
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert set(listed) == set(NAMES)
    assert {*LAYOUTS, "nextqa"} == set(NAMES)
    for each in listed.values():
        assert each["metric"] and each["layout"] and each["source"] and each["split"]
    assert listed["chartqa"]["options"] == ["split", "reason"]
    assert listed["activitynetqa"]["options"] == ["split", "judge"]
    assert listed["mutox"]["options"] == ["split", "language", "classifier"]
    assert listed["docvqa"]["paper"] == {"8b": 84.4, "70b": 92.2, "405b": 92.6}
    assert main(["evaluate", "--list"]) == 0
    assert "looks for" in capsys.readouterr().out


def test_prompts_are_what_they_were():
    """A prompt that changes changes figures: raise the benchmark's version with it."""
    asked = {name: (benchmark(name).version, benchmark(name).prompt) for name in NAMES}
    word = "{question}\nAnswer the question using a single word or phrase."
    letter = (
        "{question}\n{options}\nAnswer with the option's letter from the given choices directly."
    )
    assert asked["vqav2"] == asked["textvqa"] == asked["docvqa"] == (1, word)
    assert asked["activitynetqa"] == (1, word)
    assert asked["ai2d"] == asked["perceptiontest"] == asked["nextqa_mc"] == (2, letter)
    assert asked["mmmu"] == (1, f"{letter} | {word}")
    assert asked["tvqa"] == (2, "Subtitles: {subtitles}\n" + letter)
    assert asked["chartqa"] == (
        1, "{question}\nAnswer the question with a single word or number."
    )  # fmt: skip


def test_prompts_that_ask_for_reasoning_are_what_they_were():
    thought = (
        '{question}\nThink step by step. Then end with a line that says "Final answer:" and the '
    )
    chosen = benchmark("chartqa").under(Settings(reason=True))
    assert chosen.prompt == thought + "answer, a single word or number."
    chosen = benchmark("mmmu").under(Settings(reason=True))
    assert chosen.prompt == (
        thought.replace("\n", "\n{options}\n") + "option's letter. | " + thought
        + "answer, a single word, number or phrase."
    )  # fmt: skip


REASONED = {
    # the first thought names A, which counts for nothing; 36 is off by a tenth
    "mmmu": {"validation_Art_1": "A is oil. (A) is old.\nFinal answer: **B**",
             "validation_Art_2": "So it is 3.5 or 4.\nFinal answer: 4"},
    "chartqa": {"human-0": "40 is near, but 40 less 4 is 36.\nFinal answer: 36",
                "human-1": "Portugal?\n\nFinal answer:\nSpain.", "augmented-0": "It is\n5 %"},
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [("mmmu", 50), ("chartqa", 200 / 3)])
def test_the_answer_of_a_model_that_reasons_is_at_the_end(name, value, tmp_path: Path, capsys):
    data, out, settings = tmp_path / "data", tmp_path / "out", Settings(reason=True)
    SETS[name][0](data)
    chosen = benchmark(name)
    model = Canned(chosen, data, settings, REASONED[name])
    run(chosen, model, data, out, settings=settings, model={"name": "canned"})
    assert model.settings["max_new_tokens"] == 1024
    assert all("step by step" in asked for asked in model.written)
    assert main(["score", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["value"] == pytest.approx(value, abs=1e-3)
    assert found["settings"]["reason"] is True and "step by step" in found["prompt"]
    assert found["decoding"]["max_new_tokens"] == 1024 and "reasons first" in found["note"]
    at_once = Canned(chosen, data, Settings(), REASONED[name])
    with pytest.raises(InputError, match="holds answers of another run: its settings"):
        run(chosen, at_once, data, out, settings=Settings(), model={"name": "canned"})


def test_recognized_words_are_asked_for_and_written_down(tmp_path: Path):
    SETS["textvqa"][0](tmp_path)
    chosen = benchmark("textvqa")
    (plain,) = read_samples(chosen, tmp_path, settings=Settings())
    (helped,) = read_samples(chosen, tmp_path, settings=Settings(ocr=True))
    texts = [s.request.messages[0]["content"][1]["text"] for s in (plain, helped)]
    assert "STOP" not in texts[0] and "Reference OCR token: STOP, here" in texts[1]
    with pytest.raises(InputError, match="docvqa does not take it"):
        benchmark("docvqa").check(Settings(ocr=True))


def test_names_that_are_close_are_offered(capsys):
    assert main(["evaluate", "docvqua", "--data", "x"]) == 2
    assert "did you mean 'docvqa'" in capsys.readouterr().err


def test_open_answers_of_nextqa_are_as_alike_as_the_dictionary_says(tmp_path: Path, capsys):
    """Above dog and cat there is animal, above that the root: 2 * 2 / (3 + 3); a count is right."""
    nouns = {"entity": (["entity"], []), "animal": (["animal"], ["entity"]),
             "dog": (["dog"], ["animal"]), "cat": (["cat"], ["animal"])}  # fmt: skip
    dictionary = write_dictionary(tmp_path / "wordnet", nouns=nouns)
    data, out = tmp_path / "data", tmp_path / "out"
    nextqa(data)
    chosen, settings = benchmark("nextqa"), Settings(wordnet=str(dictionary))
    model = Canned(chosen, data, settings, {"77-5": "a cat", "77-6": "two"})
    run(chosen, model, data, out, settings=settings, model={"name": "canned"})
    assert main(["score", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["value"] == pytest.approx((100 * 4 / 6 + 100) / 2, abs=1e-3)
    with pytest.raises(InputError, match="no WordNet dictionary"):
        read_samples(chosen, data, settings=Settings(wordnet=str(data)))


CLASSIFIER = """
def says_damn(texts):
    return ["damn" in text for text in texts]

def scores(texts):
    return [0.3 for _ in texts]
"""


@pytest.fixture
def classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the working directory."""
    (tmp_path / "made_up_classifier.py").write_text(CLASSIFIER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    return "made_up_classifier"


def test_toxicity_is_added_and_lost(tmp_path: Path, capsys, caplog, classifier):
    """English: of a safe, a toxic and another safe recording one each is answered otherwise."""
    data, out = tmp_path / "data", tmp_path / "out"
    mutox(data)
    said = {"e1": "oh\n damn", "e2": "I would not say that", "e3": "so he did", "s1": "hola"}
    chosen = benchmark("mutox")
    for language, keys in (("", "e1 e2 e3"), ("all", "e1 e2 e3 s1")):
        settings, folder = Settings(language=language), out / (language or "eng")
        samples = read_samples(chosen, data, settings=settings)
        assert [each.key for each in samples] == keys.split()
        assert f"1 of {len(samples) + 1} recordings are missing" in caplog.messages[-1]
        model = Canned(chosen, data, settings, said)
        run(chosen, model, data, folder, settings=settings, model={"name": "canned"})
    words = ["--classifier", f"{classifier}:says_damn", "--json"]
    assert main(["score", str(out / "eng"), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    (lost,) = found["further"].values()
    assert found["value"] == lost["value"] == pytest.approx(100 / 3, abs=1e-3)
    assert found["groups"]["said"]["safe"]["value"] == 50
    assert lost["groups"]["said"]["toxic"]["value"] == 100
    assert found["judge"]["name"] == f"{classifier}:says_damn"
    assert found["prompt"] == "{recording}" and found["paper"] == {"8b": 0.84, "70b": 0.68}
    assert main(["score", str(out / "all"), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["value"] == 25 and set(found["groups"]["language"]) == {"eng", "spa"}
    assert samples[2].about == '"well" he said'
    assert main(["score", str(out / "all")]) == 2
    assert "--classifier: mutox needs one" in capsys.readouterr().err
    assert main(["score", str(out / "all"), "--classifier", f"{classifier}:scores"]) == 2
    assert "gave 0.3, where bool is wanted" in capsys.readouterr().err
    assert main(["evaluate", "mutox", "--data", str(data)]) == 2  # before any work is done
    assert "--classifier: mutox needs one" in capsys.readouterr().err


def test_the_model_that_ships_answers_what_it_hears(tmp_path: Path, capsys, classifier):
    mutox(tmp_path / "data")
    words = ["evaluate", "mutox", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert main([*words, "--classifier", f"{classifier}:says_damn", "--limit", "1"]) == 0
    assert "added toxicity" in capsys.readouterr().out
