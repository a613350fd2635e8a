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
from multimodal.batch import Batch
from multimodal.training.speech import SpeechTraining
from multimodal.training.speech_parts import SpeechParts
from speech.augmentation import AugmentationConfig

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

        A transcript of more tokens than its recording has embeddings carries no loss.
        """
        recordings, targets = batch.recordings, batch.targets
        assert targets is not None, "a batch to train on has targets"
        if recordings is None:
            nothing = self.with_all_gradients(torch.zeros((), device=targets.device), batch)
            return nothing, torch.zeros((), dtype=torch.int64, device=targets.device)
        if len(recordings.rows) != len(targets):
            raise InputError("data.train", "the warm-up takes one recording a row")
        model, encoder = self.model, self.model.speech_encoder
        features = self.change(encoder.features(recordings.waveforms, recordings.lengths))
        frames = model.speech_adapter(encoder(features))
        scores = model.language.logits(frames.values).float().log_softmax(dim=-1)
        stop = torch.tensor(self.processor.tokenizer.stop_ids, device=targets.device)
        is_said = (targets != IGNORED) & ~torch.isin(targets, stop)
        lengths = is_said.sum(dim=1)
        said = targets[is_said]
        losses = F.ctc_loss(
            scores.transpose(0, 1),
            said,
            frames.lengths,
            lengths,
            blank=self.blank_id,
            reduction="none",
            zero_infinity=True,
        )
        return losses.sum(), lengths.sum()
