"""Our model against lm-eval's own for transformers, on the same files."""

import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lm_eval")
pytest.importorskip("accelerate")

from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM

from language.errors import InputError
from language.generation import GenerationConfig, LlamaSession, generate
from multimodal.evaluation.harness.lm_eval_model import OpenherdLM

pytestmark = pytest.mark.harness

POSITIONS = 128
Requests = Callable[..., list[Any]]

LONG = "Three small dogs stand left of a big red cup. " * 30
PAIRS = [
    ("Which colour is the cup?", " It is red."),
    ("Which colour is the cup?", " It is"),
    ("Which colour is the cup?", " It"),
    ("Which colour is the cup?", " Three"),
    ("Which colour is the cup? ", "It is red."),
    ("", "Three small dogs"),
    ("Question: How many dogs are there?\nAnswer:", " 3, not 12345!\n\n"),
    ("naïve café — 漢字とかな\n\n", "Question"),
    (LONG, " How many dogs are there?"),
]


@pytest.fixture(scope="module")
def ours(llama_directory: Path) -> OpenherdLM:
    return OpenherdLM(str(llama_directory), device="cpu", batch_size=4)


@pytest.fixture(scope="module")
def theirs(llama_directory: Path) -> HFLM:
    return HFLM(str(llama_directory), device="cpu", dtype="float32", batch_size=1)


def test_loglikelihoods_equal_those_of_transformers(
    ours: OpenherdLM, theirs: HFLM, requests: Requests
) -> None:
    found = ours.loglikelihood(requests(*PAIRS), disable_tqdm=True)
    expected = theirs.loglikelihood(requests(*PAIRS), disable_tqdm=True)
    assert [value for value, _ in found] == pytest.approx([v for v, _ in expected], abs=1e-3)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert found[0] == found[4], "a space at the end of the context belongs to what follows"
    assert len({round(value, 3) for value, _ in found}) == len(PAIRS) - 1


def test_a_continuation_without_tokens_of_its_own_is_refused(
    ours: OpenherdLM, requests: Requests
) -> None:
    """The tokenizer puts both texts into fewer tokens than the first alone: 0 would win."""
    with pytest.raises(InputError, match="no token"):
        ours.loglikelihood(requests(("naïve café — 漢", "字とかな")))


def test_what_the_model_writes_is_greedy(ours: OpenherdLM, requests: Requests) -> None:
    context = "Which colour is the cup?"
    (said,) = ours.generate_until(requests((context, {"until": [], "max_gen_toks": 3})))
    tokens = ours.tok_encode(context + said)
    assert tokens[: len(ours.tok_encode(context))] == ours.tok_encode(context)
    pairs = [(context, said), (context, said + " dogs"), (context, " dogs")]
    assert [greedy for _, greedy in ours.loglikelihood(requests(*pairs))] == [True, False, False]


def test_batches_do_not_matter(ours: OpenherdLM, llama_directory: Path, requests: Requests) -> None:
    alone = OpenherdLM(str(llama_directory), device="cpu", batch_size=1)
    expected = [value for value, _ in alone.loglikelihood(requests(*PAIRS))]
    assert [v for v, _ in ours.loglikelihood(requests(*PAIRS))] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("add_bos", [True, False])
def test_rolling_equals_that_of_transformers(
    llama_directory: Path, requests: Requests, add_bos: bool
) -> None:
    """Texts of several windows and of less than one."""
    name = str(llama_directory)
    ours = OpenherdLM(name, device="cpu", batch_size=3, max_length=40, add_bos_token=add_bos)
    theirs = HFLM(
        name, device="cpu", dtype="float32", batch_size=1, max_length=40, add_bos_token=add_bos
    )
    texts = requests((LONG,), ("dogs",), ("naïve café\n\n" * 9,))
    found = ours.loglikelihood_rolling(texts, disable_tqdm=True)
    assert found == pytest.approx(theirs.loglikelihood_rolling(texts, disable_tqdm=True), abs=5e-3)


