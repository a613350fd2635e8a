"""Stages of a pipeline: which blocks each has, chosen by what they cost (paper section 7.3).

A stage ends behind an adapter layer wherever there are enough of them, so that it holds whole
groups, such as the paper's four self-attention layers and one cross-attention layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from language.config import LlamaConfig
from language.errors import InputError
from language.flops import block_weights
from language.model import Llama
from multimodal.config import MultimodalConfig
from multimodal.model import MultimodalLlama

TEXT, FEATURES = 192, 2308
"""The paper's tokens and image features of a sample, by which blocks are weighed."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """The stages of a pipeline."""

    stages: tuple[range, ...]
    """Blocks of each stage, in order."""
    costs: tuple[float, ...]
    """Operations of each stage for a sample."""

    @property
    def imbalance(self) -> float:
        """How much longer the slowest stage takes than the mean: 1 is perfect."""
        return max(self.costs) / (sum(self.costs) / len(self.costs))

    def describe(self) -> str:
        """One line for each stage."""
        whole = sum(self.costs)
        lines = [
            f"stage {number}: blocks {stage.start} to {stage.stop - 1}, {cost / whole:.1%}"
            for number, (stage, cost) in enumerate(zip(self.stages, self.costs, strict=True))
        ]
        return "\n".join([*lines, f"the slowest stage takes {self.imbalance:.3f} of the mean"])


def split_model(model: nn.Module, number: int) -> Split:
    """Split the walk of a core, or of a core with adapters, into ``number`` stages.

    Raises:
        InputError: there are fewer blocks than stages.
    """
    assert isinstance(model, Llama | MultimodalLlama)
    core = model.config if isinstance(model, Llama) else model.config.language
    ends = () if isinstance(model, Llama) else positions(model.config)
    return split(block_costs(model.config), number, ends=ends, num_blocks=core.num_layers)


def positions(config: MultimodalConfig) -> tuple[int, ...]:
    """Blocks before which adapter layers stand, rising."""
    adapters = (config.image_adapter, config.video_adapter)
    return tuple(sorted({p for adapter in adapters if adapter for p in adapter.positions}))


def block_costs(config: LlamaConfig | MultimodalConfig) -> list[float]:
    """Operations of each block of the core with the adapter layers behind it, forward and backward.

    The last one has the head, too, and the first one the layers before it.
    """
    core = config if isinstance(config, LlamaConfig) else config.language
    frozen = isinstance(config, MultimodalConfig)
    passes = 4 if frozen else 6  # operations for each weight and token
    costs = [float(passes * block_weights(core) * TEXT)] * core.num_layers
    costs[-1] += passes * core.vocab_size * core.dim * TEXT
    if isinstance(config, MultimodalConfig):
        for adapter in (config.image_adapter, config.video_adapter):
            if adapter is not None:
                heads = adapter.head_dim * adapter.num_heads
                kv_heads = adapter.head_dim * adapter.num_kv_heads
                text = 2 * adapter.dim * heads + 3 * adapter.dim * adapter.ffn_dim
                layer = 6 * (text * TEXT + 2 * adapter.dim * kv_heads * FEATURES)
                for position in adapter.positions:
                    costs[max(position - 1, 0)] += layer + 12 * heads * TEXT * FEATURES
    return costs


def split(costs: Sequence[float], number: int, *, ends: Sequence[int], num_blocks: int) -> Split:
    """Stages of consecutive blocks whose slowest is as fast as can be.

    Args:
        costs: of each block.
        number: of stages.
        ends: where stages should end, if there are enough of these: after so many blocks.
        num_blocks: of the walk.

    Raises:
        InputError: there are fewer blocks than stages.
    """
    if number > num_blocks:
        raise InputError(
            "trainer.strategy.pipeline", f"{num_blocks} blocks are too few for {number} stages"
        )
    inner = [end for end in ends if 0 < end < num_blocks]
    if len(inner) < number - 1:
        inner = list(range(1, num_blocks))
    cuts = [0, *inner, num_blocks]
    before = [sum(costs[:cut]) for cut in cuts]
    # For the way up to each cut, in so many stages: the slowest of them, and where they are cut.
    best: dict[int, tuple[float, tuple[int, ...]]] = {
        i: (before[i], (0, i)) for i in range(1, len(cuts))
    }
    for taken in range(2, number + 1):
        best = {
            i: min(
                (max(best[j][0], before[i] - before[j]), (*best[j][1], i))
                for j in range(taken - 1, i)
            )
            for i in range(taken, len(cuts))
        }
    edges = [cuts[i] for i in best[len(cuts) - 1][1]]
    stages = [range(start, stop) for start, stop in pairwise(edges)]
    return Split(stages=tuple(stages), costs=tuple(sum(costs[s.start : s.stop]) for s in stages))
