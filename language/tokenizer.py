"""Llama 3's byte-level BPE (paper section 3.2), from Meta's tiktoken file or a ``tokenizer.json``.

Text never becomes a special token: what a user types as ``<|eot_id|>`` is encoded as ordinary
characters, as Meta's own code does and unlike a chat template that is filled in as one string and
parsed afterwards. Special tokens are put between texts by their ids (``language.chat``).

Both formats know ``<|image|>``, at the first id past the core's table, where Llama 3.2 Vision has
it, and ``<|audio|>`` after it: media can be added to a core that was published without them.
"""

import base64
import binascii
import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import tiktoken
import tokenizers

from language.errors import InputError

PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""What is cut out of a text before pairs are merged within each piece."""

_NAMED = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|step_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
)
NUM_SPECIAL = 256
SPECIAL_TOKENS = _NAMED + tuple(
    f"<|reserved_special_token_{i}|>" for i in range(2, 2 + NUM_SPECIAL - len(_NAMED))
)
"""The 256 special tokens in the order of Llama 3.2; before it some of the named were reserved."""
IMAGE_TOKEN = "<|image|>"
"""Follows the core's table: the first of Llama 3.2 Vision's extra embeddings."""
AUDIO_TOKEN = "<|audio|>"
"""Follows the picture's: what speech embeddings stand in the place of."""
STOP_TOKENS = ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>")
REQUIRED_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
"""What texts and dialogs cannot be written without."""

MAX_FILE_BYTES = 64 << 20
MAX_CHARACTERS = 400_000
"""Most characters that are encoded at once."""
MAX_RUN = 25_000
"""Most characters in a row that are all space, or all not; merging longer runs takes too long."""
_RUN = re.compile(r"\s+|\S+")


class Tokenizer(Protocol):
    """Text to ids and back."""

    special_tokens: dict[str, int]
    """Ids of the special tokens by name."""

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Ids of ``text``, with nothing added.

        Args:
            text: any text.
            allow_special: whether names of special tokens in it become those tokens; never for text
                that comes from outside.
        """
        ...

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Text of ``ids``; bytes that are no UTF-8 become U+FFFD."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """The bytes that an id stands for, special tokens by their name."""
        ...

    def save(self, directory: Path) -> None:
        """Write the file that :func:`load_tokenizer` reads."""
        ...

    @property
    def vocab_size(self) -> int:
        """Rows of the core's embedding table: ids from here on have extra embeddings."""
        ...

    @property
    def bos_id(self) -> int:
        """The token that begins every text."""
        ...

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer."""
        ...

    @property
    def pad_id(self) -> int:
        """What fills a row behind its end."""
        ...

    @property
    def image_id(self) -> int:
        """The placeholder of a picture."""
        ...

    @property
    def audio_id(self) -> int:
        """The placeholder of an embedding of a recording."""
        ...


class _SpecialTokens:
    """What follows from the ids of the special tokens alone."""

    special_tokens: dict[str, int]

    @property
    def vocab_size(self) -> int:
        return self.image_id

    @property
    def bos_id(self) -> int:
        return self.special_tokens["<|begin_of_text|>"]

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return tuple(self.special_tokens[t] for t in STOP_TOKENS if t in self.special_tokens)

    @property
    def pad_id(self) -> int:
        end = self.special_tokens["<|end_of_text|>"]
        return self.special_tokens.get("<|finetune_right_pad_id|>", end)

    @property
    def image_id(self) -> int:
        return self.special_tokens[IMAGE_TOKEN]

    @property
    def audio_id(self) -> int:
        return self.special_tokens[AUDIO_TOKEN]


class TiktokenTokenizer(_SpecialTokens):
    """Meta's ``tokenizer.model``: a line of base64 bytes and rank for each token."""

    def __init__(self, ranks: dict[bytes, int]) -> None:
        """Special tokens follow the ``ranks``, then the placeholders of media."""
        self._ranks = ranks
        names = (*SPECIAL_TOKENS, IMAGE_TOKEN, AUDIO_TOKEN)
        self.special_tokens = {name: len(ranks) + i for i, name in enumerate(names)}
        self._encoding = tiktoken.Encoding(
            "llama-3", pat_str=PIECES, mergeable_ranks=ranks, special_tokens=self.special_tokens
        )

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """See :meth:`Tokenizer.encode`."""
        allowed: set[str] = set(self.special_tokens) if allow_special else set()
        ids: list[int] = []
        for part in _parts(text):
            ids += self._encoding.encode(part, allowed_special=allowed, disallowed_special=())
        return ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """See :meth:`Tokenizer.decode`."""
        first_special = len(self._ranks)
        kept = [token for token in ids if not (skip_special and token >= first_special)]
        return self._encoding.decode(kept)

    def token_bytes(self, token: int) -> bytes:
        """See :meth:`Tokenizer.token_bytes`."""
        return self._encoding.decode_single_token_bytes(token)

    def save(self, directory: Path) -> None:
        """Write ``tokenizer.model``."""
        lines = (
            base64.b64encode(token) + f" {rank}\n".encode() for token, rank in self._ranks.items()
        )
        (directory / "tokenizer.model").write_bytes(b"".join(lines))


