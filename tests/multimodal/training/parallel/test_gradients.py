"""Gradients are gathered in float32 where the model computes in bfloat16 (paper section 7.4)."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodal.training.parallel import gradients
from multimodal.training.parallel.gradients import Placed, owners
from tests.multimodal.training.fakes import Rows, picture_batch
from tests.multimodal.training.test_ranks import training, write_parts

MICRO_BATCHES, BOUND = 64, 1e-5


def test_sixty_four_micro_batches_add_up(core, encoder, tmp_path):
    write_parts(tmp_path, "pictures", core=core, encoder=encoder)
    module = training("pictures", tmp_path)
    module.configure_model()
    rows = Rows(num_rows=2 * MICRO_BATCHES, length=12, seed=1)
    parameters = [parameter for _, parameter in module.trainable()]
    # Each micro-batch alone, in double precision, is what the sums are held against.
    alone: list[list[torch.Tensor]] = []
    for index in range(MICRO_BATCHES):
        module.zero_grad()
        batch = picture_batch([rows[2 * index], rows[2 * index + 1]])
        with torch.autocast("cpu", torch.bfloat16):
            module.loss(batch)[0].backward()
        alone.append([p.grad.clone() for p in parameters])
    module.zero_grad()
    for index in range(MICRO_BATCHES):
        batch = picture_batch([rows[2 * index], rows[2 * index + 1]])
        with torch.autocast("cpu", torch.bfloat16):
            module.loss(batch)[0].backward()
    for i, parameter in enumerate(parameters):
        exact = torch.stack([each[i].double() for each in alone]).sum(dim=0)
        if exact.norm() < 1e-6:
            continue
        rounded = torch.zeros_like(exact, dtype=torch.bfloat16)
        for each in alone:
            rounded += each[i].bfloat16()
        assert parameter.grad.dtype == torch.float32
        assert (parameter.grad - exact).norm() <= BOUND * exact.norm()
        assert (rounded.double() - exact).norm() > 10 * BOUND * exact.norm()


@given(sizes=st.lists(st.integers(1, 1000), max_size=40), number=st.integers(1, 8))
def test_data_ranks_step_about_as_many_weights(sizes, number):
    chosen = owners(sizes, number)
    loads = [
        sum(s for s, owner in zip(sizes, chosen, strict=True) if owner == rank)
        for rank in range(number)
    ]
    assert sum(loads) == sum(sizes)
    assert max(loads) - min(loads) <= max(sizes, default=0)


class Halves:
    """A group of processes, each of which has the same gradient."""

    size, rank = 64, 0

    def sum(self, tensor: torch.Tensor) -> None:
        assert tensor.dtype == torch.float32  # whatever the gradients are
        tensor *= self.size


def test_gradients_of_bfloat16_are_summed_in_float32():
    parameter = torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    parameter.grad = torch.tensor([1.0, 2.0, -3.0], dtype=torch.bfloat16)
    placed = Placed(name="x", parameter=parameter, whole=(3,), start=(0,))
    gradients._sum([placed], Halves())
    assert parameter.grad.tolist() == [64.0, 128.0, -192.0]
