"""Documents packed into rows (paper section 3.2: a mask keeps the documents of a row apart).

Texts are tokenized once and kept as one array of tokens on disk. Whole documents are then laid
into rows of at most `max_tokens` by best-fit decreasing, so that hardly anything is padded and no
document is cut that could have been left whole. Since documents do not see their neighbours, it
does not matter that these stay the same: rows are shuffled like any other samples.
"""

import hashlib
import logging
import tempfile
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from language.chat import encode_dialog
from language.errors import InputError
from language.tokenizer import Tokenizer
from multimodal.batch import IGNORED
from multimodal.data.faults import FaultBudget
from multimodal.data.files import find_files
from multimodal.data.index import cache_name, write_array
from multimodal.data.jsonl import JsonlSource
from multimodal.data.samples import Extent, Sample, caption, dialogues
from multimodal.data.shards import ShardSource
from multimodal.rows import Encoded
from multimodal.training.announce import announce

SUFFIXES = (".txt", ".jsonl", ".tar")

_TELL_EVERY = 100_000

Learn = Literal["everything", "assistant"]

log = logging.getLogger(__name__)


class PackedText:
    """Rows of packed documents from text files, JSONL files or shards without pictures."""

    def __init__(
        self,
        path: str,
        *,
        tokenizer: Tokenizer,
        max_tokens: int,
        learn: Learn = "everything",
        max_broken_share: float = 0.01,
        name: str = "",
        cache: Path,
    ) -> None:
        """Tokenize and pack, or find in the cache what was packed before.

        Args:
            path: see `find_files`. In a ``.txt`` file a blank line ends a document; JSONL and tar
                hold ``{"text"}``, ``{"messages"}`` or the ids ``{"tokens", "learned": spans}``.
            tokenizer: its tokens.
            max_tokens: length of a row. Longer documents are cut into pieces, none of which is
                dropped; longer dialogues are dropped and counted.
            learn: tokens of dialogues that carry loss; of documents all do.
            max_broken_share: share of unusable documents beyond which an InputError stops it.
            name: what logs call the source; the path by default.
            cache: folder for what was packed.

        Raises:
            InputError: there is no text.
        """
        self.name = name or path
        self._max_tokens = max_tokens
        files = find_files(path, cache=cache, suffixes=SUFFIXES)
        facts = f"{_fingerprint(tokenizer)} {max_tokens} {learn}"
        names = " ".join(cache_name(file, variant=facts) for file in files)
        folder = cache / "packed" / hashlib.sha256(names.encode()).hexdigest()[:32]
        self._paths = {
            part: folder / f"{part}.npy" for part in ("tokens", "learned", "pieces", "rows")
        }
        self._arrays: dict[str, NDArray[Any]] = {}
        if not self._paths["rows"].exists():
            budget = FaultBudget(max_share=max_broken_share)
            samples = (sample for file in files for sample in _samples(file, budget, cache=cache))
            self._build(samples, tokenizer=tokenizer, learn=learn, budget=budget)
        if not len(self):
            raise InputError(path, "no text in it")

    def __len__(self) -> int:
        return len(self._array("rows")) - 1

    def __getstate__(self) -> dict[str, Any]:
        """Leave maps behind on the way to another process."""
        return {**self.__dict__, "_arrays": {}}

    def extent(self, index: int) -> Extent:
        """All rows count as equally long."""
        return Extent(pictures=(), num_characters=self._max_tokens)

    def read(self, index: int) -> Encoded:
        """A row."""
        first, last = self._array("rows")[index : index + 2]
        pieces = self._array("pieces")[first:last]
        tokens = np.concatenate([self._array("tokens")[a:b] for a, b in pieces]).astype(np.int64)
        learned = np.concatenate([self._array("learned")[a:b] for a, b in pieces])
        lengths = pieces[:, 1] - pieces[:, 0]
        starts = np.cumsum(lengths) - lengths
        learned[starts] = False  # no token stands before it that could predict it
        targets = np.full(len(tokens), IGNORED, dtype=np.int64)
        targets[:-1][learned[1:]] = tokens[1:][learned[1:]]
        return Encoded(
            tokens=tokens,
            targets=targets,
            documents=np.repeat(np.arange(len(pieces)), lengths),
            images=(),
            visible=np.zeros((len(tokens), 0), dtype=bool),
        )

    def _array(self, part: str) -> NDArray[Any]:
        if part not in self._arrays:
            self._arrays[part] = np.load(self._paths[part], mmap_mode="r", allow_pickle=False)
        return self._arrays[part]

    def _build(
        self, samples: Iterator[Sample], *, tokenizer: Tokenizer, learn: Learn, budget: FaultBudget
    ) -> None:
        tokens, learned, pieces = array("I"), bytearray(), array("q")
        for number, sample in enumerate(samples):
            if number and number % _TELL_EVERY == 0:
                announce(f"{self.name}: {number:,} documents packed so far")
            try:
                documents = list(_documents(sample, tokenizer=tokenizer, learn=learn))
            except InputError as error:
                budget.broken(str(error))
                continue
            budget.sound()
            for may_be_cut, document, mask in documents:
                if len(document) > self._max_tokens and not may_be_cut:
                    budget.too_long(f"{sample.name}: {len(document):,} tokens")
                    continue
                for start in range(0, len(document), self._max_tokens):
                    piece = document[start : start + self._max_tokens]
                    pieces.extend((len(tokens), len(tokens) + len(piece)))
                    tokens.extend(piece)
                    learned.extend(mask[start : start + self._max_tokens])
        spans = np.array(pieces, dtype=np.int64).reshape(-1, 2)  # [pieces, 2]
        order, rows = pack(spans[:, 1] - spans[:, 0], capacity=self._max_tokens)
        write_array(self._paths["tokens"], np.array(tokens, dtype=np.uint32))
        write_array(self._paths["learned"], np.frombuffer(bytes(learned), dtype=bool))
        write_array(self._paths["pieces"], spans[order])
        write_array(self._paths["rows"], rows)  # the last: it says that all are there
        log.info("%s: %s", self.name, budget.summary())


