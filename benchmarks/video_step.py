"""A training step of the video parts with kept image features against without, and the forward pass
of clips against a loop over frames and groups.

The model is small (about 30 million weights) and random; what a kept feature spares is the image
encoder, so the ratio grows with the encoder's share of the work: at the paper's 8B sizes that is
nearly all of it.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.paired import Ratio, compare
from language.config import LlamaConfig
from multimodal.batch import Batch, Clips
from multimodal.config import ClipsConfig, MultimodalConfig, paper_adapter
from multimodal.data.feature_cache import FeatureCache
from multimodal.model import MultimodalLlama
from video.adapter import paper_video_adapter
from video.aggregator import AggregatorConfig
from vision.adapter import ImageMemory
from vision.encoder import ImageEncoderConfig
from vision.tiles import TilesConfig

TILE, NUM_FRAMES, NUM_TOKENS, VOCABULARY = 112, 16, 48, 1000


def run() -> list[Ratio]:
    """Kept features, then the loop."""
    torch.manual_seed(0)
    model = small_model()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("video_"))
    batch = some_clips(4)
    assert batch.clips is not None
    with torch.no_grad():
        together, looped = watched(model, batch), loop(model, batch.clips, 4)
    for ours, theirs in zip(together.keys, looped.keys, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache.of(folder, model)
        with torch.no_grad():
            cache.keep(batch.clips, model.frame_features(batch.clips))
        results.append(
            compare(
                "video step, kept features read from disk",
                ours=step_of(model, lambda: from_disk(batch, cache)),
                theirs=step_of(model, lambda: batch),
                against="the same step with the encoder",
                target=1.0,
            )
        )
    results.append(
        compare(
            "clips to keys and values",
            ours=without_gradients(lambda: watched(model, batch)),
            theirs=without_gradients(lambda: loop(model, clips_of(batch), 4)),
            against="a loop over frames and groups",
            target=1.0,
        )
    )
    return results


def small_model() -> MultimodalLlama:
    """A core of 8 layers with an image adapter and video layers, as the paper places them."""
    core = LlamaConfig(
        vocab_size=VOCABULARY, dim=256, num_layers=8, num_heads=8, num_kv_heads=4, ffn_dim=768
    )
    encoder = ImageEncoderConfig(
        image_size=TILE,
        patch_size=14,
        dim=384,
        num_layers=10,
        num_global_layers=2,
        num_heads=6,
        ffn_dim=1536,
        intermediate_layers=(3, 6),
        local_attention="tile",
    )
    image_adapter = replace(
        paper_adapter(core, feature_dim=encoder.feature_dim), positions=(2, 4, 6, 8)
    )
    config = MultimodalConfig(
        language=core,
        image_encoder=encoder,
        image_adapter=image_adapter,
        tiles=TilesConfig(tile_size=TILE),
        extra_tokens=8,
        video_aggregator=AggregatorConfig(
            feature_dim=encoder.feature_dim, dim=256, num_layers=2, num_heads=4, ffn_dim=1024
        ),
        video_adapter=paper_video_adapter(image_adapter, feature_dim=256),
        clips=ClipsConfig(num_frames=NUM_FRAMES),
    )
    model = MultimodalLlama(config)
    model.language.reset_parameters()
    model.image_adapter.reset_parameters()
    model.video_adapter.reset_parameters()
    return model


def some_clips(number: int) -> Batch:
    """A batch of rows that show a clip each, of one tile a frame."""
    tokens = torch.randint(3, VOCABULARY, (number, NUM_TOKENS))
    tokens[:, 0] = VOCABULARY
    return Batch(
        tokens=tokens,
        lengths=torch.full((number,), NUM_TOKENS),
        clips=Clips(
            tiles=torch.randn(number * NUM_FRAMES, 3, TILE, TILE),
            arrangements=torch.ones(number, 2, dtype=torch.long),
            lengths=torch.full((number,), NUM_FRAMES),
            rows=torch.arange(number),
            keys=[f"{index:064x}" for index in range(number)],
            times=[tuple(map(float, range(NUM_FRAMES)))] * number,
        ),
        visible_clips=torch.ones(number, NUM_TOKENS, 1, dtype=torch.bool),
    )


def clips_of(batch: Batch) -> Clips:
    """The clips, which are there."""
    assert batch.clips is not None
    return batch.clips


def from_disk(batch: Batch, cache: FeatureCache) -> Batch:
    """The batch with its clips' features as they were kept."""
    clips = clips_of(batch)
    found = [cache.find(key) for key in clips.keys]
    features = torch.cat([each.features for each in found if each and each.features is not None])
    known = torch.ones(len(found), dtype=torch.bool)
    clips = replace(clips, tiles=clips.tiles[:0], features=features, known=known)
    return replace(batch, clips=clips)


def step_of(model: MultimodalLlama, next_batch: Callable[[], Batch]) -> Callable[[], None]:
    """Forward, backward and update of the video parts."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)

    def step() -> None:
        batch = next_batch()
        logits = model(batch)[:, :-1].flatten(0, 1)
        nn.functional.cross_entropy(logits, batch.tokens[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def without_gradients(run: Callable[[], object]) -> Callable[[], None]:
    """As in use."""

    def watched() -> None:
        with torch.inference_mode():
            run()

    return watched


def watched(model: MultimodalLlama, batch: Batch) -> ImageMemory:
    """Keys and values of all clips at once."""
    return model.remember(batch, model.sense(batch))["clips"]


def loop(model: MultimodalLlama, clips: Clips, batch_size: int) -> ImageMemory:
    """Keys and values of clips, a frame and a clip at a time."""
    memory_of: list[Tensor] = []
    owners: list[int] = []
    first = 0
    for clip, length in enumerate(clips.lengths.tolist()):
        frames = [
            model.image_encoder(clips.tiles[[first + i]], torch.ones(1, 2, dtype=torch.long))
            for i in range(length)
        ]
        one = torch.ones(1, dtype=torch.long)
        merged = model.video_aggregator(torch.cat(frames), lengths=one * length, tiles=one)
        memory_of.append(merged)
        owners += [clip] * len(merged)
        first += length
    return model.video_adapter.remember(
        torch.cat(memory_of),
        images=torch.tensor(owners),
        rows=clips.rows,
        batch_size=batch_size,
    )
