"""The core's training: its schedule in closed form, its loss over parts, its stages."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from language.checkpoint import load_llama
from language.config import LlamaConfig, RopeScaling
from language.errors import InputError
from language.flops import causal_pairs, core_flops, document_lengths
from language.model import Llama
from language.next_token import next_token_loss
from language.optimization import AdamWConfig, ParameterGroup, ScheduleConfig, parameter_groups
from language.pretraining import LanguagePretraining
from language.tokenizer import train_bpe
from multimodal.batch import IGNORED
from multimodal.training.averaging import CheckpointAveraging
from multimodal.training.checkpoints import FILE, Checkpoints, latest
from tests.multimodal.training.fakes import Counting, Recorder, quiet_trainer

TOKENIZER = train_bpe(["one two three"] * 3, num_merged=4)
CORE = LlamaConfig(
    vocab_size=TOKENIZER.vocab_size,
    dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    ffn_dim=48,
    max_positions=64,
)
OPTIMIZER = AdamWConfig(learning_rate=1e-2)
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    TOKENIZER.save(directory)
    return str(directory)


@pytest.fixture
def train(tmp_path, tokenizer):
    """Runs a training from seed 0; gives the module and what was recorded."""

    def run(*, data=None, callbacks=(), trainer=None, name="run", **settings):
        torch.manual_seed(0)
        usual = {
            "core": CORE,
            "optimizer": OPTIMIZER,
            "schedule": ScheduleConfig(warmup_steps=2),
            "tokenizer": tokenizer,
        }
        module, recorder = LanguagePretraining(**usual | settings), Recorder()
        lightning = quiet_trainer(
            tmp_path / name, callbacks=[recorder, *callbacks], **{"max_steps": 8, **(trainer or {})}
        )
        lightning.fit(module, data or Counting())
        return module, recorder

    return run


@pytest.mark.parametrize("shape", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup, final", [(0, 0.1), (10, 0.0), (1, 1.0)])
def test_schedule_is_its_closed_form(shape, warmup, final):
    schedule = ScheduleConfig(shape=shape, warmup_steps=warmup, final=final)
    for step in range(100):
        t = (step - warmup) / (100 - warmup)
        down = {
            "cosine": final + (1 - final) * 0.5 * (1 + math.cos(math.pi * t)),
            "linear": 1 - t * (1 - final),
            "constant": 1.0,
        }[shape]
        expected = (step + 1) / warmup if step < warmup else down
        assert schedule.factor(step, num_steps=100) == pytest.approx(expected, abs=1e-12)
    if shape != "constant":
        assert schedule.factor(100, num_steps=100) == pytest.approx(final)
        assert schedule.factor(500, num_steps=100) == pytest.approx(final)


def test_the_optimizer_follows_the_schedule(train):
    schedule = ScheduleConfig(shape="linear", warmup_steps=3, final=0.0)
    _, recorder = train(schedule=schedule)
    expected = [1e-2 * schedule.factor(step, num_steps=8) for step in range(8)]
    assert recorder.rates == pytest.approx(expected)


def test_matrices_decay_and_the_rest_does_not():
    with torch.device("meta"):
        model = Llama(CORE)
    groups = parameter_groups(
        model.named_parameters(),
        replace(
            OPTIMIZER,
            groups=(
                ParameterGroup(pattern="embedding.*", weight_decay=0.0, learning_rate_scale=0.5),
                ParameterGroup(pattern="*.query.weight", learning_rate_scale=2.0),
            ),
        ),
    )
    found = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        expected = (1e-2, 0.1 if parameter.dim() > 1 else 0.0)
        if name.startswith("embedding"):
            expected = (5e-3, 0.0)
        if name.endswith("query.weight"):
            expected = (2e-2, 0.1)
        assert found[id(parameter)] == expected, name
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))


def test_other_rates_and_decays_leave_the_groups_as_they_are():
    """A run may be resumed with them: a state belongs to groups by their order."""
    with torch.device("meta"):
        model = Llama(CORE)
    group = ParameterGroup(pattern="*.query.weight", learning_rate_scale=2.0)

    def sizes(config: AdamWConfig) -> list[int]:
        return [len(g["params"]) for g in parameter_groups(model.named_parameters(), config)]

    one = replace(OPTIMIZER, groups=(group,))
    other = replace(one, weight_decay=0.0, groups=(replace(group, learning_rate_scale=1.0),))
    assert sizes(one) == sizes(other)


def test_a_group_that_matches_nothing_is_refused():
    config = replace(OPTIMIZER, groups=(ParameterGroup(pattern="blocks.*.gates"),))
    with pytest.raises(InputError, match=r"'blocks.\*.gates' matches no parameter"):
        parameter_groups(Llama(CORE).named_parameters(), config)


def test_loss_counts_only_targets():
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    targets[0, :3] = IGNORED
    total, count = next_token_loss(logits, targets)
    kept = [(b, t) for b in range(2) for t in range(5) if targets[b, t] != IGNORED]
    expected = sum(-logits[b, t].log_softmax(0)[targets[b, t]] for b, t in kept)
    assert count == len(kept) == 7
    torch.testing.assert_close(total, expected)


def test_learns_and_the_same_seed_gives_the_same_losses(train):
    _, first = train(trainer={"max_steps": 40})
    _, again = train(trainer={"max_steps": 40})
    assert first.losses[-1] < 0.3 * first.losses[0]
    assert first.losses == again.losses


def test_accumulation_gives_the_gradient_of_the_big_batch(train):
    """Targets are spread unequally over the micro-batches, so means of means would differ."""
    _, whole = train(data=Counting(batch_size=8))
    _, parts = train(data=Counting(batch_size=2), trainer={"accumulate_grad_batches": 4})
    assert parts.losses == pytest.approx(whole.losses, rel=1e-4)
    assert parts.norms == pytest.approx(whole.norms, rel=1e-4)


def test_a_run_without_steps_is_refused(train):
    with pytest.raises(InputError, match="max_steps"):
        train(trainer={"max_steps": -1, "max_epochs": 1})


def test_a_tokenizer_larger_than_the_core_is_refused(train):
    with pytest.raises(InputError, match="vocab_size is 40"):
        train(core=replace(CORE, vocab_size=40))


def test_exports_what_the_next_stage_starts_from(train, tmp_path):
    """Long context: the same weights with scaled positions and more of them."""
    module, _ = train()
    module.export(tmp_path / "export")
    assert (tmp_path / "export" / "tokenizer.json").is_file()
    longer = replace(CORE, max_positions=256, rope_scaling=RopeScaling(original_max_positions=64))
    other = LanguagePretraining(
        core=longer,
        optimizer=OPTIMIZER,
        schedule=ScheduleConfig(),
        tokenizer=str(tmp_path / "export"),
        start=str(tmp_path / "export"),
    )
    other.configure_model()
    for name, parameter in module.model.named_parameters():
        assert torch.equal(parameter, other.model.get_parameter(name))
    tokens = torch.randint(40, (1, 32))
    assert not torch.allclose(module.model(tokens), other.model(tokens))
    same = load_llama(tmp_path / "export")
    torch.testing.assert_close(same(tokens), module.model(tokens))


def test_start_of_other_sizes_is_refused(train, tmp_path):
    module, _ = train(trainer={"max_steps": 1})
    module.export(tmp_path / "export")
    with pytest.raises(InputError, match="ffn|down|up|gate"):
        train(core=replace(CORE, ffn_dim=64), start=str(tmp_path / "export"))


def test_averaging_ends_with_the_mean_of_the_checkpoints(train):
    kept = []

    class Keeper(Recorder):
        def on_train_batch_end(self, trainer, pl_module, *rest):
            if trainer.global_step in (4, 6, 8):
                kept.append({n: p.detach().clone() for n, p in pl_module.model.named_parameters()})

    averaging = CheckpointAveraging(every_n_steps=2, first_step=3)
    module, _ = train(callbacks=[Keeper(), averaging])
    assert len(kept) == 3
    for name, parameter in module.model.named_parameters():
        torch.testing.assert_close(parameter, torch.stack([one[name] for one in kept]).mean(0))


def test_compiled_blocks_train_alike(train, monkeypatch):
    """The compiler's backend is taken out: what counts is that names and losses stay."""
    monkeypatch.setattr(torch.nn.Module, "compile", _compile_eagerly)
    module, recorder = train(compile=True, trainer={"max_steps": 3})
    _, plain = train(trainer={"max_steps": 3})
    assert recorder.losses == pytest.approx(plain.losses, rel=1e-5)
    assert "blocks.0.attention.query.weight" in dict(module.model.named_parameters())


