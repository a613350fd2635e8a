"""A disk that fails for one process ends all of them, and the states before stay whole."""

import os
import subprocess
import sys
from pathlib import Path

from multimodal.training.states import check_state, newest_state
from tests.multimodal.training.test_ranks import write_parts

ROOT = Path(__file__).resolve().parents[4]
SCRIPT = """
import sys
from pathlib import Path
import torch
from multimodal.training.parallel import shared_states
from tests.multimodal.training.parallel.cases import run_case
from tests.multimodal.training.parallel.layouts import Case

write = shared_states.write_pieces
def full(file, placed, optimizer):
    write(file, placed, optimizer)
    if torch.distributed.get_rank() == 1 and "step-2" in file.file.name:
        raise OSError(28, "No space left on device")

shared_states.write_pieces = full
case = Case(name="full", processes=2, strategy={"pipeline": 2, "micro_batches": 4}, save=True)
run_case(case, Path(sys.argv[1]))
"""


def test_the_states_before_stay(core, encoder, tmp_path):
    write_parts(tmp_path, "pictures", core=core, encoder=encoder)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PL_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        env={**inherited, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert "No space left on device" in done.stderr and "are untouched" in done.stderr
    states = tmp_path / "full" / "checkpoints"
    assert [path.name for path in states.iterdir()] == ["step-1"]
    check_state(states / "step-1")
    assert newest_state(tmp_path / "full") == states / "step-1"
