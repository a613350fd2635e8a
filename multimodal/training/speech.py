"""Training of the speech encoder and adapter beside a frozen core (paper section 8.2).

Recognition, translation and spoken dialogue are one next-token loss on the answer; which of them a
sample teaches is the data's to say (`multimodal.data.speech`). Core and image parts are frozen
(`multimodal.training.frozen_core`).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from language.draft import Draft
from language.flops import Work, causal_pairs, core_flops, document_lengths
from language.next_token import IGNORED
from language.optimization import AdamWConfig, ScheduleConfig
from multimodal.adapter_checkpoint import SPEECH_PARTS
from multimodal.batch import Batch, Recordings
from multimodal.config import MultimodalConfig
from multimodal.model import MultimodalLlama
from multimodal.training.announce import announce
from multimodal.training.flops import hearing_flops
from multimodal.training.frozen_core import FrozenCoreTraining
from multimodal.training.speech_parts import SpeechParts, draft_speech, speech_config_of
from speech.augmentation import AugmentationConfig, mask_features
from speech.frames import Frames

HEARS = 0.05
"""Share by which exchanged recordings must raise the loss of a model that listens."""


class SpeechTraining(FrozenCoreTraining):
    """Trains speech parts so that the frozen core says what it hears."""

    exported = SPEECH_PARTS

    def __init__(
        self,
        *,
        parts: SpeechParts,
        optimizer: AdamWConfig,
        schedule: ScheduleConfig,
        train: Sequence[str] = ("speech_encoder.*", "speech_adapter.*"),
        augmentation: AugmentationConfig | None = None,
        tokenizer: str = "",
        max_tokens: int = 0,
        compare_recordings: bool = True,
        export_whole: bool = False,
        compile: bool = False,
    ) -> None:
        """Settings of the run.

        Args:
            parts: where the model comes from.
            optimizer: AdamW.
            schedule: course of the learning rate.
            train: shell-style patterns of the names of what trains, none of the core's.
            augmentation: masks of features, drawn anew at each step; None changes nothing.
            tokenizer: directory of the tokenizer; by default the core's.
            max_tokens: longest row in tokens; 0 is the core's context. Longer samples are dropped.
            compare_recordings: validate also with recordings exchanged, and warn where the model
                does as well with them: it then says fluent things that it has not heard.
            export_whole: export the core, too, as a directory that needs nothing else.
            compile: whether the core's blocks are compiled by torch.compile.
        """
        super().__init__(
            optimizer=optimizer,
            schedule=schedule,
            core=parts.core,
            train=train,
            tokenizer=tokenizer,
            max_tokens=max_tokens,
            export_whole=export_whole,
            compile=compile,
        )
        self.parts, self.augmentation = parts, augmentation
        self.compare_recordings = compare_recordings
        self._num_changed = 0

    def planned_config(self) -> MultimodalConfig:
        """The model that will be built."""
        return speech_config_of(self.parts)

    def draft_model(self) -> Draft[MultimodalLlama]:
        """Put the model together."""
        return draft_speech(self.parts)

    def medium(self, batch: Batch) -> Recordings | None:
        """The recordings of a batch."""
        return batch.recordings

    def change(self, features: Frames) -> Frames:
        """Features as training wants them; what is masked depends on step and data rank alone."""
        if self.augmentation is None or not torch.is_grad_enabled():
            return features
        place = self.global_step, self._num_changed, self.data_rank
        self._num_changed += 1
        generator = torch.Generator(features.values.device).manual_seed(hash(place) % 2**63)
        stack = self.model.speech_encoder.stack
        return mask_features(features, self.augmentation, stack=stack, generator=generator)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Count micro-batches from 0 again."""
        super().on_before_optimizer_step(optimizer)
        self._num_changed = 0

    def validation_losses(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Losses with the true recordings, and, of batches with several, with others instead."""
        total, count = self.loss(batch)
        losses = {"loss": (total, count)}
        if self.compare_recordings:  # the same names on every rank, whatever its batch holds
            heard = batch.recordings
            several = heard is not None and len(heard.rows) > 1
            others = None if heard is None else exchanged_recordings(heard)
            exchanged = replace(batch, recordings=others)
            losses["loss_shuffled"] = self.compared_loss(exchanged, counts=several)
            losses["loss_unshuffled"] = (total * several, count * several)  # of the same batches
        return losses

    def on_validation_epoch_end(self) -> None:
        """Log the losses, and warn where the sound makes no difference."""
        super().on_validation_epoch_end()
        metrics = self.trainer.callback_metrics
        if "val/loss_shuffled" in metrics and self.trainer.state.fn == "fit":
            true, shuffled = (
                float(metrics[f"val/loss_{name}"]) for name in ("unshuffled", "shuffled")
            )
            if true == shuffled == 0:
                return  # no batch had recordings to exchange
            self.record({"val/heard": shuffled / max(true, 1e-9) - 1})
            if shuffled < (1 + HEARS) * true:
                announce(
                    f"step {self.global_step:,}: the sound is not heard yet: the loss is "
                    f"{true:.4f}, and {shuffled:.4f} with recordings exchanged"
                )

    def work(self, batch: Batch) -> Work:
        """What a batch asks for."""
        assert batch.targets is not None, "a batch to train on has targets"
        config, tokens = self.model.config, batch.lengths.sum()
        heard = batch.recordings
        flops = core_flops(
            config.language,
            tokens=tokens,
            pairs=causal_pairs(document_lengths(batch.documents, batch.lengths)),
            logits=(batch.targets != IGNORED).sum(),
            trained=False,
            first_block=0 if heard is not None else config.language.num_layers,
        )
        if heard is not None:
            trained = {name.split(".")[0] for name, _ in self.trainable()}
            flops = flops + hearing_flops(self.model, heard, trained=trained)
        samples = torch.tensor(len(batch.tokens), device=tokens.device)
        return Work(samples=samples, tokens=tokens, flops=flops)


def exchanged_recordings(recordings: Recordings) -> Recordings:
    """Other recordings of the batch in each one's place, cut or filled with silence to its length.

    Each takes the next one's, so that the places in the rows stay right.
    """
    waveforms = recordings.waveforms.roll(-1, dims=0)
    positions = torch.arange(waveforms.shape[1], device=waveforms.device)
    return replace(
        recordings,
        waveforms=waveforms.masked_fill(positions >= recordings.lengths[:, None], 0),
    )
