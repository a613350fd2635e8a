"""Media that data ranks agree on, where they share weights.

Weights that are cut over data ranks are put together by all of them at once, so that none may pass
over a layer that another one runs. A micro-batch without pictures, or clips, whose like on another
data rank has some gets a blank one that no token sees: results stay what they are to the last bit,
and the gradient that it brings is 0.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from multimodal.batch import Batch, Clips, Images
from multimodal.config import MultimodalConfig
from multimodal.training.parallel.mesh import Ranks


def with_blank_media(
    batches: Sequence[Batch], config: MultimodalConfig, ranks: Ranks
) -> list[Batch]:
    """Micro-batches with blank media wherever another rank's have real ones.

    Args:
        batches: as many on all ranks.
        config: of the model that they are for.
        ranks: that share weights.
    """
    device = batches[0].tokens.device
    here = [[batch.images is not None, batch.clips is not None] for batch in batches]
    anywhere = torch.tensor(here, dtype=torch.int32, device=device)
    ranks.largest(anywhere)
    filled = []
    for batch, (pictures, clips) in zip(batches, anywhere.bool().tolist(), strict=True):
        if pictures and batch.images is None:
            batch = replace(batch, images=_blank_image(batch, config), visible=_unseen(batch))
        if clips and batch.clips is None:
            batch = replace(batch, clips=_blank_clip(batch, config), visible_clips=_unseen(batch))
        filled.append(batch)
    return filled


def agreed_number(number: int, ranks: Ranks, device: torch.device) -> int:
    """The number of micro-batches that all ranks have, or one where they differ."""
    ends = torch.tensor([number, -number], device=device)
    ranks.largest(ends)
    return number if int(ends[0]) == -int(ends[1]) else 1


def _unseen(batch: Batch) -> torch.Tensor:
    return batch.tokens.new_zeros(*batch.tokens.shape, 1, dtype=torch.bool)


def _blank_image(batch: Batch, config: MultimodalConfig) -> Images:
    return Images(
        tiles=_blank_tile(batch, config),
        arrangements=batch.tokens.new_ones(1, 2),
        rows=batch.tokens.new_zeros(1),
    )


def _blank_clip(batch: Batch, config: MultimodalConfig) -> Clips:
    return Clips(
        tiles=_blank_tile(batch, config),
        arrangements=batch.tokens.new_ones(1, 2),
        lengths=batch.tokens.new_ones(1),
        rows=batch.tokens.new_zeros(1),
        keys=[""],
        times=[(0.0,)],
    )


def _blank_tile(batch: Batch, config: MultimodalConfig) -> torch.Tensor:
    assert config.tiles is not None, "a model that sees says how large tiles are"
    size = config.tiles.tile_size
    return torch.zeros(1, 3, size, size, device=batch.tokens.device)
