"""BEST-RQ pre-training of a speech encoder on unlabelled recordings (paper section 8.2.1).

The encoder is ours from random weights, or any that a directory holds: its own front end makes
features and codes, so that the pre-training of a public encoder can go on with recordings of one's
own field. Validation recordings with texts, a few minutes, are probed layer by layer
(:mod:`speech.probe`); everything else needs sound alone.

Masks and noise are a pure function of seed, step, micro-batch and rank: a resumed run draws what it
would have drawn.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from torch import Tensor, nn

from language.config_dict import config_to_dict
from language.errors import InputError
from language.flops import Work
from language.next_token import NextTokenTraining
from language.optimization import AdamWConfig, ScheduleConfig
from language.weights import fill
from speech.audio import SAMPLE_RATE
from speech.best_rq import BestRq, BestRqConfig, BestRqOutput
from speech.checkpoint import open_encoder, save_encoder
from speech.code_statistics import CodeStatistics
from speech.encoder import SpeechEncoderConfig, build_encoder
from speech.probe import ProbeConfig, ProbeResult, probe_layers
from speech.recordings import SpeechBatch

TRAINING, VALIDATION = 0, 1
TRAINING_ALONE = {"dropout", "activation_checkpointing", "chunk_size", "left_context"}
"""Keys of an encoder that a run may choose anew: no weight depends on them."""
GUESSES_JUDGED_AFTER = 1000
"""Steps after the warm-up from which on guesses that are all alike are reported."""


class SpeechPretraining(NextTokenTraining):
    """Trains an encoder to guess the codes of masked frames."""

    model: BestRq

    def __init__(
        self,
        *,
        optimizer: AdamWConfig,
        schedule: ScheduleConfig,
        encoder: SpeechEncoderConfig | None = None,
        best_rq: BestRqConfig | None = None,
        start: str | None = None,
        max_seconds: float = 60.0,
        probe: ProbeConfig | None = None,
        codes_every_n_steps: int = 100,
        seed: int = 0,
    ) -> None:
        """Settings of the run.

        Args:
            optimizer: how weights are changed.
            schedule: course of the learning rate.
            encoder: sizes of the encoder; by default those of `start`.
            best_rq: codebooks and masks; by default the paper's.
            start: directory of an encoder to go on from: an exported one, w2v-BERT 2.0 or Whisper;
                fresh weights otherwise.
            max_seconds: longer recordings are cropped at random.
            probe: how layers are probed at validation; not at all by default.
            codes_every_n_steps: steps over which figures of the codebooks are gathered.
            seed: of masks, noise and crops.
        """
        super().__init__(optimizer=optimizer, schedule=schedule)
        if encoder is None and start is None:
            raise ValueError("model: give encoder (its sizes), or start (a directory), or both")
        if max_seconds <= 0 or codes_every_n_steps < 1:
            raise ValueError(
                f"model: max_seconds ({max_seconds}) must be above 0, codes_every_n_steps "
                f"({codes_every_n_steps}) 1 or more"
            )
        self.encoder, self.best_rq, self.start = encoder, best_rq or BestRqConfig(), start
        self.max_seconds, self.seed = max_seconds, seed
        self.probe, self.codes_every_n_steps = probe, codes_every_n_steps
        self.probed: ProbeResult | None = None
        """What the latest probe found, on the first rank."""
        self._statistics: CodeStatistics | None = None
        self._gradient_norms: dict[str, Tensor] = {}
        self._micro_batch = 0
        self._reported_at = 0
        self._next_probe = 0
        self._warned: set[str] = set()
        self._labelled: list[tuple[Tensor, str]] = []

    def configure_model(self) -> None:
        """Build the encoder, with fresh weights or those of `start`.

        Raises:
            InputError: `start` holds no encoder, or one of other sizes.
        """
        if hasattr(self, "model"):
            return
        if self.start is None:
            assert self.encoder is not None
            encoder = build_encoder(self.encoder)
            encoder.reset_parameters()
        else:
            config, stored = open_encoder(self.start)
            wanted = self.encoder or config
            if changed := differences(config, wanted):
                raise InputError(self.start, f"its encoder differs from the config in {changed[0]}")
            encoder = build_encoder(wanted)
            fill(encoder, stored, dtype=torch.float32)
        self.model = BestRq(encoder, self.best_rq).train()

    @property
    def max_samples(self) -> int:
        """Samples of the longest recording that is not cropped."""
        return int(min(self.max_seconds, self.model.encoder.max_seconds) * SAMPLE_RATE)

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> Tensor:
        """Gather the gradient of the summed loss."""
        self._seed(TRAINING, self.global_step, self._micro_batch)
        self._micro_batch += 1
        return super().training_step(batch, batch_idx)

    def loss(self, batch: SpeechBatch) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the codes summed over masked frames, and their number."""
        output = self.output(batch)
        found = output.statistics
        self._statistics = found if self._statistics is None else self._statistics + found
        return output.loss, output.count

    def output(self, batch: SpeechBatch) -> BestRqOutput:
        """The objective on a batch; recordings that are too long are cropped."""
        most = self.max_samples
        if batch.waveforms.shape[1] > most:
            spare = (batch.lengths - most).clamp(min=0)
            draws = torch.rand(len(spare), generator=self._generator, device=spare.device)
            batch = batch.cropped((draws * (spare + 1)).long(), num_samples=most)
        features = self.model.features(batch.waveforms, batch.lengths)
        return self.model(features, generator=self._generator)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gathered gradients by the number of masked frames."""
        super().on_before_optimizer_step(optimizer)
        self._micro_batch = 0
        if (self.global_step + 1) % self.codes_every_n_steps == 0:
            self._gradient_norms = {
                "gradient_norm/encoder": gradient_norm(self.model.encoder),
                "gradient_norm/heads": gradient_norm(self.model.heads),
            }

    def on_train_start(self) -> None:
        """Go on from the step that a resumed run stands at."""
        super().on_train_start()
        self._reported_at = self.global_step

    def on_train_batch_end(self, *_: object) -> None:
        """Report on the codebooks when it is time."""
        step = self.global_step
        if step != self._reported_at and step % self.codes_every_n_steps == 0:
            self._reported_at = step
            self._report()

    def validation_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Measure a batch, under the same masks at every validation; keep what can be probed."""
        self._seed(VALIDATION, batch_idx, 0)
        super().validation_step(batch, batch_idx)
        self._keep_labelled(batch)

    def validation_losses(self, batch: SpeechBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """Loss and accuracy over masked frames."""
        output = self.output(batch)
        hits = output.statistics.hits.float().mean()
        return {"loss": (output.loss, output.count), "accuracy": (hits, output.count)}

    def on_validation_epoch_end(self) -> None:
        """Log the means, and probe the layers if it is time."""
        super().on_validation_epoch_end()
        self._probe_if_due()

    def on_test_epoch_end(self) -> None:
        """The same on test data."""
        super().on_test_epoch_end()
        self._probe_if_due()

    def work(self, batch: SpeechBatch) -> Work:
        """What a batch asks for; tokens are output frames."""
        encoder = self.model.encoder
        frames = encoder.num_frames(batch.lengths.clamp(max=self.max_samples)).double()
        weights = sum(parameter.numel() for parameter in encoder.parameters())
        attention = 4 * encoder.num_layers * encoder.dim * frames.square()
        heads = 2 * self.model.heads.numel() * self.best_rq.mask_share * frames
        return Work(
            samples=torch.tensor(len(batch.lengths), device=frames.device),
            tokens=frames.sum().long(),
            flops=3 * (2 * weights * frames + attention + heads).sum(),
        )

    def export(self, directory: Path) -> None:
        """Write the encoder; codebooks and heads have served their purpose."""
        save_encoder(self.model.encoder, directory)

    def _seed(self, kind: int, index: int, micro_batch: int) -> None:
        """Begin a batch's random numbers: masks, noise, crops, and the encoder's dropout."""
        numbers = (self.seed, kind, index, micro_batch, self.global_rank)
        seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
        self._generator = torch.Generator(self.device).manual_seed(seed)
        if kind == TRAINING:
            torch.manual_seed(seed)

    def _report(self) -> None:
        """Log figures of the codebooks over all ranks and the steps since the last report."""
        assert self._statistics is not None
        sums = self.trainer.strategy.reduce(self._statistics.packed(), reduce_op="sum")
        found = CodeStatistics.unpacked(sums, like=self._statistics)
        self._statistics = None
        codes = {f"codes/{name}": value for name, value in found.metrics().items()}
        self.record({**codes, **self._gradient_norms})
        late = self.global_step >= self.schedule.warmup_steps + GUESSES_JUDGED_AFTER
        fault = found.collapse(share=self.best_rq.collapse_share, judge_guesses=late)
        if fault is not None and (kind := fault.split(":")[0]) not in self._warned:
            self._warned.add(kind)
            rank_zero_warn(f"step {self.global_step:,}: {fault}")

    def _keep_labelled(self, batch: SpeechBatch) -> None:
        if self.probe is None or batch.texts is None or not self.trainer.is_global_zero:
            return
        for waveform, length, text in zip(
            batch.waveforms, batch.lengths.tolist(), batch.texts, strict=True
        ):
            gathered = sum(len(kept) for kept, _ in self._labelled) / SAMPLE_RATE
            if gathered < 60 * self.probe.minutes and length <= self.max_samples:
                self._labelled.append((waveform[:length].cpu(), text))

    def _probe_if_due(self) -> None:
        if self.probe is not None and self.global_step >= self._next_probe:
            self._next_probe = self.global_step + self.probe.every_n_steps
            self._probe(self.probe)
        self._labelled = []

    @rank_zero_only
    def _probe(self, config: ProbeConfig) -> None:
        waveforms, texts = [w for w, _ in self._labelled], [text for _, text in self._labelled]
        try:
            self.probed = probe_layers(self.model.encoder, waveforms, texts, config)
        except ValueError as error:
            if "probe" not in self._warned:
                self._warned.add("probe")
                rank_zero_warn(f"no probe of the layers: {error}")
            return
        self.record({f"probe/{name}": value for name, value in self.probed.metrics().items()})
        print(f"step {self.global_step:,}  {self.probed}", flush=True)


def differences(stored: SpeechEncoderConfig, wanted: SpeechEncoderConfig) -> list[str]:
    """Keys whose values make weights of one config wrong for the other."""
    theirs, ours = _leaves(config_to_dict(stored)), _leaves(config_to_dict(wanted))
    return [
        key
        for key in sorted(set(theirs) | set(ours))
        if key.split(".")[-1] not in TRAINING_ALONE and theirs.get(key) != ours.get(key)
    ]


def _leaves(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        inner = isinstance(value, dict)
        found |= _leaves(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return found


def gradient_norm(part: nn.Module | nn.Parameter) -> Tensor:
    """Norm of the gradient of all that is in a part."""
    parameters = [part] if isinstance(part, nn.Parameter) else list(part.parameters())
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
