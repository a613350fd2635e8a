"""Two processes give the losses and gradients of one, whatever each happens to read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from tests.multimodal.training.fakes import Counting, Rows, picture_batch, text_batch

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).resolve().parents[3]


class Parts(Counting):
    """Of each step's rows the first process reads three with pictures, the other five without."""

    def __init__(self, *, rank: int | None = None) -> None:
        super().__init__()
        self.rank = rank

    def train_dataloader(self) -> DataLoader:
        rows = Rows(num_rows=32, length=12, seed=1)
        steps = []
        for start in range(0, 32, 8):
            some = [rows[index] for index in range(start, start + 8)]
            parts = [picture_batch(some[:3]), text_batch(some[3:])]
            mine = self.trainer.global_rank if self.rank is None else self.rank
            steps += parts if mine < 0 else [parts[mine]]
        return DataLoader(steps, batch_size=None)


SCRIPT = """
import json, sys, torch
from lightning.pytorch.strategies import DDPStrategy
from language.optimization import AdamWConfig, ScheduleConfig
from multimodal.training.adapter import ImageAdapterTraining
from multimodal.training.parts import FreshAdapter, ModelParts
from tests.multimodal.training.fakes import Recorder, quiet_trainer
from tests.multimodal.training.test_ranks import Parts

core, encoder, out = sys.argv[1:]
torch.manual_seed(0)
adapter = FreshAdapter(positions=(1, 3), gate_init=0.3)
module = ImageAdapterTraining(
    parts=ModelParts(core=core, image_encoder=encoder, adapter=adapter),
    optimizer=AdamWConfig(learning_rate=1e-2), schedule=ScheduleConfig(warmup_steps=2),
)
class Writer(Recorder):
    def on_train_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            print(json.dumps([self.losses, self.norms]), flush=True)

strategy = DDPStrategy(process_group_backend="gloo", start_method="fork")
trainer = quiet_trainer(out, callbacks=[Writer()], max_steps=4, devices=2, strategy=strategy)
trainer.fit(module, Parts())
"""


def test_two_processes_are_as_one(adapt, core, encoder, tmp_path):
    _, one = adapt(data=Parts(rank=-1), trainer={"max_steps": 4, "accumulate_grad_batches": 2})
    # Without the seed that another test's run may have left for its workers.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PL_")}
    environment = {**inherited, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    two = subprocess.run(
        [sys.executable, "-c", SCRIPT, core, encoder, str(tmp_path / "two")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert two.returncode == 0, two.stderr
    losses, norms = json.loads(two.stdout.splitlines()[-1])
    assert losses == pytest.approx(one.losses, rel=1e-4)
    assert norms == pytest.approx(one.norms, rel=1e-4)