def _compile_eagerly(self, **_):
    self._compiled_call_impl = torch.compile(self._call_impl, backend="eager")


@pytest.mark.parametrize("trained, first_block", [(True, 0), (False, 0), (False, 1), (False, 2)])
def test_flops_are_those_that_are_counted(trained, first_block):
    """Against torch's counter, which counts all pairs of an unmasked attention."""
    model = Llama(CORE)
    model.reset_parameters()
    model.requires_grad_(trained)
    tokens = torch.randint(40, (2, 6))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        hidden = model.embedding(tokens)
        context = model.context(hidden)
        for index in range(CORE.num_layers):
            if not trained and index == first_block:
                hidden = hidden.detach().requires_grad_()
            hidden = model.run_block(index, hidden, context)
        if not trained and first_block == CORE.num_layers:
            hidden = hidden.detach().requires_grad_()
        model.logits(hidden).sum().backward()
    count = torch.tensor(12)
    expected = core_flops(
        CORE,
        tokens=count,
        pairs=torch.tensor(2 * 6 * 6),
        logits=count,
        trained=trained,
        first_block=first_block,
    )
    assert counter.get_total_flops() == int(expected)


def test_lengths_of_packed_documents_by_brute_force():
    documents = torch.tensor([[0, 0, 0, 1, 1, 2], [0, 1, 1, 1, -1, -1], [0, 0, -1, -1, -1, -1]])
    lengths = torch.tensor([6, 4, 2])
    assert document_lengths(documents, lengths).tolist() == [3, 2, 1, 1, 3, 2]
    assert causal_pairs(document_lengths(documents, lengths)) == 6 + 3 + 1 + 1 + 6 + 3
    assert document_lengths(None, lengths).tolist() == [6, 4, 2]


