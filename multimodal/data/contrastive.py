"""Pictures with right and wrong captions, for the contrastive stage (paper section 7.2).

A captioned sample may bring captions that are nearly right under the key ``"negatives"``; the
encoder's training tells them apart from the caption (NegCLIP, arXiv 2210.01936).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from language.errors import InputError
from language.tokenizer import Tokenizer
from multimodal.data.samples import Extent, Sample, caption
from multimodal.data.tasks import only_picture, tiles_cost
from multimodal.processor import TooLongError
from vision.contrastive import CaptionedPictures
from vision.pictures import open_picture
from vision.tiles import Tiles, TilesConfig, tile_picture


@dataclass(frozen=True, kw_only=True)
class CaptionedPicture:
    """One picture and its captions."""

    picture: Tiles
    captions: list[list[int]]
    """Tokens of the caption, then of the wrong ones."""


class ContrastiveTask:
    """Pictures beside captions."""

    def __init__(
        self, *, tokenizer: Tokenizer, tiles: TilesConfig, num_negatives: int, max_tokens: int
    ) -> None:
        """Encode captions of at most ``max_tokens``, and the first ``num_negatives`` wrong ones."""
        self.tokenizer, self.tiles = tokenizer, tiles
        self.num_negatives, self.max_tokens = num_negatives, max_tokens

    def cost(self, extent: Extent) -> float:
        """Tiles first, and among as many tiles the length of the text."""
        return tiles_cost(extent, self.tiles)

    def encode(self, sample: Sample) -> CaptionedPicture:
        """A row.

        Raises:
            InputError: the sample is unusable.
            TooLongError: a caption has more tokens than allowed.
        """
        text = caption(sample)
        if text is None:
            raise InputError(sample.name, "dialogues, where contrastive training wants a caption")
        wrong = sample.record.get("negatives", [])
        if not isinstance(wrong, list) or not all(isinstance(w, str) for w in wrong):
            raise InputError(sample.name, "negatives must be a list of captions")
        try:
            picture = tile_picture(open_picture(only_picture(sample)), self.tiles)
        except InputError as error:
            raise InputError(sample.name, error.fault) from None
        texts = [text, *wrong[: self.num_negatives]]
        return CaptionedPicture(
            picture=picture, captions=[self._tokens(text, name=sample.name) for text in texts]
        )

    def collate(self, rows: Sequence[CaptionedPicture]) -> CaptionedPictures:
        """A batch."""
        return CaptionedPictures.of(
            [row.picture for row in rows],
            [row.captions for row in rows],
            num_negatives=self.num_negatives,
        )

    def without_loss(self, row: CaptionedPicture) -> CaptionedPicture:
        """The row itself: every picture of a batch takes part in the loss."""
        return row

    def _tokens(self, text: str, *, name: str) -> list[int]:
        end = self.tokenizer.special_tokens["<|end_of_text|>"]
        tokens = [self.tokenizer.bos_id, *self.tokenizer.encode(text), end]
        if len(tokens) > self.max_tokens:
            raise TooLongError(name, f"{len(tokens):,} tokens, at most {self.max_tokens:,} fit")
        return tokens
