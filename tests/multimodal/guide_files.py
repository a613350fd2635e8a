"""What a reader of a how-to page has and a clean clone has not: models and data of their own.

The models are random and small, in the layouts in which large ones are published.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from language.checkpoint import save_llama
from language.config import LlamaConfig
from language.model import Llama
from language.tokenizer import Tokenizer, train_bpe

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "multimodal" / "_tiny" / "samples"
ON_CPU = (
    "--trainer.accelerator=cpu",
    "--trainer.precision=32-true",
    "--data.init_args.num_workers=0",
)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    prepare: Callable[[], None]
    """Makes it in the working directory."""
    words: tuple[str, ...] = ()
    """What is said more of a training where the test has another machine than the reader."""


def tokenizer() -> Tokenizer:
    texts = ["user assistant system\n\nWhat colour is the cup? Describe the picture."] * 3
    return train_bpe(texts, num_merged=40)


def my_core() -> None:
    """A Llama as Hugging Face publishes it."""
    words = tokenizer()
    Path("models/tokenizer").mkdir(parents=True)
    sizes = {"dim": 64, "num_layers": 8, "num_heads": 4, "num_kv_heads": 2, "ffn_dim": 96}
    torch.manual_seed(0)
    core = Llama(LlamaConfig(vocab_size=words.vocab_size, max_positions=512, **sizes))
    core.reset_parameters()
    words.save(Path("models/tokenizer"))
    save_llama(core, Path("models/my-llama"), companions=Path("models/tokenizer"))


def my_pictures() -> None:
    shutil.copytree(SAMPLES, "my-pictures", ignore=shutil.ignore_patterns("clips", "recordings"))
    Path("my-pictures/scenes.json").rename("my-pictures/captions.json")


def my_speech() -> None:
    """w2v-BERT 2.0 as Hugging Face has it, and recordings."""
    from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

    config = Wav2Vec2BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        output_hidden_size=32, vocab_size=20, conv_depthwise_kernel_size=7,
    )  # fmt: skip
    Wav2Vec2BertModel(config).save_pretrained("models/w2v-bert-2.0")
    shutil.copytree(SAMPLES / "recordings", "field")


def released() -> None:
    """Llama 3.2 Vision as Hugging Face publishes it."""
    from transformers import MllamaConfig, MllamaForConditionalGeneration

    words = tokenizer()
    text = {
        "vocab_size": words.vocab_size, "hidden_size": 64, "num_hidden_layers": 6,
        "cross_attention_layers": [1, 4], "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 96, "max_position_embeddings": 512, "pad_token_id": words.pad_id,
        "rope_theta": 500_000.0,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "num_hidden_layers": 3, "num_global_layers": 2, "attention_heads": 2,
        "intermediate_size": 48, "vision_output_dim": 96, "image_size": 28, "patch_size": 14,
        "intermediate_layers_indices": [0, 1],
    }  # fmt: skip
    config = MllamaConfig(
        text_config=text, vision_config=vision, image_token_index=words.vocab_size
    )
    directory = Path("models/Llama-3.2-11B-Vision-Instruct")
    MllamaForConditionalGeneration(config).save_pretrained(directory)
    words.save(directory)


PREPARED = {
    "own-core.md": Preparation(prepare=my_core),
    "own-data.md": Preparation(prepare=my_pictures),
    "pretrain-a-speech-encoder.md": Preparation(
        prepare=my_speech, words=(*ON_CPU, "--model.init_args.probe.num_steps=2")
    ),
    "fine-tune-llama-3.2-vision.md": Preparation(
        prepare=released,
        words=(
            *ON_CPU,
            "--model.init_args.parts.sizes=",
            "--model.init_args.parts.core_dtype=float32",
        ),
    ),
}
"""By the name of the page."""
