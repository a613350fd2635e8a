"""Spoken dialogue from transcribed recordings: the core answers what is said (section 8.2).

A recording with a transcript becomes a dialogue whose user says the recording and whose assistant
gives the core's own answer to the transcript: what the model should say to the sound is what it
says to the words. Each file of records becomes one of the same kind.
"""

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from language.errors import InputError
from multimodal.data.manifest import KEY
from multimodal.data.recordings import RECORDINGS
from multimodal.data.samples import parse_record
from multimodal.data.tar import MAX_RECORD_BYTES

Answer = Callable[[Sequence[str]], list[str]]
"""Answers of the core to several texts."""

BATCH = 64
SUFFIXES = (".tar", ".jsonl", ".json")


def respond(source: Path, target: Path, answer: Answer, *, max_words: int) -> tuple[int, int]:
    """Write the dialogues of a file, whole or not at all.

    Args:
        source: a tar shard, or a manifest of JSON lines with ``audio_filepath``.
        target: file to write, of the same kind.
        answer: what the core says to texts.
        max_words: longer transcripts are left out: few people say them in one breath.

    Returns:
        Dialogues that were written, and records that were left out.

    Raises:
        InputError: the source is unreadable, or nothing in it is a transcribed recording.
    """
    if source.suffix not in SUFFIXES:
        raise InputError(source, f"want a file ending in {', '.join(SUFFIXES)}")
    write = _write_shard if source.suffix == ".tar" else _write_manifest
    partial = target.with_name(f"{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        counts = write(source, partial, answer, max_words)
        if not counts[0]:
            raise InputError(source, "no recording with a transcript in it")
        partial.replace(target)
    except (OSError, tarfile.TarError) as error:
        raise InputError(source, f"cannot be read or written ({error})") from None
    finally:
        partial.unlink(missing_ok=True)
    return counts


def dialogue(record: dict[str, Any], answer: str) -> dict[str, Any]:
    """The record as a dialogue; what else it holds stays."""
    heard = {"role": "user", "content": [{"type": "audio"}]}
    return {**record, "messages": [heard, {"role": "assistant", "content": answer}]}


def _write_manifest(source: Path, target: Path, answer: Answer, max_words: int) -> tuple[int, int]:
    def records() -> Iterator[dict[str, Any]]:
        with source.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    try:
                        record = parse_record(line, name=f"{source}: line {number}")
                    except InputError:
                        record = {}  # left out, and counted with the others
                    file = record.get(KEY)
                    if isinstance(file, str):  # the manifest may go elsewhere
                        record[KEY] = str((source.parent / Path(file).expanduser()).resolve())
                    yield record

    written, left_out = 0, 0
    with target.open("w", encoding="utf-8") as out:
        for record, said in _answered(records(), lambda r: _text(r, max_words), answer):
            if said is None:
                left_out += 1
                continue
            out.write(json.dumps(dialogue(record, said), ensure_ascii=False) + "\n")
            written += 1
    return written, left_out


def _write_shard(source: Path, target: Path, answer: Answer, max_words: int) -> tuple[int, int]:
    written, left_out = 0, 0
    with tarfile.open(source, "r:") as shard, tarfile.open(target, "w") as out:

        def text(sample: list[tuple[str, bytes]]) -> str | None:
            files = dict(sample)
            has_sound = any(name.rpartition(".")[2] in RECORDINGS for name in files)
            record = _record(files, source=source)
            return _text(record, max_words) if has_sound else None

        for sample, said in _answered(_samples(shard, source), text, answer):
            if said is None:
                left_out += 1
                continue
            for name, data in sample:
                if name.endswith(".json"):
                    record = dialogue(_record(dict(sample), source=source), said)
                    data = json.dumps(record, ensure_ascii=False).encode()
                member = tarfile.TarInfo(name)
                member.size = len(data)
                out.addfile(member, io.BytesIO(data))
            written += 1
    return written, left_out


def _samples(shard: tarfile.TarFile, source: Path) -> Iterator[list[tuple[str, bytes]]]:
    """Files of each sample: neighbours whose names are the same up to the first dot."""
    sample: list[tuple[str, bytes]] = []
    key = None
    for member in shard:
        if not member.isfile():
            continue
        folder, _, name = member.name.rpartition("/")
        found = folder, name.partition(".")[0]
        if found != key and sample:
            yield sample
            sample = []
        key = found
        if member.name.endswith(".json") and member.size > MAX_RECORD_BYTES:
            raise InputError(source, f"{member.name} is larger than allowed")
        file = shard.extractfile(member)
        assert file is not None, "a regular file"
        sample.append((member.name, file.read()))
    if sample:
        yield sample


def _record(files: dict[str, bytes], *, source: Path) -> dict[str, Any]:
    for name, data in files.items():
        if name.endswith(".json"):
            try:
                return parse_record(data, name=f"{source}: {name}")
            except InputError:
                return {}  # left out, and counted with the others
    return {}


def _text(record: dict[str, Any], max_words: int) -> str | None:
    """The transcript, if it is one that somebody might say to the assistant."""
    text = record.get("text")
    if not isinstance(text, str) or not 0 < len(text.split()) <= max_words:
        return None
    return text.strip()


def _answered(
    items: Iterable[Any], text: Callable[[Any], str | None], answer: Answer
) -> Iterator[tuple[Any, str | None]]:
    """Each item with the answer to its text; None without a text, or where nothing is said."""
    items = iter(items)
    while batch := list(islice(items, BATCH)):
        texts = [text(item) for item in batch]
        answers = iter(_answers([each for each in texts if each is not None], answer))
        for item, each in zip(batch, texts, strict=True):
            said = None if each is None else next(answers).strip()
            yield item, said or None


def _answers(texts: list[str], answer: Answer) -> list[str]:
    """Answers to texts; nothing to one that cannot be answered, since it is too long."""
    try:
        return answer(texts)
    except InputError:
        if len(texts) == 1:
            return [""]
    return [said for text in texts for said in _answers([text], answer)]
