"""Contrastive pre-training of the image encoder on pictures and captions (paper section 7.2)."""

from pathlib import Path

import torch
from torch import Tensor
from torch.distributed import all_gather_object

from language.errors import InputError
from language.flops import Work, causal_pairs, core_flops
from language.optimization import AdamWConfig, ScheduleConfig
from language.training import Training
from language.weights import fill
from vision.checkpoint import differences, open_encoder, save_encoder
from vision.contrastive import CaptionedPictures, ContrastiveConfig, ContrastiveModel, Embedded
from vision.encoder import ImageEncoder, ImageEncoderConfig
from vision.flops import encoder_flops
from vision.tiles import TilesConfig


class ContrastivePretraining(Training):
    """Trains an image encoder to tell which caption belongs to which picture."""

    model: ContrastiveModel

    def __init__(
        self,
        *,
        image_encoder: ImageEncoderConfig,
        tiles: TilesConfig,
        contrastive: ContrastiveConfig,
        optimizer: AdamWConfig,
        schedule: ScheduleConfig,
        start: str | None = None,
        compile: bool = False,
    ) -> None:
        """Settings of the run.

        Args:
            image_encoder: sizes of the encoder.
            tiles: how pictures are cut; written beside the encoder.
            contrastive: text tower and loss.
            optimizer: AdamW.
            schedule: course of the learning rate.
            start: directory of the image encoder to go on from; fresh weights otherwise.
            compile: whether the blocks of both towers are compiled by torch.compile.
        """
        super().__init__(optimizer=optimizer, schedule=schedule)
        if tiles.tile_size != image_encoder.image_size:
            raise ValueError(
                f"tiles.tile_size ({tiles.tile_size}) must equal image_encoder.image_size "
                f"({image_encoder.image_size})"
            )
        self.image_encoder, self.tiles, self.contrastive = image_encoder, tiles, contrastive
        self.start, self.compile_blocks = start, compile
        self._losses: list[Tensor] = []
        self._validated: list[tuple[Embedded, Tensor]] = []

    def configure_model(self) -> None:
        """Build both towers, the encoder with fresh weights or those of `start`.

        Raises:
            InputError: `start` has other sizes.
        """
        if hasattr(self, "model"):
            return
        encoder = ImageEncoder(self.image_encoder)
        if self.start is not None:
            started, _, stored = open_encoder(Path(self.start))
            if changed := differences(started, self.image_encoder):
                raise InputError(self.start, f"its encoder differs from the config in {changed[0]}")
            fill(encoder, stored, dtype=torch.float32)
        model = ContrastiveModel(encoder, config=self.contrastive)
        if self.compile_blocks:
            encoder.compile_blocks()
            for block in model.text_tower.blocks:
                block.compile()
        self.model = model.train()

    def loss(self, embedded: Embedded) -> Tensor:
        """Mean loss of this rank's pictures."""
        trainer = self.trainer
        return self.model.loss(embedded, rank=trainer.global_rank, world_size=trainer.world_size)

    def training_step(self, batch: CaptionedPictures, batch_idx: int) -> Tensor:
        """One batch's loss."""
        loss = self.loss(self.model(batch))
        self._losses.append(loss.detach())
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note the mean loss over micro-batches and ranks."""
        mean = torch.stack(self._losses).mean()
        self.step_loss = self.trainer.strategy.reduce(mean, reduce_op="mean")
        self._losses.clear()

    def on_train_batch_end(self, *_: object) -> None:
        """Keep the scale of the logits within its bound."""
        self.model.clamp_scale()

    def validation_step(self, batch: CaptionedPictures, batch_idx: int) -> None:
        """Keep a batch's embeddings for the end.

        Its loss is among its own pictures alone: ranks may have unequal batches.
        """
        embedded = self.model(batch)
        loss = self.model.loss(embedded, rank=0, world_size=1)
        self._validated.append((embedded, loss))

    def test_step(self, batch: CaptionedPictures, batch_idx: int) -> None:
        """The same on test data."""
        self.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log loss and zero-shot retrieval as `val/...`."""
        self._log_retrieval("val")

    def on_test_epoch_end(self) -> None:
        """Log loss and zero-shot retrieval as `test/...`."""
        self._log_retrieval("test")

    def _log_retrieval(self, stage: str) -> None:
        images, texts, keys = (
            self._of_all_ranks([getattr(embedded, name) for embedded, _ in self._validated])
            for name in ("images", "texts", "keys")
        )
        losses = self._of_all_ranks([loss.reshape(1) for _, loss in self._validated])
        self._validated.clear()
        metrics = {"loss": losses.mean()} | retrieval(
            Embedded(images=images, texts=texts, keys=keys)
        )
        for name, value in metrics.items():
            self.log(f"{stage}/{name}", value, logger=False)
        self.record({f"{stage}/{name}": value for name, value in metrics.items()})

    def _of_all_ranks(self, parts: list[Tensor]) -> Tensor:
        """Rows of all batches and ranks, which may have unequally many."""
        mine = torch.cat(parts)
        if self.trainer.world_size == 1:
            return mine
        gathered: list[Tensor] = [mine] * self.trainer.world_size
        all_gather_object(gathered, mine.cpu())
        return torch.cat(gathered).to(self.device)

    def work(self, batch: CaptionedPictures) -> Work:
        """What a batch asks for."""
        tokens = batch.lengths.sum()
        text = core_flops(
            self.contrastive.text,
            tokens=tokens,
            pairs=causal_pairs(batch.lengths),
            logits=torch.zeros_like(tokens),
            trained=True,
        )
        return Work(
            samples=torch.tensor(len(batch.arrangements), device=tokens.device),
            tokens=tokens,
            flops=text + encoder_flops(self.image_encoder, batch.arrangements, trained=True),
        )

    def export(self, directory: Path) -> None:
        """Write the image encoder; the text tower has served its purpose."""
        save_encoder(self.model.image_encoder, directory, tiles=self.tiles)


def retrieval(embedded: Embedded, *, chunk: int = 1024) -> dict[str, Tensor]:
    """How often the nearest of all captions or pictures is right (R@1), and of hard negatives.

    Pictures with equal captions are right for one another.

    Args:
        embedded: all pictures that are told apart.
        chunk: pictures whose similarities are held at a time.

    Returns:
        `image_to_text`, `text_to_image`, and where there are hard negatives `own_over_negatives`:
        the share of pictures whose own caption beats all of its negatives.
    """
    images, texts, keys = embedded.images, embedded.texts[:, 0], embedded.keys[:, 0]
    found = {}
    for name, queries, others in (
        ("image_to_text", images, texts),
        ("text_to_image", texts, images),
    ):
        nearest = torch.cat([(part @ others.T).argmax(dim=1) for part in queries.split(chunk)])
        found[name] = (keys[nearest] == keys).float().mean()
    if embedded.texts.shape[1] > 1:
        similarity = torch.einsum("ie,ice->ic", images, embedded.texts)
        similarity = similarity.masked_fill(embedded.keys == 0, -torch.inf)
        found["own_over_negatives"] = (similarity.argmax(dim=1) == 0).float().mean()
    return found
