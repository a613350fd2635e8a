"""Reading files as benchmarks are published: JSON, lines of JSON, tables, and folders of media.

Faults are told in one line that names the file and what was looked for. Nothing is fetched.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from language.errors import InputError

MAX_TABLE_BYTES = 4 << 30
"""No annotation file of a published set is larger; one that is stays unread."""


def folder(path: Path, *, looked_for: str) -> Path:
    """The folder of a set.

    Raises:
        InputError: there is none; says what it should hold.
    """
    if not path.is_dir():
        raise InputError(path, f"no such folder; looked for {looked_for}")
    return path


def find(directory: Path, patterns: Sequence[str], *, looked_for: str) -> Path:
    """The first file that a pattern matches, in the order of patterns, then of names.

    Raises:
        InputError: there is none; says what was looked for.
    """
    folder(directory, looked_for=looked_for)
    for pattern in patterns:
        if found := sorted(path for path in directory.glob(pattern) if path.is_file()):
            return found[0]
    raise InputError(directory, f"not this set: looked for {looked_for}")


def find_folder(directory: Path, names: Sequence[str], *, looked_for: str) -> Path:
    """The first of the named folders that is there.

    Raises:
        InputError: there is none; says what was looked for.
    """
    folder(directory, looked_for=looked_for)
    for name in names:
        if (directory / name).is_dir():
            return directory / name
    raise InputError(directory, f"not this set: looked for {looked_for}")


def read_json(path: Path) -> Any:
    """A whole JSON file.

    Raises:
        InputError: it cannot be read, is cut off, or is no JSON.
    """
    try:
        _check_size(path)
        with path.open(encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"not JSON, or cut off ({error})") from None


def read_records(path: Path) -> list[Any]:
    """A JSON file that is a list.

    Raises:
        InputError: it is something else, or as for `read_json`.
    """
    records = read_json(path)
    if not isinstance(records, list):
        raise InputError(path, "not a list of records")
    return records


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text that hold something, with their numbers.

    Raises:
        InputError: it cannot be read, or is no UTF-8.
    """
    try:
        _check_size(path)
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.rstrip("\n")
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(path, f"not a text ({error.reason})") from None


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The JSON value of each line, with the line's number; empty lines are passed over.

    Raises:
        InputError: a line is no JSON.
    """
    for number, line in text_lines(path):
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(path, f"line {number}: not JSON ({error})") from None


def read_table(
    path: Path,
    *,
    columns: Sequence[str],
    delimiter: str = ",",
    names: Sequence[str] | None = None,
    quoted: bool = True,
) -> Iterator[dict[str, str]]:
    """The rows of a table, by column.

    Args:
        path: of the table.
        columns: that must be there.
        delimiter: between columns.
        names: of the columns, where the table has no line that says them.
        quoted: whether a cell may be quoted; where not, quotes are text.

    Raises:
        InputError: a column is missing, or a row is short.
    """
    try:
        _check_size(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(
                file,
                fieldnames=names,
                delimiter=delimiter,
                quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
            )
            if lacking := [name for name in columns if name not in (rows.fieldnames or ())]:
                raise InputError(path, f"lacks the column {lacking[0]}")
            for row in rows:
                if any(row[name] is None for name in columns):
                    raise InputError(path, f"line {rows.line_num}: fewer cells than columns")
                yield {name: cell for name, cell in row.items() if name is not None}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, f"cannot be read ({error})") from None


def field_of(record: Any, name: str, kind: type | tuple[type, ...], *, where: Path | str) -> Any:
    """A field of a record, of the right type.

    Raises:
        InputError: it is missing, or of another type; names ``where``.
    """
    if not isinstance(record, dict) or name not in record:
        raise InputError(where, f"a record lacks {name!r}")
    value = record[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise InputError(where, f"{name} is {value!r:.80}, which is of another type")
    return value


def texts(value: Any, *, where: Path | str) -> list[str]:
    """A list of texts, or the one text.

    Raises:
        InputError: it is something else.
    """
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise InputError(where, f"{value!r:.80} is no list of texts")
    return found


def media_file(directory: Path, name: str, *, endings: Iterable[str] = ("",)) -> Path:
    """A picture or recording of a set.

    Args:
        directory: in which it must lie.
        name: relative to it.
        endings: that are tried behind the name.

    Raises:
        InputError: it is missing, or lies elsewhere.
    """
    for ending in endings:
        path = within(directory, f"{name}{ending}")
        if path.is_file():
            return path
    raise InputError(directory / f"{name}{next(iter(endings), '')}", "missing: half of the set?")


def within(directory: Path, name: str) -> Path:
    """A path of a set, which a name in its annotations gives.

    Raises:
        InputError: it lies outside of the set, or is no name.
    """
    path = directory / name
    try:
        path.is_file()  # refuses what no file can be called
        is_inside = path.resolve().is_relative_to(directory.resolve())
    except (OSError, ValueError):
        raise InputError(directory, f"names {name!r:.60}, which is no name of a file") from None
    if not is_inside:
        raise InputError(directory, f"names {name!r:.60}, which lies outside of it")
    return path


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    if size > MAX_TABLE_BYTES:
        raise InputError(path, f"{size:,} bytes are more than any published set's annotations")


def read_parquet(path: Path, *, rows_at_once: int = 64) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, some at a time.

    Raises:
        InputError: it is broken, or pyarrow is not installed.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise InputError(
            path, "Parquet files need pyarrow: pip install 'openherd[evaluate]'"
        ) from None
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=rows_at_once):
                yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise InputError(path, f"not a whole Parquet file ({str(error).splitlines()[0]})") from None
