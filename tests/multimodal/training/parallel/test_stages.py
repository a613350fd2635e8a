"""Where a pipeline is cut: against all ways to cut it, and by the paper's groups."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from language.errors import InputError
from multimodal.config import MULTIMODAL_CONFIGS
from multimodal.training.parallel.stages import block_costs, positions, split


@given(
    costs=st.lists(st.integers(1, 50).map(float), min_size=1, max_size=9),
    number=st.integers(1, 9),
)
def test_the_slowest_stage_is_as_fast_as_can_be(costs, number):
    if number > len(costs):
        with pytest.raises(InputError, match="too few"):
            split(costs, number, ends=(), num_blocks=len(costs))
        return
    found = split(costs, number, ends=(), num_blocks=len(costs))
    assert [block for stage in found.stages for block in stage] == list(range(len(costs)))
    assert len(found.stages) == number and all(found.stages)
    best = min(
        max(sum(costs[a:b]) for a, b in pairwise((0, *cuts, len(costs))))
        for cuts in combinations(range(1, len(costs)), number - 1)
    )
    assert max(found.costs) == best


@pytest.mark.parametrize(("size", "stages"), [("8b", 8), ("70b", 4), ("405b", 16)])
def test_stages_hold_whole_groups(size, stages):
    """Four self-attention layers and the cross-attention layer behind them (section 7.3)."""
    config = MULTIMODAL_CONFIGS[size]
    ends = positions(config)
    found = split(block_costs(config), stages, ends=ends, num_blocks=config.language.num_layers)
    assert all(stage.stop in ends or stage.stop == config.language.num_layers
               for stage in found.stages)  # fmt: skip
    assert 1 <= found.imbalance < 1.35
    if size == "8b":
        assert {len(stage) for stage in found.stages} == {4}
    assert found.describe().count("stage ") == stages + 1
