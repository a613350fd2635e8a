"""Training a prosody model: it learns, by embeddings what no phone says, and the core stays."""

import math
import random

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from language.checkpoint import load_llama, save_llama
from language.config import LlamaConfig
from language.errors import InputError
from language.model import Llama
from language.optimization import AdamWConfig, ScheduleConfig
from language.tokenizer import train_bpe
from speech.prosody.checkpoint import load_prosody, save_prosody
from speech.prosody.corpus import MeasuredText, words_in
from speech.prosody.phones import FileLexicon
from speech.prosody.training import ProsodyBatch, ProsodyRow, ProsodyTraining, encode, phone_loss

pytestmark = pytest.mark.filterwarnings("ignore")
LEXICON = FileLexicon(["dog d ˈɔ ɡ", "hound d ˈɔ ɡ", "the ð ə", "and a n d"])
"""Two words that sound alike: only the core tells them apart."""


@pytest.fixture(scope="session")
def core(tmp_path_factory):
    folder = tmp_path_factory.mktemp("core")
    tokenizer = train_bpe(["the dog and the hound"] * 30, num_merged=20)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        dim=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        ffn_dim=48,
        rope_theta=10000.0,
        max_positions=128,
    )
    torch.manual_seed(0)
    model = Llama(config)
    model.reset_parameters()
    tokenizer.save(folder)
    save_llama(model, folder / "core", companions=folder)
    return folder / "core"


def sample(rng):
    """A text whose hounds are said long and high, and whose dogs short and low."""
    text = f"the {rng.choice(('dog', 'hound'))} and the {rng.choice(('dog', 'hound'))}"
    words = words_in(text)
    phones = LEXICON.phones(words)
    measures = []
    for phone in phones:
        size = 0.5 if words[phone.word].text == "hound" else -0.5
        pitch = math.nan if phone.symbol in "dɡ" else 4.8 + size / 2
        measures.append((-2.5 + size, pitch, -6.0 + size))
    return MeasuredText("made", text, words, tuple(phones), tuple(measures))


def new_training(core=None, **changes):
    return ProsodyTraining(
        optimizer=AdamWConfig(learning_rate=5e-3),
        schedule=ScheduleConfig(shape="constant"),
        core=None if core is None else str(core),
        core_layer=2,
        means=(-2.5, 4.8, -6.0),
        spreads=(0.5, 0.25, 0.5),
        **{
            "dim": 24,
            "num_heads": 6,
            "num_layers": 1,
            "ffn_dim": 32,
            "look_ahead": 2,
            "dropout": 0.0,
            **changes,
        },
    )


def batches(number, size=8):
    rng = random.Random(0)
    rows = [
        [ProsodyRow.of(sample(rng), max_phones=500) for _ in range(size)] for _ in range(number)
    ]
    return DataLoader([ProsodyBatch.of(each) for each in rows], batch_size=None)


def fit(training, folder, steps):
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        gradient_clip_val=1.0,
    )
    torch.manual_seed(0)
    trainer.fit(training, batches(steps))
    return training


def error(training):
    """Mean absolute error of log durations."""
    training.model.eval()
    (batch,) = batches(1, size=40)
    with torch.no_grad():
        total, count = training.validation_losses(batch)["duration"]
    return float(total / count)


def test_embeddings_tell_what_phones_do_not(core, tmp_path):
    """Blind to which word it is, nothing is nearer than the middle, 0.5 away, at a word's begin."""
    before = {name: p.clone() for name, p in load_llama(core).named_parameters()}
    seeing = fit(new_training(core), tmp_path, 120)
    blind = fit(new_training(), tmp_path, 120)
    assert error(seeing) < 0.6 * error(blind)
    for name, parameter in seeing.core.named_parameters():
        assert torch.equal(parameter, before[name]) and parameter.grad is None
    seeing.export(tmp_path / "out")
    again = load_prosody(tmp_path / "out")
    assert again.config == seeing.model.config
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, dict(seeing.model.named_parameters())[name])


@pytest.mark.parametrize("look_ahead", [2, None])
def test_loss_is_of_real_phones_and_counts_them(look_ahead):
    training = new_training(look_ahead=look_ahead)
    training.configure_model()
    training.model.eval()
    (batch,) = batches(1, size=3)
    one_by_one = [ProsodyBatch.of([row]) for row in batch.rows]
    total, count = training.loss(batch)
    apart = [training.loss(each) for each in one_by_one]
    assert count == sum(n for _, n in apart) == sum(len(row.targets) for row in batch.rows)
    torch.testing.assert_close(total, sum(t for t, _ in apart))
    silent = ProsodyBatch.of([batch.rows[0].without_loss(), batch.rows[1]])
    torch.testing.assert_close(training.loss(silent)[0], apart[1][0])


def test_the_pitch_of_unvoiced_phones_carries_no_loss():
    out = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    truth = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    truth[..., 3] = torch.tensor([[1, 0, 1, 0, 0], [0, 1, 1, 1, 1]])
    known = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]).bool()
    total, count = phone_loss(out, truth, known)
    wanted = 0.0
    for row, place in known.nonzero().tolist():
        said, true = out[row, place], truth[row, place]
        kept = [0, 1, 2] if true[3] else [0, 2]
        wanted += F.huber_loss(said[kept], true[kept], reduction="sum")
        wanted -= torch.log(torch.sigmoid(said[3] if true[3] else -said[3]))
    assert count == 6
    torch.testing.assert_close(total, wanted)
    total.backward()
    unvoiced = known & (truth[..., 3] == 0)
    assert out.grad[..., 1][unvoiced | ~known].eq(0).all()
    assert out.grad[..., 1][known & ~unvoiced].ne(0).all()


def test_long_texts_are_cut():
    made = sample(random.Random(0))
    row = ProsodyRow.of(made, max_phones=4)
    assert len(row.targets) == len(row.phones.codes) == len(row.ends) == 4
    batch, lengths = encode([row], None)
    assert lengths.tolist() == [4] and batch.phones.flags.shape[1] == 4


def test_broken_directories_are_refused(new_model, tmp_path):
    save_prosody(new_model(look_ahead=1, sees=False), tmp_path / "model")
    (tmp_path / "model/config.json").write_text("{}")
    with pytest.raises(InputError, match="no prosody model"):
        load_prosody(tmp_path / "model")
