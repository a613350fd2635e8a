import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from language.chat import encode_dialog
from language.config import LlamaConfig
from language.model import Llama
from language.tokenizer import train_bpe
from speech.embeddings import CoreEmbeddings

TEXTS = ["Dr. Lee lives at 12 Elm Dr. My PIN is 1234, isn't it?", "¿Qué? «naïve» 🙂🙂 $3.50 नमस्ते"]
WORDS = st.lists(
    st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=8),
    min_size=1,
    max_size=12,
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe(TEXTS * 50, num_merged=60)


@pytest.fixture(scope="module")
def core(tokenizer):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        dim=32,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        ffn_dim=48,
        rope_theta=10000.0,
        max_positions=256,
    )
    model = Llama(config)
    model.reset_parameters()
    return model.eval()


def test_states_are_those_of_the_layer_after_an_empty_prompt(core, tokenizer):
    text = TEXTS[0]
    prompt = encode_dialog([{"role": "user", "content": ""}], tokenizer, add_header=True).tokens
    hidden = core.embedding(torch.tensor([[*prompt, *tokenizer.encode(text)]]))
    context = core.context(hidden)
    for block in core.blocks[:2]:
        hidden = block(hidden, context)
    embedded = CoreEmbeddings(core, tokenizer, layer=2).embed(text)
    torch.testing.assert_close(embedded.states, hidden[0, len(prompt) :], atol=1e-5, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(words=WORDS)
def test_a_growing_text_gives_what_the_whole_gives(core, tokenizer, words):
    source, text = CoreEmbeddings(core, tokenizer, layer=2), " ".join(words)
    whole = source.embed(text)
    assert source.tokens(text)[0] == tokenizer.encode(text)
    stream = source.stream()
    read = [stream.append(piece) for piece in re.findall(r" ?[^ ]+", text)]
    ends = tuple(end for piece in read for end in piece.ends)
    assert ends == whole.ends
    torch.testing.assert_close(
        torch.cat([piece.states for piece in read]), whole.states, atol=1e-5, rtol=1e-4
    )


def test_ends_are_where_the_text_of_the_tokens_ends(core, tokenizer):
    for text in TEXTS:
        tokens, ends = CoreEmbeddings(core, tokenizer, layer=1).tokens(text)
        for number, end in enumerate(ends, start=1):
            written = b"".join(map(tokenizer.token_bytes, tokens[:number]))
            assert text[:end] == written.decode(errors="ignore")
        assert ends[-1] == len(text)


def test_later_text_changes_nothing(core, tokenizer):
    source = CoreEmbeddings(core, tokenizer, layer=3)
    first = source.embed("My PIN is 123")
    longer = source.embed("My PIN is 123 and not 4")
    torch.testing.assert_close(longer.states[: len(first.ends)], first.states)


def test_a_text_beyond_the_context_begins_anew_at_a_word(core, tokenizer):
    source = CoreEmbeddings(core, tokenizer, layer=2, max_context=40)
    text = " ".join(["one two three"] * 20 + ["x" * 90] + ["four"] * 9)
    whole = source.embed(text)
    assert whole.ends == CoreEmbeddings(core, tokenizer, layer=2).embed(text).ends
    stream = source.stream()
    states = [stream.append(piece).states for piece in re.findall(r" ?[^ ]+", text)]
    torch.testing.assert_close(torch.cat(states), whole.states, atol=1e-5, rtol=1e-4)


def test_several_texts_at_once_are_as_each_alone(core, tokenizer):
    source = CoreEmbeddings(core, tokenizer, layer=2)
    texts = [*TEXTS, "", "short"]
    for text, together in zip(texts, source.embed_all(texts), strict=True):
        alone = source.embed(text)
        assert together.ends == alone.ends
        torch.testing.assert_close(together.states, alone.states, atol=1e-5, rtol=1e-4)


def test_the_core_stays_as_it_is(core, tokenizer):
    before = {name: value.clone() for name, value in core.state_dict().items()}
    states = CoreEmbeddings(core, tokenizer, layer=2).embed(TEXTS[0]).states
    assert not states.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in core.state_dict().items())


@pytest.mark.parametrize(("layer", "max_context"), [(0, 100), (4, 100), (1, 5)])
def test_senseless_settings_are_refused(core, tokenizer, layer, max_context):
    with pytest.raises(ValueError, match="layer|max_context"):
        CoreEmbeddings(core, tokenizer, layer=layer, max_context=max_context)
