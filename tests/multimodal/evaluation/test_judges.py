"""Answers that somebody else judges: an endpoint on this machine, and functions of Python."""

import json
import re
from pathlib import Path

import pytest

from multimodal.cli import main
from multimodal.evaluation import judges, runner, verdicts
from multimodal.evaluation.benchmark import Settings
from multimodal.evaluation.benchmarks import benchmark
from multimodal.evaluation.predictions import FILE
from tests.multimodal.evaluation.canned import Canned
from tests.multimodal.evaluation.endpoint import completion, endpoint
from tests.multimodal.evaluation.sets import film, write

ANSWERS = {"v_abc_1": "Yes.", "v_abc_2": "Two people", "v_abc_3": "in a park", "v_abc_4": "Red"}
TRUE = {"v_abc_1": "yes", "v_abc_2": "2", "v_abc_3": "outdoors", "v_abc_4": "blue"}
SAYS = {"Yes.": "{'pred': 'yes', 'score': 5}", "Two people": '{"pred": "yes", "score": 4}',
        "in a park": "I would say so.", "Red": "{'pred': 'no', 'score': 1}"}  # fmt: skip
"""Two of four are right, (5 + 4 + 0 + 1) / 4 is the score, and one verdict cannot be read."""


def answer_in(question: str) -> str:
    return re.search("Predicted answer: (.*)", question)[1]


def verdict(question: str, number: int = 0):
    return completion(SAYS[answer_in(question)])


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """ActivityNet-QA of four questions, answered."""
    data, out = tmp_path / "data", tmp_path / "out"
    film(data / "videos" / "v_abc.mkv")
    asked = [{"video_name": "abc", "question": f"what {n}", "question_id": f"v_abc_{n}"}
             for n in range(1, 5)]  # fmt: skip
    write(data / "test_q.json", asked)
    write(data / "test_a.json", [{"answer": TRUE[f"v_abc_{n}"], "type": 3 if n == 1 else 8,
                                  "question_id": f"v_abc_{n}"} for n in range(1, 5)])  # fmt: skip
    chosen = benchmark("activitynetqa")
    model = Canned(chosen, data, Settings(), ANSWERS)
    runner.run(chosen, model, data, out, settings=Settings(), model={"name": "canned"})
    return out


