"""Written sentences and the rules that read them, for text normalization.

data:
  class_path: multimodal.data.written.WrittenData
  init_args:
    train: [{path: sentences.tsv}]
    batch_size: 64
"""

from collections.abc import Sequence
from pathlib import Path

from multimodal.data.files import find_files
from multimodal.data.module import SampleData, SourceConfig
from multimodal.data.samples import Extent
from speech.normalization.data import LabelledText, read_tsv
from speech.normalization.rules import Language, language
from speech.normalization.training import NormalizationTraining, WrittenBatch, WrittenRow


class WrittenSource:
    """The sentences of TSV files, held in memory."""

    def __init__(self, path: str, *, rules: Language, name: str = "", cache: Path) -> None:
        """Read them.

        Raises:
            InputError: a file is missing, or a line is no sentence.
        """
        self.name = name or path
        files = find_files(path, cache=cache, suffixes=(".tsv",))
        self._texts = [text for file in files for text in read_tsv(file, rules)]

    def __len__(self) -> int:
        return len(self._texts)

    def extent(self, index: int) -> Extent:
        """Size of a sentence."""
        return Extent(pictures=(), num_characters=len(self._texts[index].text))

    def read(self, index: int) -> LabelledText:
        """A sentence."""
        return self._texts[index]


class NormalizationTask:
    """Sentences, label by label."""

    def __init__(self, labels: Sequence[str]) -> None:
        """Number the labels as ``labels`` are."""
        self.labels = tuple(labels)

    def cost(self, extent: Extent) -> float:
        """The length."""
        return float(extent.num_characters)

    def encode(self, sample: LabelledText) -> WrittenRow:
        """A row."""
        return WrittenRow.of(sample, self.labels)

    def collate(self, rows: Sequence[WrittenRow]) -> WrittenBatch:
        """A batch."""
        return WrittenBatch.of(rows)

    def without_loss(self, row: WrittenRow) -> WrittenRow:
        """The row without targets."""
        return row.without_targets()


class WrittenData(SampleData):
    """Written sentences for the tagger; the rules are those of the module that is trained."""

    def open_source(self, config: SourceConfig) -> WrittenSource:
        """Sentences of TSV files."""
        return WrittenSource(config.path, rules=self._rules, name=config.name, cache=self.cache)

    def task(self) -> NormalizationTask:
        """Label by label."""
        return NormalizationTask(self._rules.labels)

    @property
    def _rules(self) -> Language:
        assert self.trainer is not None, "the rules are those of the trained module"
        module = self.trainer.lightning_module
        return module.rules if isinstance(module, NormalizationTraining) else language("en")