def test_rolling_windows_predict_each_token_once(ours: OpenherdLM, requests: Requests) -> None:
    """Two windows of a text, put together by hand from likelihoods of texts with a context."""
    tokens = ours.tok_encode("Three small dogs stand left of a big red cup.")
    half = OpenherdLM.__new__(OpenherdLM)
    half.__dict__ = {**vars(ours), "max_length": len(tokens) - 4}
    first, second = tokens[: len(tokens) - 4], tokens[len(tokens) - 4 :]
    before_second = tokens[3 : len(tokens) - 4]
    pairs = [(("", ""), [ours.prefix_token_id], first), (("", ""), before_second, second)]
    expected = sum(value for value, _ in ours._loglikelihood_tokens(pairs, disable_tqdm=True))
    text = requests(("Three small dogs stand left of a big red cup.",))
    assert half.loglikelihood_rolling(text) == pytest.approx([expected], abs=1e-4)


@pytest.mark.parametrize("until", [[], [":"], ["\n\n", ".", "zzz"], " "])
def test_answers_equal_those_of_transformers(
    ours: OpenherdLM, theirs: HFLM, requests: Requests, until: Any
) -> None:
    """The stops are in no special token's name: transformers would find them there, too."""
    contexts = ["Which colour is the cup?", "Three", "naïve", "Question: How many dogs", LONG]
    wanted = [(text, {"until": until, "max_gen_toks": 24}) for text in contexts]
    found = ours.generate_until(requests(*wanted), disable_tqdm=True)
    assert found == theirs.generate_until(requests(*wanted), disable_tqdm=True)
    assert len(set(found)) > 2


def test_an_answer_is_our_own_generation_before_the_stop(
    ours: OpenherdLM, requests: Requests
) -> None:
    model, tokenizer = ours.assistant.model.language, ours.texts.tokenizer
    prompt = torch.tensor([ours.tok_encode("Three small dogs")])
    session = LlamaSession(model, batch_size=1, max_length=POSITIONS)
    drawing = GenerationConfig(max_new_tokens=30, max_loop=0, stop_ids=tokenizer.stop_ids)
    tokens = [token for (token,) in generate(session, session.append(prompt), drawing)]
    whole = tokenizer.decode([token for token in tokens if token is not None], skip_special=True)
    stop = whole[9:11]
    asked = {"until": [stop], "max_gen_toks": 30}
    (found,) = ours.generate_until(requests(("Three small dogs", asked)))
    assert found == whole[: whole.index(stop)]
    assert found != whole


def test_sampled_answers_differ_and_repeat(ours: OpenherdLM, requests: Requests) -> None:
    asked = {"until": [], "max_gen_toks": 12, "do_sample": True, "temperature": 1.0}
    twice = requests(("Three", asked), ("Three", asked))
    first = ours.generate_until(twice)
    assert first[0] != first[1]
    assert ours.generate_until(twice) == first


def test_the_entry_point_names_the_model() -> None:
    project = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["project"]
    ((name, place),) = project["entry-points"]["lm_eval.models"].items()
    assert get_model(name) is EntryPoint(name, place, "lm_eval.models").load() is OpenherdLM


def test_arguments_come_as_words(llama_directory: Path) -> None:
    made = get_model("openherd").create_from_arg_string(
        f"pretrained={llama_directory},dtype=float32,max_length=64,add_bos_token=False",
        {"batch_size": "auto", "device": "cpu", "max_batch_size": None},
    )
    assert isinstance(made, OpenherdLM)
    assert (made.max_length, made.batch_size) == (64, 64)
    assert made.tok_encode("cup") == made.texts.tokenizer.encode("cup")
    with pytest.raises(InputError, match="max_length"):
        OpenherdLM(str(llama_directory), device="cpu", max_length=POSITIONS + 1)