def pack(
    lengths: NDArray[np.int64], *, capacity: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lay pieces into rows by best-fit decreasing.

    Args:
        lengths: of the pieces, each at most ``capacity``.
        capacity: of a row.

    Returns:
        The pieces row by row, [pieces]; and where each row starts among them, [rows + 1].
    """
    rows: list[list[int]] = []
    open_rows: dict[int, list[int]] = {}  # rows by the room that is left in them
    rooms: list[int] = []  # rising: the keys of open_rows
    for piece in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[piece])
        place = bisect_left(rooms, length)
        if place == len(rooms):
            room, row = capacity, len(rows)
            rows.append([])
        else:
            room = rooms[place]
            row = open_rows[room].pop()
            if not open_rows[room]:
                del open_rows[room], rooms[place]
        rows[row].append(piece)
        if room > length:
            if room - length not in open_rows:
                insort(rooms, room - length)
            open_rows.setdefault(room - length, []).append(row)
    order = np.array([piece for row in rows for piece in row], dtype=np.int64)
    return order, np.cumsum([0, *map(len, rows)])


def _samples(file: Path, budget: FaultBudget, *, cache: Path) -> Iterator[Sample]:
    if file.suffix == ".txt":
        yield from _text_documents(file)
        return
    source = (JsonlSource if file.suffix == ".jsonl" else ShardSource)(str(file), cache=cache)
    for index in range(len(source)):
        try:
            yield source.read(index)
        except InputError as error:
            budget.broken(str(error))


def _text_documents(file: Path) -> Iterator[Sample]:
    """Documents of a text file, each ended by a blank line."""
    lines: list[str] = []
    with open(file, encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                lines.append(line)
            elif lines:
                yield Sample(
                    name=f"{file}: line {number}", record={"text": "".join(lines)}, pictures={}
                )
                lines = []
    if lines:
        yield Sample(name=f"{file}: the end", record={"text": "".join(lines)}, pictures={})


def _documents(
    sample: Sample, *, tokenizer: Tokenizer, learn: Learn
) -> Iterator[tuple[bool, list[int], list[bool]]]:
    """Whether a document may be cut, its tokens, and which of them are learned."""
    if "tokens" in sample.record:
        yield False, *_given_tokens(sample, vocab_size=tokenizer.vocab_size)
        return
    text = caption(sample)
    if text is not None:
        tokens = tokenizer.encode(text)
        end = tokenizer.special_tokens["<|end_of_text|>"]
        yield True, [tokenizer.bos_id, *tokens, end], [True] * (len(tokens) + 2)
        return
    if sample.pictures or sample.recordings:
        medium = "picture" if sample.pictures else "recording"
        raise InputError(sample.name, f"a {medium} among texts")
    for dialogue in dialogues(sample):
        encoded = encode_dialog(dialogue, tokenizer, add_header=False)
        everything = [True] * len(encoded.tokens)
        yield False, encoded.tokens, everything if learn == "everything" else encoded.loss_mask


def _given_tokens(sample: Sample, *, vocab_size: int) -> tuple[list[int], list[bool]]:
    """A record of ids, ``{"tokens": [...], "learned": [[first, after the last], ...]}``."""
    try:
        tokens = [int(token) for token in sample.record["tokens"]]
        learned = [False] * len(tokens)
        for first, stop in sample.record["learned"]:
            learned[first:stop] = [True] * (min(stop, len(tokens)) - first)
    except (KeyError, TypeError, ValueError):
        raise InputError(sample.name, "tokens must be ids, and learned a list of spans") from None
    if not tokens or min(tokens) < 0 or max(tokens) >= vocab_size:
        raise InputError(sample.name, f"tokens must be ids below {vocab_size}")
    return tokens, learned


def _fingerprint(tokenizer: Tokenizer) -> str:
    """A hash of the files that a tokenizer is saved as."""
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        for file in sorted(Path(folder).iterdir()):
            digest.update(file.read_bytes())
    return digest.hexdigest()
