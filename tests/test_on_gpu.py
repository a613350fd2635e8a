"""A GPU gives what the CPU gives: the shipped model's answers, losses of training, gradients."""

import json

import pytest
import torch

from multimodal.assistant import Assistant, load
from multimodal.locations import TINY
from multimodal.training.parts import FreshAdapter, ModelParts, build
from speech.conformer import Conformer, ConformerConfig
from speech.frames import Frames
from tests.multimodal.training.conftest import core, encoder  # noqa: F401  # fixtures
from tests.multimodal.training.fakes import Recorder, quiet_trainer
from tests.multimodal.training.test_ranks import STEPS, Parts, batches, training, write_parts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.filterwarnings("ignore"),
]
SAMPLES = TINY / "samples"


def answers(assistant: Assistant) -> dict[str, str]:
    """What a model says to every sample."""
    said = {}
    for name, facts in json.loads((SAMPLES / "scenes.json").read_text()).items():
        picture = str(SAMPLES / name)
        said[name] = assistant.caption(picture)
        for question in facts["questions"]:
            said[name + question] = assistant.ask(picture, question)
    for name, facts in json.loads((SAMPLES / "clips" / "clips.json").read_text()).items():
        for question in facts["questions"]:
            said[name + question] = assistant.ask(str(SAMPLES / "clips" / name), question)
    for file in sorted((SAMPLES / "recordings").glob("*.flac")):
        said[file.name] = assistant.transcribe(file).text
    return said


def test_the_shipped_model_says_the_same():
    on_cpu = answers(load("tiny", device="cpu"))
    exact = answers(load("tiny", device="cuda", dtype="float32"))
    assert exact == on_cpu
    rounded = answers(load("tiny", device="cuda"))  # bfloat16, as a GPU computes by default
    same = sum(rounded[name] == said for name, said in on_cpu.items())
    assert same >= 0.95 * len(on_cpu), f"{same} of {len(on_cpu)}"


@pytest.mark.parametrize("kind", ["pictures", "clips", "recordings"])
def test_training_on_it_is_as_on_the_cpu(core, encoder, tmp_path, kind):  # noqa: F811
    write_parts(tmp_path, kind, core=core, encoder=encoder)
    recorders = {}
    for accelerator in ("cpu", "gpu"):
        recorder = recorders[accelerator] = Recorder()
        trainer = quiet_trainer(
            tmp_path / accelerator,
            accelerator=accelerator,
            callbacks=[recorder],
            max_steps=STEPS,
            accumulate_grad_batches=2,
        )
        module = training(kind, tmp_path)
        module.configure_model()  # here, and not on the device: fresh weights are drawn the same
        trainer.fit(module, Parts(kind, both=True))
    on_cpu, on_gpu = recorders["cpu"], recorders["gpu"]
    assert on_gpu.losses == pytest.approx(on_cpu.losses, rel=1e-3)
    assert on_gpu.norms == pytest.approx(on_cpu.norms, rel=1e-2)


@pytest.mark.parametrize("compiled", [False, True])
def test_mixed_precision_learns_the_same(core, encoder, tmp_path, compiled):  # noqa: F811
    """bfloat16 with float32 weights, the blocks compiled or not: losses near the exact ones."""
    write_parts(tmp_path, "pictures", core=core, encoder=encoder)
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        recorder = Recorder()
        trainer = quiet_trainer(
            tmp_path / precision,
            accelerator="gpu",
            precision=precision,
            callbacks=[recorder],
            max_steps=STEPS,
            accumulate_grad_batches=2,
        )
        module = training("pictures", tmp_path)
        module.compile_parts = compiled and precision == "bf16-mixed"
        trainer.fit(module, Parts("pictures", both=True))
        losses[precision] = recorder.losses
        kinds = {parameter.dtype for _, parameter in module.trainable()}
        assert kinds == {torch.float32}
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], rel=0.03)


@pytest.mark.parametrize("chunk_size", [0, 4])
def test_one_kernel_for_recordings_of_unequal_lengths(chunk_size):
    """FlexAttention, outputs and gradients, against the CPU's loop over recordings."""
    torch.manual_seed(0)
    config = ConformerConfig(
        dim=64, num_layers=2, num_heads=2, ffn_dim=96, input_dim=40, chunk_size=chunk_size
    )
    conformer = Conformer(config)
    lengths = torch.tensor([37, 5, 90, 1])
    frames = torch.randn(4, 90, 40)
    found = {}
    for device in ("cpu", "cuda"):
        model = conformer.to(device)
        model.zero_grad()
        out = model(Frames(values=frames.to(device), lengths=lengths.to(device))).values
        out.square().sum().backward()
        gradients = [parameter.grad.clone().cpu() for parameter in model.parameters()]
        found[device] = out.detach().cpu(), gradients
    torch.testing.assert_close(found["cuda"][0], found["cpu"][0], atol=1e-3, rtol=1e-3)
    ours, theirs = (
        torch.cat([gradient.flatten() for gradient in found[device][1]])
        for device in ("cuda", "cpu")
    )
    assert (ours - theirs).norm() <= 5e-3 * theirs.norm()  # its products are of TF32 there


def test_pictures_give_the_same_logits(core, encoder, tmp_path):  # noqa: F811
    torch.manual_seed(0)
    adapter = FreshAdapter(positions=(1, 3), gate_init=0.3)
    model = build(ModelParts(core=core, image_encoder=encoder, adapter=adapter)).eval()
    batch = batches("pictures", 0)[0]
    with torch.no_grad():
        on_cpu = model(batch)
        on_gpu = model.cuda()(batch)
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=1e-3, rtol=1e-3)
