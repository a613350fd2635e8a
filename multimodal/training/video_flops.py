"""Floating-point operations of a training step with clips, counted from the config.

Core, image encoder and image layers are frozen: the encoder runs forward only, and not at all on
clips whose features are known (`language.flops` says what is counted).
"""

import torch

from language.flops import Work, causal_pairs, core_flops, document_lengths
from multimodal.batch import IGNORED, Batch, Images
from multimodal.config import MultimodalConfig
from multimodal.training.flops import Trained, adapter_flops, seen_pairs
from video.flops import aggregator_flops, group_tokens
from vision.flops import encoder_flops


def video_step_work(config: MultimodalConfig, batch: Batch) -> Work:
    """What a batch asks for where the video parts alone train."""
    aggregator, adapter, clips = config.video_aggregator, config.video_adapter, batch.clips
    encoder = config.image_encoder
    assert aggregator is not None and adapter is not None and encoder is not None
    assert batch.targets is not None, "a batch to train on has targets"
    tokens = batch.lengths.sum()
    flops = core_flops(
        config.language,
        tokens=tokens,
        pairs=causal_pairs(document_lengths(batch.documents, batch.lengths)),
        logits=(batch.targets != IGNORED).sum(),
        trained=False,
        first_block=config.language.num_layers if clips is None else min(adapter.positions),
    )
    if clips is not None:
        assert batch.visible_clips is not None
        unknown = torch.ones_like(clips.lengths, dtype=torch.bool)
        unknown = unknown if clips.known is None else ~clips.known
        frames = clips.arrangements[unknown].repeat_interleave(clips.lengths[unknown], dim=0)
        flops = flops + encoder_flops(encoder, frames, trained=False)
        tiles = clips.arrangements.prod(dim=1)
        shape = {"lengths": clips.lengths, "features": tiles * encoder.num_tokens}
        flops = flops + aggregator_flops(aggregator, **shape)
        merged = group_tokens(aggregator, **shape)
        as_images = Images(tiles=clips.tiles, arrangements=merged[:, None], rows=clips.rows)
        flops = flops + adapter_flops(
            adapter,
            seeing=batch.visible_clips.any(dim=-1).sum(),
            features=merged.sum(),
            pairs=seen_pairs(as_images, batch.visible_clips),
            trained=Trained(image_encoder=True, image_adapter=True, extra_embedding=False),
        )
    samples = torch.tensor(len(batch.tokens), device=tokens.device)
    return Work(samples=samples, tokens=tokens, flops=flops)
