"""The lm-evaluation-harness itself drives a model; its own Hugging Face model is the oracle."""

import json
from types import SimpleNamespace

import pytest
import torch

lm_eval = pytest.importorskip("lm_eval", reason="make test-harness installs it")

from multimodal.cli import main  # noqa: E402
from multimodal.evaluation.harness.lm_eval_model import OpenherdLM  # noqa: E402
from tests.multimodal.evaluation.harness.conftest import TEXTS  # noqa: E402


@pytest.fixture(scope="module")
def model(published):
    return OpenherdLM.create_from_arg_string(
        f"pretrained={published},device=cpu,batch_size=3,max_length=32"
    )


def asked(*args):
    return SimpleNamespace(args=args)


def ids(model, text: str) -> list[int]:
    return model.tokenizer.encode(text)


@torch.no_grad()
def likelihood(theirs, tokens: list[int], first: int) -> float:
    logits = theirs(torch.tensor([tokens])).logits[0].log_softmax(dim=-1)
    return sum(float(logits[i - 1, tokens[i]]) for i in range(first, len(tokens)))


def test_likelihoods_are_transformers(model, theirs):
    cases = [("The river", " begins"), ("The river ", "begins"), ("", "One two"),
             ("One two three", " four five six.")]  # fmt: skip
    found = model.loglikelihood([asked(*case) for case in cases])
    for (context, after), (share, _) in zip(cases, found, strict=True):
        if not context:
            tokens, first = [model.tokenizer.bos_id, *ids(model, after)], 1
        else:
            tokens, first = ids(model, context + after), len(ids(model, context.rstrip()))
        assert share == pytest.approx(likelihood(theirs, tokens, first), abs=1e-3)
    assert found[0] == found[1]  # a space belongs to what follows


def test_whole_texts_are_read_in_windows(model, theirs):
    long = " ".join(TEXTS * 3)
    tokens = [model.tokenizer.bos_id, *ids(model, long)]
    assert len(tokens) > 2 * model.max_length
    (found,) = model.loglikelihood_rolling([asked(long)])
    total, step = 0.0, model.max_length
    windows = [(0, step)] + [(end - step, end) for end in range(2 * step, len(tokens), step)]
    last = (len(tokens) - 1 - step, len(tokens) - 1)
    done = 0
    for start, end in (*windows, last):  # each token is predicted once, with all the room
        fresh = end - done
        total += likelihood(theirs, tokens[start : end + 1], step + 1 - fresh)
        done = end
    assert found == pytest.approx(total, abs=1e-2)


def test_answers_end_at_stop_texts_and_are_transformers_greedy_ones(model, theirs):
    contexts = ["The river begins", "One two", "The hills"]
    settings = {"until": [], "max_gen_toks": 8, "do_sample": False}
    found = model.generate_until([asked(text, settings) for text in contexts])
    for text, answer in zip(contexts, found, strict=True):
        with torch.no_grad():
            out = theirs.generate(
                torch.tensor([ids(model, text)]), max_new_tokens=8, do_sample=False,
                pad_token_id=0, eos_token_id=list(model._generation.stop_ids),
            )  # fmt: skip
        after = out[0, len(ids(model, text)) :].tolist()
        assert answer == model.tokenizer.decode(after, skip_special=True)
    stop = found[0][2:4]
    (cut,) = model.generate_until([asked(contexts[0], {**settings, "until": [stop]})])
    assert cut == found[0][: found[0].find(stop)]


@pytest.fixture
def task(tmp_path):
    """A folder with a task of its own, and how many questions it has."""
    rows = [{"text": t, "choices": [" sea.", " moon."], "answer": 0} for t in TEXTS * 3]
    (tmp_path / "rows.json").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "task.yaml").write_text(
        "task: rivers\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'rows.json'}}}}}\n"
        "test_split: test\noutput_type: multiple_choice\n"
        'doc_to_text: "{{text}}"\ndoc_to_choice: "{{choices}}"\ndoc_to_target: "{{answer}}"\n'
        "metric_list: [{metric: acc}]\n"
    )
    return tmp_path, len(rows)


def test_a_task_is_run_by_the_harness(published, task):
    from lm_eval.tasks import TaskManager

    folder, number = task
    done = lm_eval.simple_evaluate(
        model="openherd",
        model_args=f"pretrained={published},device=cpu",
        tasks=["rivers"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
    )
    assert 0 <= done["results"]["rivers"]["acc,none"] <= 1
    assert done["n-samples"]["rivers"]["effective"] == number


def test_its_command_knows_our_model(published, task, capsys):
    words = ["run", "--model", "openherd", "--model_args", f"pretrained={published}",
             "--device", "cpu", "--tasks", "rivers", "--include_path", str(task[0])]  # fmt: skip
    assert main(["lm-eval", *words]) == 0
    assert "rivers" in capsys.readouterr().out


def test_dialogues_are_llama_3_s(model):
    text = model.apply_chat_template([{"role": "user", "content": "One two"}])
    assert text.startswith("<|begin_of_text|>") and text.endswith("assistant<|end_header_id|>\n\n")
    tokens = model._encode(text)
    assert tokens[0] == model.tokenizer.bos_id and model.tokenizer.decode(tokens) == text
    model._has_template = False
    assert model._encode("<|eot_id|>") != [model.tokenizer.special_tokens["<|eot_id|>"]]