def scored(out: Path, *words: str, capsys) -> dict:
    assert main(["score", str(out), "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_endpoint_judges_and_is_asked_once(ran, capsys, monkeypatch):
    monkeypatch.setenv(judges.KEY, "secret-7")
    with endpoint(verdict) as served:
        words = ("--judge", served.url, "--judge_model", "some-judge")
        found = scored(ran, *words, capsys=capsys)
        assert len(served.asked) == 4 and set(served.keys) == {"Bearer secret-7"}
        assert set(served.paths) == {"/v1/chat/completions"}
        system, user = served.asked[0]["messages"]
        assert system["role"] == "system" and served.asked[0]["temperature"] == 0
        assert served.asked[0]["model"] == "some-judge"
        assert any("What 3?" in each["messages"][1]["content"] for each in served.asked)
        again = scored(ran, *words, capsys=capsys)
        assert len(served.asked) == 4 and again == found
        other = ("--judge", f"{served.url}/chat/completions/", "--judge_model", "another")
        assert scored(ran, *other, capsys=capsys)["judge"]["name"] == "another"
        assert len(served.asked) == 8  # another judge has not said anything yet
    assert scored(ran, *words, capsys=capsys) == found  # and the first is not needed any more
    assert found["value"] == 50 and found["unread_answers"] == 1
    (score,) = found["further"].items()
    assert score[0] == "judge's mean score, 0 to 5, higher is better"
    assert score[1]["value"] == 2.5 and 0 <= score[1]["low"] < 2.5 < score[1]["high"] <= 5
    assert score[1]["groups"]["questions"]["yes or no"]["value"] == 5
    assert found["groups"]["questions"]["yes or no"]["value"] == 100
    about = found["judge"]
    assert about["name"] == "some-judge" and about["version"] == "judge-0613"
    assert about["url"] == served.url and about["prompt_version"] == 1
    assert re.fullmatch("[0-9a-f]{16}", about["prompt_sha256"])
    assert about["unreadable_verdicts"] == 1 and "Video-ChatGPT" in found["note"]
    assert "by a judge" in found["metric"]
    for file in ran.rglob("*"):
        assert file.is_dir() or "secret-7" not in file.read_text()
    assert "judge&#x27;s mean score" in (ran / "report.html").read_text()


def test_without_a_judge_words_are_compared(ran, capsys):
    found = scored(ran, capsys=capsys)
    assert found["value"] == 25 and found["judge"] == "none" and found["further"] == {}
    assert main(["score", str(ran)]) == 0
    assert "no judge" in capsys.readouterr().out
    assert not (ran / verdicts.FILE).exists()


def test_what_was_said_before_an_endpoint_failed_is_kept(ran, capsys, monkeypatch):
    monkeypatch.setattr(judges, "PATIENCE", ())
    monkeypatch.setattr(judges, "AT_ONCE", 1)
    with endpoint(lambda text, n: verdict(text) if n < 3 else (500, b"")) as served:
        words = ["--judge", served.url, "--judge_model", "some-judge"]
        assert main(["score", str(ran), *words]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert "does not answer (status 500)" in said
    file = ran / verdicts.FILE
    assert len(file.read_text().split()) and file.read_text().count('"said"') == 2
    with file.open("a") as opened:
        opened.write('{"key": "v_abc_3", "jud')  # and a kill cut a line off
    with endpoint(verdict) as served:
        before, words[1] = words[1], served.url
        file.write_text(file.read_text().replace(before, served.url))  # it has another port now
        assert scored(ran, *words, capsys=capsys)["value"] == 50
        assert len(served.asked) == 2


def test_a_busy_endpoint_is_asked_again(ran, capsys, monkeypatch):
    monkeypatch.setattr(judges, "PATIENCE", (0.01, 0.01))
    monkeypatch.setattr(judges, "AT_ONCE", 1)
    faults = {1: 429, 2: 503}
    with endpoint(lambda text, n: (faults[n], b"") if n in faults else verdict(text)) as served:
        words = ("--judge", served.url, "--judge_model", "some-judge")
        assert scored(ran, *words, capsys=capsys)["value"] == 50
        assert len(served.asked) == 6


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ((401, b"no"), "does not answer (status 401)"),
        ((200, b"<html>"), "no completion of a chat"),
        ((200, b'{"choices": []}'), "no completion of a chat"),
        ((200, b"[" * 2000), "no completion of a chat"),
        (completion(None), "no completion of a chat"),
    ],
)
def test_an_endpoint_that_is_none_is_one_line(ran, capsys, monkeypatch, reply, fault):
    monkeypatch.setattr(judges, "PATIENCE", ())
    with endpoint(lambda text, n: reply) as served:
        words = ["--judge", served.url, "--judge_model", "m"]
        assert main(["score", str(ran), *words]) == 2
        said = capsys.readouterr().err
        assert fault in said and said.count("\n") == 1 and served.url in said


def test_a_key_is_not_taken_to_another_address(ran, capsys, monkeypatch):
    monkeypatch.setenv(judges.KEY, "secret-7")
    with endpoint(verdict) as thief:
        with endpoint(lambda text, n: (307, f"{thief.url}/chat/completions".encode())) as served:
            words = ["--judge", served.url, "--judge_model", "m"]
            assert main(["score", str(ran), *words]) == 2
            assert "status 307" in capsys.readouterr().err
        assert thief.asked == []


def test_nobody_there(ran, capsys, monkeypatch):
    monkeypatch.setattr(judges, "PATIENCE", ())
    words = ["--judge", "http://127.0.0.1:9/v1", "--judge_model", "m"]
    assert main(["score", str(ran), *words]) == 2
    said = capsys.readouterr().err
    assert "127.0.0.1:9/v1: does not answer" in said and said.count("\n") == 1


FUNCTIONS = """
import numpy

__version__ = "3.1"
calls = []

def kind(texts):
    calls.append(len(texts))
    with open("asked.txt", "a") as file:
        print(*(len(texts),), file=file)
    return ["{'pred': 'yes', 'score': 3}" for _ in texts]

def short(texts):
    return []

def numbers(texts):
    return numpy.ones(len(texts))

def broken(texts):
    raise RuntimeError("no such\\nthing")

constant = 5
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request) -> str:
    """A module in the working directory, by a name of its own for each test."""
    name = f"judges_of_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    return name


def test_a_function_judges_and_is_asked_once(ran, capsys, functions, tmp_path):
    found = scored(ran, "--judge", f"{functions}:kind", capsys=capsys)
    assert found["value"] == 100 and found["judge"]["name"] == f"{functions}:kind"
    assert found["judge"]["version"] == "3.1" and "url" not in found["judge"]
    assert scored(ran, "--judge", f"{functions}:kind", capsys=capsys) == found
    assert (tmp_path / "asked.txt").read_text() == "4\n"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--judge", "MODULE:short"], "gave 0 verdicts on 4 texts"),
        (["--judge", "MODULE:numbers"], "gave 1.0, where str is wanted"),
        (["--judge", "MODULE:broken"], "failed: RuntimeError: no such thing"),
        (["--judge", "MODULE:constant"], "is no function"),
        (["--judge", "MODULE:nothing"], "has no attribute 'nothing'"),
        (["--judge", "no_such_module:f"], "No module named 'no_such_module'"),
        (["--judge", "gpt"], "neither an address nor module:function"),
        (["--judge", "ftp://host/v1", "--judge_model", "m"], "is no http address"),
        (["--judge", "http://", "--judge_model", "m"], "is no http address"),
        (["--judge", "http://host:x/v1", "--judge_model", "m"], "is no http address"),
        (["--judge", "http://me:pw@host/v1", "--judge_model", "m"], "belongs into the environment"),
        (["--judge", "http://host/v1?key=1", "--judge_model", "m"], "belongs into the environment"),
        (["--judge", "http://host/v1"], "--judge_model: name the model"),
        (["--judge", "MODULE:kind", "--judge_model", "m"], "is a function"),
        (["--judge_model", "m"], "is of an endpoint: name it with --judge"),
        (["--classifier", "MODULE:kind"], "--classifier: activitynetqa does not take it"),
    ],
)  # fmt: skip
def test_bad_judges_are_one_line(ran, capsys, functions, words, fault):
    assert main(["score", str(ran), *(word.replace("MODULE", functions) for word in words)]) == 2
    said = capsys.readouterr().err
    assert fault in said and said.count("\n") == 1 and "pw" not in said


def test_runs_are_compared_by_a_judge(ran, tmp_path, capsys, functions):
    other = tmp_path / "other"
    other.mkdir()
    text = (ran / FILE).read_text().replace('"answer": "Red"', '"answer": "Yes."')
    (other / FILE).write_text(text)
    with endpoint(verdict) as served:
        words = ["--judge", served.url, "--judge_model", "m", "--json"]
        assert main(["evaluate", "--compare", str(ran), str(other), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["first"], found["second"], found["difference"]) == (50, 75, 25)
    assert found["judge"]["name"] == "m"


def test_a_judge_is_refused_where_nobody_judges(tmp_path, capsys):
    words = ["evaluate", "docvqa", "--data", str(tmp_path), "--judge", "a:b"]
    assert main(words) == 2
    assert "--judge: docvqa does not take it" in capsys.readouterr().err
