"""Metrics as a CSV file that a resumed run continues."""

import csv
import math
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class MetricsFile(Logger):
    """Writes ``metrics.csv``: a row a step, the steps of a resumed run over those it repeats."""

    def __init__(self, directory: str) -> None:
        """Continue the file of ``directory``, if it has one."""
        super().__init__()
        self._file = Path(directory, "metrics.csv")
        self._rows: dict[int, dict[str, str]] | None = None

    @property
    def name(self) -> str:
        """Name of the file."""
        return self._file.name

    @property
    def version(self) -> str:
        """There is one."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run's settings stand in its config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Put ``metrics`` in the row of ``step``."""
        rows, step = self._read(), step or 0
        for later in [known for known in rows if known > step]:
            del rows[later]
        row = rows.setdefault(step, {"step": str(step)})
        row |= {
            name: f"{float(value):.6g}"
            for name, value in metrics.items()
            if name != "epoch" and math.isfinite(float(value))
        }
        self._write(rows)

    def _write(self, rows: dict[int, dict[str, str]]) -> None:
        columns = sorted({name for row in rows.values() for name in row} - {"step"})
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_suffix(".partial")
        with open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["step", *columns])
            writer.writeheader()
            writer.writerows(rows.values())
        partial.replace(self._file)

    def _read(self) -> dict[int, dict[str, str]]:
        if self._rows is None:
            self._rows = {}
            if self._file.is_file():
                with open(self._file, newline="", encoding="utf-8") as file:
                    for row in csv.DictReader(file):
                        self._rows[int(row["step"])] = {k: v for k, v in row.items() if v}
        return self._rows
