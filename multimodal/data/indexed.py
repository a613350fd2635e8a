"""Several indexed files as one long list of samples, read by offset."""

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

from language.errors import InputError
from multimodal.data.index import FAULTS, Index, Member, cached_index

MAX_OPEN_FILES = 64


class IndexedFiles:
    """The samples of files, one file after another; safe to hand to other processes."""

    def __init__(
        self, paths: list[Path], build: Callable[[Path], Iterable[Member]], *, cache: Path
    ) -> None:
        """Index the files.

        Args:
            paths: the files.
            build: lists the members of a file.
            cache: folder for indexes.
        """
        self.paths = paths
        self._build = build
        self._cache = cache / "indexes"
        self._indexes: OrderedDict[int, Index] = OrderedDict()
        self._descriptors: OrderedDict[int, int] = OrderedDict()
        self._ends = list(accumulate(len(self._index(file)) for file in range(len(paths))))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, sample: int) -> tuple[int, list[Member]]:
        """Number of the file that a sample is in, and the sample's members."""
        file = bisect_right(self._ends, sample)
        start = self._ends[file - 1] if file else 0
        return file, self._index(file)[sample - start]

    def __getstate__(self) -> dict[str, Any]:
        """Leave maps and open files behind on the way to another process."""
        return {**self.__dict__, "_indexes": OrderedDict(), "_descriptors": OrderedDict()}

    def read(self, file: int, member: Member, *, name: str) -> bytes:
        """The bytes of a member.

        Raises:
            InputError: about ``name``: the member is unusable.
        """
        if member.fault:
            raise InputError(name, f"{member.extension} {FAULTS[member.fault]}")
        try:
            data = os.pread(self._descriptor(file), member.size, member.offset)
        except OSError as error:
            raise InputError(name, f"cannot be read ({error.strerror})") from None
        if len(data) != member.size:
            raise InputError(name, "is cut off: the file became shorter since it was indexed")
        return data

    def _index(self, file: int) -> Index:
        """An index, which holds a file open; the least recently used one is let go."""
        if file not in self._indexes:
            if len(self._indexes) >= MAX_OPEN_FILES:
                self._indexes.popitem(last=False)
            self._indexes[file] = cached_index(self.paths[file], self._build, cache=self._cache)
        self._indexes.move_to_end(file)
        return self._indexes[file]

    def _descriptor(self, file: int) -> int:
        """An open file; the least recently used one is closed where there are many."""
        if file not in self._descriptors:
            if len(self._descriptors) >= MAX_OPEN_FILES:
                os.close(self._descriptors.popitem(last=False)[1])
            self._descriptors[file] = os.open(self.paths[file], os.O_RDONLY)
        self._descriptors.move_to_end(file)
        return self._descriptors[file]
