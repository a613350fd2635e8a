"""The speech encoder (section 8): our Conformer, or a public encoder in its place.

Each takes recordings by a front end of its own and gives frames at a rate of its own. All have the
same members, by which pre-training, adapter and dialogue know them:

- `feature_dim` of a feature frame, `stack` of mel frames side by side in it, `stride` in feature
  frames of an output frame, `dim` of an output frame, `num_layers`, `frame_seconds` of an output
  frame, `max_seconds` of a recording;
- `features(waveforms, lengths)`, `forward(features)`, `layer_outputs(features)`,
  `num_frames(num_samples)` and `reset_parameters()`;
- `config`, from which :func:`build_encoder` makes the same encoder again.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from speech.conformer import Conformer, ConformerConfig
from speech.features import FeaturesConfig, LogMel
from speech.frames import Frames
from speech.w2v_bert import W2vBertConfig, W2vBertEncoder
from speech.whisper import WhisperEncoder, WhisperEncoderConfig

Count = TypeVar("Count", int, Tensor)


@dataclass(frozen=True, kw_only=True)
class SpeechEncoderConfig:
    """Which speech encoder: exactly one of `conformer`, `whisper` and `w2v_bert`."""

    conformer: ConformerConfig | None = None
    """Our own."""
    features: FeaturesConfig | None = None
    """The Conformer's front end, by default `FeaturesConfig()`; the others have their own."""
    whisper: WhisperEncoderConfig | None = None
    w2v_bert: W2vBertConfig | None = None

    def __post_init__(self) -> None:
        kinds = {name: getattr(self, name) for name in ("conformer", "whisper", "w2v_bert")}
        given = [name for name, config in kinds.items() if config is not None]
        if len(given) != 1:
            raise ValueError(
                f"speech_encoder: give exactly one of {', '.join(kinds)}, "
                f"not {' and '.join(given) or 'none'}"
            )
        if self.conformer is None:
            if self.features is not None:
                raise ValueError(
                    f"speech_encoder: features belong to a conformer; {given[0]} has its own"
                )
            return
        features = self.features or FeaturesConfig()
        object.__setattr__(self, "features", features)
        if self.conformer.input_dim != features.dim:
            raise ValueError(
                f"speech_encoder: conformer.input_dim {self.conformer.input_dim} must be "
                f"{features.dim}, the width of the stacked features"
            )

    @property
    def encoder(self) -> ConformerConfig | WhisperEncoderConfig | W2vBertConfig:
        """The one that is given."""
        given = self.conformer or self.whisper or self.w2v_bert
        assert given is not None
        return given

    @property
    def dim(self) -> int:
        """Width of the output frames."""
        return self.encoder.dim

    @property
    def num_layers(self) -> int:
        """Layers of the encoder."""
        return self.encoder.num_layers


class ConformerEncoder(nn.Module):
    """Recordings of any length to a frame for every 40 ms: log-mel features and a Conformer."""

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        assert config.conformer is not None and config.features is not None
        self.config = config
        self.feature_dim = config.conformer.input_dim
        self.stride = 1
        self.stack = config.features.stack
        self.dim = config.conformer.dim
        self.num_layers = config.conformer.num_layers
        self.frame_seconds = config.features.frame_seconds
        self.max_seconds = float("inf")
        self.log_mel = LogMel(config.features)
        self.conformer = Conformer(config.conformer)

    def reset_parameters(self) -> None:
        """Start from random weights."""
        self.conformer.reset_parameters()

    def num_frames(self, num_samples: Count) -> Count:
        """Output frames of a recording of so many samples."""
        return self.log_mel.num_frames(num_samples)

    @torch.no_grad()
    def features(self, waveforms: Tensor, lengths: Tensor) -> Frames:
        """Stacked log-mel frames of each recording, [recordings, frames, feature_dim], in float32.

        Args:
            waveforms: [recordings, samples] at 16 kHz.
            lengths: real samples of each, [recordings].
        """
        return self.log_mel(waveforms, lengths)

    def forward(self, features: Frames) -> Frames:
        """Frames of each recording, [recordings, frames, dim]."""
        return self.conformer(features)

    def layer_outputs(self, features: Frames) -> list[Frames]:
        """The frames after each layer."""
        return self.conformer.layer_outputs(features)


SpeechEncoder = ConformerEncoder | WhisperEncoder | W2vBertEncoder


def build_encoder(config: SpeechEncoderConfig) -> SpeechEncoder:
    """A new encoder with random weights."""
    if config.conformer is not None:
        return ConformerEncoder(config)
    encoder: WhisperEncoder | W2vBertEncoder
    if config.whisper is not None:
        encoder = WhisperEncoder(config.whisper)
    else:
        assert config.w2v_bert is not None
        encoder = W2vBertEncoder(config.w2v_bert)
    encoder.config = config
    return encoder
