"""The metrics' modules are read without the libraries that some of them use, and without torch."""

import subprocess
import sys
from pathlib import Path

import multimodal.evaluation.metrics as metrics


def test_importing_all_metrics_imports_no_library() -> None:
    folder = Path(metrics.__file__).parent
    names = sorted(file.stem for file in folder.glob("*.py") if file.stem != "__init__")
    imports = "\n".join(f"import multimodal.evaluation.metrics.{name}" for name in names)
    heavy = "torch jiwer rapidfuzz nltk sacrebleu whisper_normalizer"
    command = f"import sys\n{imports}\nprint(*sys.modules.keys() & set({heavy.split()}))"
    done = subprocess.run(
        [sys.executable, "-c", command],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder.parents[2],
    )
    assert len(names) > 10 and done.stdout.split() == []
