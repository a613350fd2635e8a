"""Measured texts, for training the prosody model.

data:
  class_path: multimodal.data.measured.MeasuredData
  init_args:
    train: [{path: measured.jsonl}]
    batch_size: 64
"""

from collections.abc import Sequence
from pathlib import Path

from multimodal.data.files import find_files
from multimodal.data.module import SampleData, SourceConfig
from multimodal.data.samples import Extent
from speech.prosody.corpus import MeasuredText, read_measured
from speech.prosody.training import ProsodyBatch, ProsodyRow

MAX_PHONES = 500
"""What the paper trains on at most."""


class MeasuredSource:
    """The texts of JSONL files, held in memory."""

    def __init__(self, path: str, *, name: str = "", cache: Path) -> None:
        """Read them.

        Raises:
            InputError: a file is missing, or a line is no measured text.
        """
        self.name = name or path
        files = find_files(path, cache=cache, suffixes=(".jsonl",))
        self._texts = [text for file in files for text in read_measured(file)]

    def __len__(self) -> int:
        return len(self._texts)

    def extent(self, index: int) -> Extent:
        """Size of a text, in phones."""
        return Extent(pictures=(), num_characters=len(self._texts[index].phones))

    def read(self, index: int) -> MeasuredText:
        """A text."""
        return self._texts[index]


class ProsodyTask:
    """Texts, phone by phone."""

    def __init__(self, *, max_phones: int = MAX_PHONES) -> None:
        """Learn of the first ``max_phones`` of a text."""
        self.max_phones = max_phones

    def cost(self, extent: Extent) -> float:
        """The length."""
        return float(extent.num_characters)

    def encode(self, sample: MeasuredText) -> ProsodyRow:
        """A row."""
        return ProsodyRow.of(sample, max_phones=self.max_phones)

    def collate(self, rows: Sequence[ProsodyRow]) -> ProsodyBatch:
        """A batch."""
        return ProsodyBatch.of(rows)

    def without_loss(self, row: ProsodyRow) -> ProsodyRow:
        """The row without targets."""
        return row.without_loss()


class MeasuredData(SampleData):
    """Measured texts for the prosody model."""

    def open_source(self, config: SourceConfig) -> MeasuredSource:
        """Texts of JSONL files."""
        return MeasuredSource(config.path, name=config.name, cache=self.cache)

    def task(self) -> ProsodyTask:
        """Phone by phone."""
        return ProsodyTask()