class HuggingFaceTokenizer(_SpecialTokens):
    """A ``tokenizer.json``, read by the tokenizers library."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        """The special tokens are those that the file calls special, and the placeholders of media.

        Raises:
            ValueError: it is not byte-level BPE, so that some text has no tokens.
        """
        self._byte_of = _bytes_of_characters()
        is_bpe = isinstance(tokenizer.model, tokenizers.models.BPE)
        if not is_bpe or any(tokenizer.token_to_id(byte) is None for byte in self._byte_of):
            raise ValueError("no byte-level BPE")
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.add_special_tokens(
            [tokenizers.AddedToken(name, special=True) for name in (IMAGE_TOKEN, AUDIO_TOKEN)]
        )
        added = tokenizer.get_added_tokens_decoder()
        self._added = {i: token.content for i, token in added.items()}
        self.special_tokens = {token.content: i for i, token in added.items() if token.special}

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """See :meth:`Tokenizer.encode`."""
        self._tokenizer.encode_special_tokens = not allow_special
        parts = (self._tokenizer.encode(p, add_special_tokens=False) for p in _parts(text))
        return [token for part in parts for token in part.ids]

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """See :meth:`Tokenizer.decode`."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=skip_special)

    def token_bytes(self, token: int) -> bytes:
        """See :meth:`Tokenizer.token_bytes`."""
        if token in self._added:
            return self._added[token].encode()
        name = self._tokenizer.id_to_token(token)
        assert name is not None, f"no token {token}"
        return bytes(self._byte_of[character] for character in name)

    def save(self, directory: Path) -> None:
        """Write ``tokenizer.json``."""
        self._tokenizer.save(str(directory / "tokenizer.json"))


def load_tokenizer(path: Path | str) -> Tokenizer:
    """The tokenizer of a model's directory, or of one file.

    Raises:
        InputError: there is none, or it is unreadable.
    """
    path = Path(path)
    candidates = [path]
    if path.is_dir():
        names = ("tokenizer.json", "tokenizer.model", "original/tokenizer.model")
        candidates = [path / name for name in names]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        fault = "no tokenizer.json and no tokenizer.model" if path.is_dir() else "no such file"
        raise InputError(path, fault)
    if file.stat().st_size > MAX_FILE_BYTES:
        raise InputError(file, f"larger than {MAX_FILE_BYTES >> 20} MiB, so no tokenizer")
    tokenizer = _read_json(file) if file.suffix == ".json" else _read_tiktoken(file)
    for name in REQUIRED_TOKENS:
        if name not in tokenizer.special_tokens:
            raise InputError(file, f"has no special token {name}, so it is not Llama 3's")
    return tokenizer


def _read_json(file: Path) -> HuggingFaceTokenizer:
    try:
        return HuggingFaceTokenizer(tokenizers.Tokenizer.from_file(str(file)))
    except Exception as error:  # the library raises bare Exception
        raise InputError(file, f"not a tokenizer.json: {error}") from None


def _read_tiktoken(file: Path) -> TiktokenTokenizer:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise InputError(file, f"line {number} is not a token and its rank") from None
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise InputError(file, "ranks are not 0, 1, 2, ...")
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise InputError(file, "some of the 256 bytes are no tokens")
    return TiktokenTokenizer(ranks)


def _parts(text: str) -> Iterator[str]:
    """Cut a text where Meta's code does, and nowhere in texts of ordinary words.

    Half of a surrogate pair, which is no character, becomes U+FFFD.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    for start in range(0, len(text), MAX_CHARACTERS):
        part, begin = text[start : start + MAX_CHARACTERS], 0
        for run in _RUN.finditer(part) if len(part) > MAX_RUN else ():
            for cut in range(run.start() + MAX_RUN, run.end(), MAX_RUN):
                yield part[begin:cut]
                begin = cut
        yield part[begin:]


def _bytes_of_characters() -> dict[str, int]:
    """Byte-level BPE's printable stand-in for each byte (GPT-2's table), inverted."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + i): byte for i, byte in enumerate(others)}


class TextStream:
    """Turns ids, one by one, into text that never shows half a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Special tokens are left out."""
        self._tokenizer = tokenizer
        self._special = set(tokenizer.special_tokens.values())
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The characters that ``token`` completes; often one word, sometimes none."""
        if token in self._special or token >= self._tokenizer.vocab_size:
            return ""  # a core may have more rows than there are tokens
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def finish(self) -> str:
        """U+FFFD where the text ends within a character."""
        return self._decoder.decode(b"", final=True)


def words(tokens: Sequence[int], tokenizer: Tokenizer) -> list[tuple[str, int]]:
    """The words of a text, each with the number of tokens up to its end.

    A word begins where a token's text does with a space; tokens within a character go with it.
    """
    stream = TextStream(tokenizer)
    found: list[tuple[str, int]] = []
    for number, token in enumerate(tokens, start=1):
        text = stream.push(token)
        if found and not text.startswith((" ", "\n")):
            found[-1] = (found[-1][0] + text, number)
        else:
            found.append((text, number))
    return [(text.strip(), end) for text, end in found]


def train_bpe(texts: Iterable[str], *, num_merged: int) -> HuggingFaceTokenizer:
    """Learn a small tokenizer of Llama 3's form from ``texts``.

    Args:
        texts: what a model will read.
        num_merged: most tokens beside the 256 bytes and the special ones.

    Returns:
        A tokenizer with Llama 3.1's named special tokens, followed by the placeholders of media.
    """
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=True))
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(PIECES), behavior="isolated")
    to_bytes = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=256 + num_merged,
        min_frequency=2,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(
        [tokenizers.AddedToken(name, special=True) for name in (*_NAMED, IMAGE_TOKEN)]
    )
    return HuggingFaceTokenizer(tokenizer)
