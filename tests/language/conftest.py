"""A small byte-level BPE in both published formats, shared by the tests of text."""

import base64
import random
from pathlib import Path

import pytest

from language.tokenizer import HuggingFaceTokenizer, TiktokenTokenizer, train_bpe

TEXTS = [
    "Three small dogs stand left of a big red cup.",
    "Wie viele Hunde stehen hier? Es sind 3, nicht 12345!",
    "naïve café — 漢字とかな, and \t tabs\n\n\nand lines\r\n",
    "def f(x):\n    return x ** 2  # it's fine, we'll see",
]


@pytest.fixture(scope="session")
def bpe() -> HuggingFaceTokenizer:
    """Trained on a few texts, with Llama 3's special tokens."""
    rng = random.Random(0)
    return train_bpe([rng.choice(TEXTS) for _ in range(400)], num_merged=300)


@pytest.fixture(scope="session")
def tiktoken_file(bpe: HuggingFaceTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tokens in Meta's format."""
    num_text = min(bpe.special_tokens.values())
    lines = [base64.b64encode(bpe.token_bytes(i)).decode() + f" {i}" for i in range(num_text)]
    file = tmp_path_factory.mktemp("meta") / "tokenizer.model"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="session")
def tiktoken_bpe(tiktoken_file: Path) -> TiktokenTokenizer:
    """Read from Meta's format."""
    from language.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(tiktoken_file)
    assert isinstance(tokenizer, TiktokenTokenizer)
    return tokenizer
