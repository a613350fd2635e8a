"""A rank's rows of a matrix are those that torch's chunk gives it."""

from types import SimpleNamespace

import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodal.training.parallel.sharding import first_row


@given(rows=st.integers(1, 40), size=st.integers(1, 9))
def test_parts_begin_where_chunks_do(rows, size):
    chunks = torch.arange(rows).chunk(size)
    for rank in range(size):
        start = first_row(rows, SimpleNamespace(rank=rank, size=size))
        assert start == (int(chunks[rank][0]) if rank < len(chunks) else rows)