def test_packed_documents_do_not_see_each_other(train):
    """One packed row has the loss of its documents apart."""
    module = train(trainer={"max_steps": 2})[0]
    batch = Counting().collate([torch.arange(1, 14), torch.arange(5, 18)])
    apart = module.loss(batch)[0]
    packed = replace(
        batch,
        tokens=batch.tokens.reshape(1, -1),
        targets=batch.targets.reshape(1, -1),
        lengths=torch.tensor([24]),
        documents=torch.tensor([[0] * 12 + [1] * 12]),
    )
    torch.testing.assert_close(module.loss(packed)[0], apart, rtol=1e-5, atol=1e-4)


def test_a_run_that_diverged_stops_before_its_state_is_saved(train, tmp_path):
    with pytest.raises(InputError, match="the loss is nan"):
        train(
            optimizer=AdamWConfig(learning_rate=1e20),
            callbacks=[Checkpoints(every_n_steps=1)],
            schedule=ScheduleConfig(),
        )
    state = torch.load(latest(tmp_path / "run") / FILE, weights_only=True)
    assert state["global_step"] == 1


def test_embedding_noise_is_of_its_size_and_the_same_again(train):
    module, first = train(embedding_noise=0.3)
    _, again = train(embedding_noise=0.3)
    _, without = train()
    assert first.losses == again.losses
    assert first.losses[0] != without.losses[0]
    table, tokens = module.model.embedding, torch.arange(40)
    clean = table.weight[tokens].detach()
    draws = torch.stack([table(tokens).detach() - clean for _ in range(50)])
    assert float(draws.std()) == pytest.approx(0.3 * float(clean.std()), rel=0.05)
    assert abs(float(draws.mean())) < 0.01 * float(clean.std())
    with torch.no_grad():
        assert torch.equal(table(tokens), clean)
