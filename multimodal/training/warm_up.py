"""A start for speech parts on few recordings: CTC through the core's own frozen embeddings.

From random weights the adapter's output means nothing to the core, which then learns to say fluent
things without listening. Here the core's last norm and head read the adapter's output directly, as
if it were a hidden state, and CTC (Graves et al. 2006) asks for the transcript; a reserved token is
the blank. That puts each word's sound near the word's own embedding, without a weight that is
thrown away. Not in the paper, whose encoder has heard 15 million hours.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from language.errors import InputError
from language.next_token import IGNORED
from language.optimization import AdamWConfig, ScheduleConfig
from multimodal.batch import Batch, Recordings
from multimodal.training.speech import SpeechTraining
from multimodal.training.speech_parts import SpeechParts
from speech.augmentation import AugmentationConfig
from speech.probe import edit_distance

BLANK = "<|reserved_special_token_0|>"


class SpeechWarmUp(SpeechTraining):
    """Trains speech parts by CTC on the tokens of transcripts."""

    def __init__(
        self,
        *,
        parts: SpeechParts,
        optimizer: AdamWConfig,
        schedule: ScheduleConfig,
        train: Sequence[str] = ("speech_encoder.*", "speech_adapter.*"),
        augmentation: AugmentationConfig | None = None,
        blank: str = BLANK,
        tokenizer: str = "",
        max_tokens: int = 0,
        compare_recordings: bool = True,
        export_whole: bool = False,
    ) -> None:
        """Settings of the run; the data gives transcriptions alone (`tasks.transcribe`).

        Args:
            parts: where the model comes from.
            optimizer: AdamW.
            schedule: course of the learning rate.
            train: patterns of the names of what trains.
            augmentation: masks of features, drawn anew at each step.
            blank: special token that stands for no new word.
            tokenizer: directory of the tokenizer; by default the core's.
            max_tokens: longest row in tokens; 0 is the core's context.
            compare_recordings: validate also with recordings exchanged.
            export_whole: export the core, too.
        """
        super().__init__(
            parts=parts,
            optimizer=optimizer,
            schedule=schedule,
            train=train,
            augmentation=augmentation,
            tokenizer=tokenizer,
            max_tokens=max_tokens,
            compare_recordings=compare_recordings,
            export_whole=export_whole,
        )
        self.blank = blank

    @property
    def blank_id(self) -> int:
        """Id of the blank.

        Raises:
            InputError: the tokenizer has no such token.
        """
        special = self.processor.tokenizer.special_tokens
        if self.blank not in special:
            raise InputError("model.blank", f"the tokenizer has no special token {self.blank}")
        return special[self.blank]

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """CTC loss summed over the transcripts' tokens, and their number.

        A recording in which nothing is said counts as one token. Rows without targets, and
        transcripts of more tokens than their recording has embeddings, carry no loss. Takes memory
        for the scores of all embeddings: recordings x embeddings x vocabulary numbers.
        """
        assert batch.targets is not None, "a batch to train on has targets"
        if batch.recordings is None:
            nothing = torch.zeros((), device=batch.targets.device)
            return self.with_all_gradients(nothing, batch), nothing.long()
        scores, frames = self._scores(batch.recordings)
        is_said = self._is_said(batch)
        said, lengths = batch.targets[is_said], is_said.sum(dim=1)
        losses = F.ctc_loss(
            scores.transpose(0, 1),
            said,
            frames,
            lengths,
            blank=self.blank_id,
            reduction="none",
            zero_infinity=True,
        )
        learns = (batch.targets != IGNORED).any(dim=1) & (losses != 0)
        return losses[learns].sum(), lengths[learns].clamp(min=1).sum()

    def validation_losses(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """The losses, and tokens put in, left out or replaced by the greedy reading."""
        losses = super().validation_losses(batch)
        _, count = losses["loss"]
        errors = torch.zeros_like(count)
        if batch.recordings is not None:
            assert batch.targets is not None, "validation has targets"
            scores, frames = self._scores(batch.recordings)
            wanted = [
                row[said] for row, said in zip(batch.targets, self._is_said(batch), strict=True)
            ]
            learns = (batch.targets != IGNORED).any(dim=1).tolist()
            rows = zip(scores.argmax(-1), frames.tolist(), wanted, learns, strict=True)
            for row, length, said, is_learned in rows:
                if not is_learned:
                    continue
                read = row[:length].unique_consecutive()
                errors += edit_distance(read[read != self.blank_id].tolist(), said.tolist())
        return {**losses, "token_errors": (errors, count)}

    def _scores(self, recordings: Recordings) -> tuple[Tensor, Tensor]:
        """Log-probabilities of tokens, [recordings, embeddings, vocabulary], and real lengths."""
        core = self.model.language
        frames = self.model.speech_frames(recordings, change=self.change)
        values = frames.values.to(core.embedding.weight.dtype)
        return core.logits(values).float().log_softmax(dim=-1), frames.lengths

    def _is_said(self, batch: Batch) -> Tensor:
        """Which targets are the transcript's, [batch, tokens]; each row has one recording."""
        assert batch.targets is not None and batch.recordings is not None
        if len(batch.recordings.rows) != len(batch.targets):
            raise InputError("data.train", "the warm-up takes one recording a row")
        stop = torch.tensor(self.processor.tokenizer.stop_ids, device=batch.targets.device)
        return (batch.targets != IGNORED) & ~torch.isin(batch.targets, stop)
