"""Forward and backward of a Conformer on CPU, against torchaudio's and transformers'.

Equal shapes on all sides: width, layers, heads, feed-forward, kernel, batch. Lengths are those of a
corpus: the others compute their padding, ours packs the frames and has none. The rows with equal
lengths show what remains where nothing is padded. torchaudio's attention has no positions at all;
transformers' is the rotary one of w2v-BERT through its fastest attention. Loss and gradients count
real frames alone, inputs need no gradient.
"""

from collections.abc import Callable

import torch
import torchaudio
import transformers
from torch import Tensor, nn
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertEncoder

from benchmarks.paired import Ratio, compare
from speech.conformer import Conformer, ConformerConfig
from speech.frames import Frames

DIM, NUM_LAYERS, NUM_HEADS, FFN_DIM, KERNEL_SIZE = 512, 4, 8, 2048, 7
FRAME_SECONDS = 0.04
CORPUS = (4.0, 5.5, 7.0, 9.0, 11.0, 13.0, 14.5, 16.0)
"""Seconds of each utterance: 31 % of the padded batch is padding."""
EQUAL = (10.0,) * 8
TARGET = 1.3


def run() -> list[Ratio]:
    """Lengths as in a corpus, then equal ones, against each of the others."""
    torch.manual_seed(0)
    ours = Conformer(
        ConformerConfig(
            input_dim=DIM,
            dim=DIM,
            num_layers=NUM_LAYERS,
            num_heads=NUM_HEADS,
            ffn_dim=FFN_DIM,
            kernel_size=KERNEL_SIZE,
        )
    )
    ours.projection = nn.Identity()  # the others have none
    their_torchaudio = torchaudio.models.Conformer(
        input_dim=DIM,
        num_heads=NUM_HEADS,
        ffn_dim=FFN_DIM,
        num_layers=NUM_LAYERS,
        depthwise_conv_kernel_size=KERNEL_SIZE,
    )
    their_transformers = Wav2Vec2BertEncoder(
        transformers.Wav2Vec2BertConfig(
            hidden_size=DIM,
            num_hidden_layers=NUM_LAYERS,
            num_attention_heads=NUM_HEADS,
            intermediate_size=FFN_DIM,
            conv_depthwise_kernel_size=KERNEL_SIZE,
            position_embeddings_type="rotary",
            attn_implementation="sdpa",
            layerdrop=0.0,
            **dict.fromkeys(DROPOUTS, 0.0),
        )
    )
    results = []
    for lengths_are, seconds in (("of a corpus", CORPUS), ("equal", EQUAL)):
        lengths = torch.tensor([round(second / FRAME_SECONDS) for second in seconds])
        frames = Frames(values=torch.randn(len(seconds), int(lengths.max()), DIM), lengths=lengths)
        mask = None if seconds == EQUAL else frames.mask.long()
        runs = {
            f"torchaudio {torchaudio.__version__} Conformer": step(
                their_torchaudio, frames, lambda f: their_torchaudio(f.values, f.lengths)[0]
            ),
            f"transformers {transformers.__version__} Wav2Vec2Bert": step(
                their_transformers,
                frames,
                lambda f, mask=mask: (
                    their_transformers(f.values, attention_mask=mask).last_hidden_state
                ),
            ),
        }
        results += [
            compare(
                f"Conformer, forward and backward, lengths {lengths_are}",
                ours=step(ours, frames, lambda f: ours(f).values),
                theirs=theirs,
                against=against,
                target=TARGET if seconds == CORPUS else 1.0,
                pairs=3,
            )
            for against, theirs in runs.items()
        ]
    return results


DROPOUTS = ("hidden_dropout", "attention_dropout", "activation_dropout", "conformer_conv_dropout")


def step(
    model: nn.Module, frames: Frames, encode: Callable[[Frames], Tensor]
) -> Callable[[], None]:
    """Forward, a mean over real frames, backward."""
    model.train()
    mask = frames.mask[:, :, None]
    weights = torch.randn(DIM)

    def run_once() -> None:
        loss = (encode(frames) * mask @ weights).sum()
        loss.backward()
        model.zero_grad()

    return run_once
