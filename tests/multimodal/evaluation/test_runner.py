"""Runs: killed and gone on with, spread over processes, refused; and what is kept of them."""

import json
import os
import sys
from pathlib import Path

import pytest

from language.errors import InputError
from multimodal.cli import main
from multimodal.evaluation import runner
from multimodal.evaluation.benchmark import Settings
from multimodal.evaluation.benchmarks import benchmark
from multimodal.evaluation.launchers import own_device, place
from multimodal.evaluation.predictions import FILE, PARTS, read_predictions
from tests.multimodal.evaluation.canned import Canned
from tests.multimodal.evaluation.sets import picture, write

NUMBER = 11
MODEL = {"name": "canned"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """DocVQA of eleven questions; the even ones are answered right."""
    folder = tmp_path / "data"
    picture(folder / "documents" / "a.png")
    records = [
        {"questionId": n, "question": f"What is {n}?", "image": "documents/a.png",
         "answers": [f"thing {n}"]}
        for n in range(NUMBER)
    ]  # fmt: skip
    write(folder / "val_v1.0.json", {"data": records})
    return folder


def answers(wrong: int = 2) -> dict[str, str]:
    return {str(n): f"thing {n}" if n % wrong == 0 else "?" for n in range(NUMBER)}


class KilledError(Exception):
    pass


class Mortal(Canned):
    """Dies before its third batch."""

    def answer_all(self, dialogues, *, batch_size):
        if len(self.asked) == 2:
            raise KilledError
        return super().answer_all(dialogues, batch_size=batch_size)


def go(data: Path, out: Path, *, kind=Canned, **more):
    chosen = benchmark("docvqa")
    model = kind(chosen, data, Settings(), more.pop("says", answers()))
    settings = {"settings": Settings(), "model": MODEL, "batch_size": 2} | more
    return runner.run(chosen, model, data, out, **settings), model


def test_a_run_that_was_killed_goes_on_and_comes_to_the_same(data, tmp_path):
    whole, _ = go(data, tmp_path / "whole")
    out = tmp_path / "killed"
    with pytest.raises(KilledError):
        go(data, out, kind=Mortal)
    assert not (out / FILE).exists()
    (part,) = (out / PARTS).glob("process-*.jsonl")
    with part.open("a") as file:  # and the kill cut a line off
        file.write('{"key": "4", "answ')
    again, model = go(data, out)
    assert again.read_text() == whole.read_text()
    assert model.asked == [2, 2, 2, 1]  # of six batches two were answered before
    _, model = go(data, out)
    assert model.asked == []


def test_processes_share_the_samples_in_the_same_batches(data, tmp_path, monkeypatch):
    whole, _ = go(data, tmp_path / "whole")
    out, sizes = tmp_path / "shared", []
    for rank in (2, 0, 1):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        file, model = go(data, out)
        sizes.append(sum(model.asked))
        assert (file is None) == (rank != 1)  # whoever is last puts all together
    assert sizes == [3, 4, 4]  # of batches of 2, 2, 2, 2, 2 and 1
    assert file.read_text() == whole.read_text()


def test_slurm_s_words_are_known(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert place() == (0, 1)
    monkeypatch.setenv("SLURM_PROCID", "5")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert place() == (5, 8)


def test_processes_of_a_machine_have_a_gpu_each(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert own_device("auto") == own_device(None) == "auto"
    monkeypatch.setenv("LOCAL_RANK", "6")
    assert own_device("auto") == own_device(None) == "cuda:2"
    assert own_device("cpu") == "cpu"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert own_device("auto") == "auto"


def test_answers_of_another_run_are_left_alone(data, tmp_path):
    out = tmp_path / "out"
    go(data, out)
    before = (out / FILE).read_text()
    for more, fault in (
        ({"model": {"name": "other"}}, "its model is"),
        ({"limit": 3}, "its number is"),
        ({"batch_size": 4}, "its decoding is"),
    ):
        with pytest.raises(InputError, match=fault):
            go(data, out, **more)
    assert (out / FILE).read_text() == before


def test_the_first_samples_alone(data, tmp_path):
    file, _ = go(data, tmp_path / "out", limit=3)
    run, found = read_predictions(file)
    assert run.number == 3 and [each.key for each in found] == ["0", "1", "2"]


def test_progress_and_greedy_answers(data, tmp_path):
    heard = []
    _, model = go(data, tmp_path / "out", told=lambda *numbers: heard.append(numbers))
    assert [done for done, _, _ in heard] == [2, 4, 6, 8, 10, 11]
    assert {whole for _, whole, _ in heard} == {NUMBER} and heard[-1][2] == 0
    assert model.settings == {"temperature": 0.0, "max_new_tokens": 64}


def test_two_samples_of_one_name_are_refused(data, tmp_path):
    file = data / "val_v1.0.json"
    records = json.loads(file.read_text())["data"]
    write(file, {"data": [*records, records[4]]})
    with pytest.raises(InputError, match="holds the sample 4 twice"):
        go(data, tmp_path / "out")
    write(file, {"data": []})
    with pytest.raises(InputError, match="holds no samples of DocVQA"):
        go(data, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda lines: [], "empty: no predictions"),
        (lambda lines: lines[:-1], "10 predictions of 11: cut off?"),
        (lambda lines: [*lines[:-1], lines[-2]], "holds 9 twice"),
        (lambda lines: [*lines[:-1], lines[-1][:20]], "line 12: not JSON"),
        (lambda lines: ['{"key": "a"}', *lines[1:]], "does not open with a run"),
        (lambda lines: [*lines[:-1], '{"key": 4, "answer": "", "references": []}'], "must be text"),
        (lambda lines: [*lines[:-1], '{"key": "x"}'], "no prediction"),
        (lambda lines: [lines[0].replace('"version": 1', '"version": 0'), *lines[1:]],
         "made for version 0 of docvqa"),
        (lambda lines: [lines[0].replace('"docvqa"', '"docvqb"'), *lines[1:]],
         "did you mean 'docvqa'"),
        (lambda lines: [*lines[:-1], '{"key": "10", "answer": "a", "references": 7}'],
         "unfit references"),
    ],
)  # fmt: skip
def test_broken_predictions_are_one_line(data, tmp_path, change, fault, capsys):
    file, _ = go(data, tmp_path / "out")
    lines = file.read_text().splitlines()
    file.write_text("".join(f"{line}\n" for line in change(lines)))
    assert main(["score", str(file)]) == 2
    said = capsys.readouterr().err
    assert fault in said and said.count("\n") == 1


def test_a_second_run_is_compared_sample_by_sample(data, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    go(data, first)
    go(data, second, says=answers(wrong=1), model={"name": "better"})
    assert main(["evaluate", "--compare", str(first), str(second), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["first"] == pytest.approx(100 * 6 / 11)
    assert found["second"] == 100 and found["difference"] == pytest.approx(100 * 5 / 11)
    assert found["low"] > 0 and found["p"] < 0.05
    assert (found["samples_with_more"], found["samples_with_less"]) == (5, 0)
    assert main(["evaluate", "--compare", str(first), str(first)]) == 0
    assert "p = 1.000" in capsys.readouterr().out
    go(data, tmp_path / "fewer", limit=3)
    assert main(["evaluate", "--compare", str(first), str(tmp_path / "fewer")]) == 2
    assert "other samples" in capsys.readouterr().err


def test_the_command_with_the_model_that_ships(data, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["evaluate", "docvqa", "--data", str(data), "--out", str(out), "--limit", "4"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["number"] == 4 and found["model"]["name"] == "tiny"
    assert found["model"]["files"] and found["software"]["versions"]["torch"]
    assert found["paper"]["70b"] == 92.2 and found["version"] == 1
    before = (out / FILE).read_bytes()
    assert main(words) == 0  # again: nothing is asked, all is scored
    shown = capsys.readouterr().out
    assert "DocVQA, val: ANLS" in shown and "paper: 8b 84.4" in shown
    assert (out / FILE).read_bytes() == before
    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 4 and "What is 0?" in page


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["evaluate"], "name a benchmark"),
        (["evaluate", "docvqa"], "--data: name the folder of DocVQA"),
        (["evaluate", "docvqa", "--data", "x", "--ocr"], "--ocr: docvqa does not take it"),
        (["evaluate", "docvqa", "--data", "x", "--reason"], "it takes --split"),
        (["evaluate", "nextqa", "--data", "."], "--wordnet: name the folder"),
        (["evaluate", "docvqa", "--data", "x", "--batch_size", "0"], "--batch_size: must be 1"),
        (["score", "nowhere.jsonl"], "no such file of predictions"),
        (["evaluate", "mls", "--data", ".", "--language", "xx"], "'xx' is none of en, de"),
    ],
)
def test_bad_usage_is_one_line(words, fault, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert fault in said and said.count("\n") == 1


def test_a_folder_that_cannot_be_written(data, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        go(data, tmp_path / "out")
    assert os.path.isfile(tmp_path / "out")


def test_what_a_metric_needs_is_asked_for_before_any_work(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance", None)  # as where it is not installed
    with pytest.raises(InputError, match=r"not installed: pip install 'openherd\[evaluate\]'"):
        go(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_results_that_cannot_be_written_leave_the_earlier_ones(data, tmp_path, monkeypatch, capsys):
    file, _ = go(data, tmp_path / "out")
    assert main(["score", str(file)]) == 0
    before = {f.name: f.read_bytes() for f in file.parent.iterdir() if f.is_file()}
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    capsys.readouterr()
    assert main(["score", str(file)]) == 2
    said = capsys.readouterr().err
    assert "metrics.json: cannot be written" in said and said.count("\n") == 1
    assert {f.name: f.read_bytes() for f in file.parent.iterdir() if f.is_file()} == before
