"""Two processes give the losses and gradients of one, whatever each happens to read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from language.optimization import AdamWConfig, ScheduleConfig
from multimodal.adapter_checkpoint import IMAGE_PARTS, save_adapter
from multimodal.processor import Processor
from multimodal.training.adapter import ImageAdapterTraining
from multimodal.training.frozen_core import FrozenCoreTraining
from multimodal.training.parts import FreshAdapter, ModelParts, build
from multimodal.training.speech import SpeechTraining
from multimodal.training.speech_parts import FreshSpeechAdapter, SpeechParts
from multimodal.training.video import VideoAdapterTraining
from multimodal.training.video_parts import FreshAggregator, FreshVideoAdapter, VideoParts
from speech.checkpoint import save_encoder
from tests.multimodal.speaking import TOKENIZER, says, sound, speaking_model, write_speaking
from tests.multimodal.training.fakes import (
    Counting,
    Recorder,
    Rows,
    clip_batch,
    picture_batch,
    quiet_trainer,
    text_batch,
)

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).resolve().parents[3]
STEPS = 4


def spoken_batch(*, first: int, number: int, media: bool):
    """Rows with recordings of unequal lengths, or of text alone; answers differ in length."""
    processor = Processor(TOKENIZER, speaking_model().config)
    rows = []
    for index in range(first, first + number):
        heard = sound(0.4 + 0.1 * (index % 4), seed=index)
        asked = says(heard) if media else says("What is the cup?")
        rows.append(processor.encode([asked, says("one two " * (1 + index % 3), role="assistant")]))
    return processor.collate(rows)


def batches(kind: str, step: int) -> list:
    """A step's two parts: three rows with media, and five without."""
    if kind == "recordings":
        with_media = spoken_batch(first=8 * step, number=3, media=True)
        return [with_media, spoken_batch(first=8 * step + 3, number=5, media=False)]
    rows = Rows(num_rows=8 * STEPS, length=12, seed=1)
    some = [rows[index] for index in range(8 * step, 8 * step + 8)]
    collate = {"pictures": picture_batch, "clips": clip_batch}[kind]
    return [collate(some[:3]), text_batch(some[3:])]


class Parts(Counting):
    """Of each step the first process reads the part with media, the second the one without."""

    def __init__(self, kind: str, *, both: bool) -> None:
        super().__init__()
        self.kind, self.both = kind, both

    def train_dataloader(self) -> DataLoader:
        steps = []
        for step in range(STEPS):
            parts = batches(self.kind, step)
            steps += parts if self.both else [parts[self.trainer.global_rank]]
        return DataLoader(steps, batch_size=None)


def training(kind: str, folder: Path) -> FrozenCoreTraining:
    """A run's module, from the directories in ``folder``."""
    torch.manual_seed(0)
    settings = {
        "optimizer": AdamWConfig(learning_rate=1e-2),
        "schedule": ScheduleConfig(warmup_steps=2),
    }
    core, encoder = str(folder / "core"), str(folder / "encoder")
    if kind == "pictures":
        adapter = FreshAdapter(positions=(1, 3), gate_init=0.3)
        parts = ModelParts(core=core, image_encoder=encoder, adapter=adapter)
        return ImageAdapterTraining(parts=parts, **settings)
    if kind == "clips":
        video = VideoParts(
            core=core,
            image=str(folder / "image"),
            aggregator=FreshAggregator(
                dim=16, num_layers=1, num_heads=2, ffn_dim=24, num_latents=3
            ),
            adapter=FreshVideoAdapter(positions=(1, 4), gate_init=0.4),
            num_frames=4,
            frames_per_group=3,
        )
        return VideoAdapterTraining(parts=video, **settings)
    adapter = FreshSpeechAdapter(dim=16, ffn_dim=24, num_heads=2)
    speech = SpeechParts(
        core=str(folder / "speaking"), speech_encoder=str(folder / "hearing"), adapter=adapter
    )
    return SpeechTraining(parts=speech, augmentation=None, **settings)


def write_parts(folder: Path, kind: str, *, core: str, encoder: str) -> None:
    """The directories that :func:`training` reads."""
    (folder / "core").symlink_to(core)
    (folder / "encoder").symlink_to(encoder)
    if kind == "clips":
        adapter = FreshAdapter(positions=(1, 3), gate_init=0.3)
        torch.manual_seed(3)
        model = build(ModelParts(core=core, image_encoder=encoder, adapter=adapter))
        save_adapter(model, folder / "image", parts=IMAGE_PARTS)
    if kind == "recordings":
        write_speaking(folder / "speaking")
        save_encoder(speaking_model().speech_encoder, folder / "hearing")


SCRIPT = """
import json, sys
from pathlib import Path
from lightning.pytorch.strategies import DDPStrategy
from tests.multimodal.training.fakes import Recorder, quiet_trainer
from tests.multimodal.training.test_ranks import STEPS, Parts, training

kind, folder = sys.argv[1:]
class Writer(Recorder):
    def on_train_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            print(json.dumps([self.losses, self.norms]), flush=True)

trainer = quiet_trainer(
    Path(folder) / "two", callbacks=[Writer()], max_steps=STEPS, devices=2,
    strategy=DDPStrategy(process_group_backend="gloo", start_method="fork"),
)
trainer.fit(training(kind, Path(folder)), Parts(kind, both=False))
"""


FULL = """
import sys
from pathlib import Path
from lightning.pytorch.strategies import DDPStrategy
from language.errors import InputError
from multimodal.training import checkpoints
from tests.multimodal.training.fakes import quiet_trainer
from tests.multimodal.training.test_ranks import STEPS, Parts, training

def full(directory, files):
    raise InputError(directory, "this state could not be written")

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    checkpoints.write_state = full
    trainer = quiet_trainer(
        folder / "two", callbacks=[checkpoints.Checkpoints(every_n_steps=1)], max_steps=STEPS,
        devices=2, strategy=DDPStrategy(process_group_backend="gloo", start_method="popen"),
    )
    trainer.fit(training("pictures", folder), Parts("pictures", both=False))
"""


def test_a_full_disk_ends_every_process(core, encoder, tmp_path):
    """The first process alone writes; the other waits for it, and must not wait for ever."""
    (tmp_path / "core").symlink_to(core)
    (tmp_path / "encoder").symlink_to(encoder)
    script = tmp_path / "full.py"  # launched as `openherd fit` is: each process runs the command
    script.write_text(FULL)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PL_")}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        cwd=ROOT,
        env={**inherited, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    # That the pipes are closed shows that no process is left: each inherited them.
    assert "step-1: this state could not be written" in done.stderr


@pytest.mark.parametrize("kind", ["pictures", "clips", "recordings"])
def test_two_processes_are_as_one(core, encoder, tmp_path, kind):
    write_parts(tmp_path, kind, core=core, encoder=encoder)
    one = Recorder()
    alone = quiet_trainer(
        tmp_path / "one", callbacks=[one], max_steps=STEPS, accumulate_grad_batches=2
    )
    alone.fit(training(kind, tmp_path), Parts(kind, both=True))
    # Without the seed that another test's run may have left for its workers.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PL_")}
    environment = {**inherited, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    two = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert two.returncode == 0, two.stderr
    losses, norms = json.loads(two.stdout.splitlines()[-1])
    assert len(losses) == STEPS
    assert losses == pytest.approx(one.losses, rel=1e-4)
    assert norms == pytest.approx(one.norms, rel=1e-4)
