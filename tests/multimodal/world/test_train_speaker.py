"""The chain of the tiny speaker: nothing is read before it is made, and the ends are joined."""

import pytest
import torch

from language.checkpoint import save_llama
from language.config import LlamaConfig
from language.model import Llama
from multimodal.training.config_files import find_config, read_yaml
from multimodal.world import train_speaker
from multimodal.world.speaking import write_core_data
from speech.normalization.checkpoint import load_tagger, save_tagger
from speech.normalization.rules import language
from speech.normalization.tagger import Tagger, TaggerConfig
from speech.prosody.checkpoint import save_prosody
from speech.prosody.model import ProsodyConfig, ProsodyModel
from speech.speaker import load_speaker


@pytest.mark.parametrize(
    "stage", [train_speaker.CORE, train_speaker.NORMALIZATION, train_speaker.PROSODY]
)
def test_each_stage_writes_where_the_chain_looks(stage):
    settings = read_yaml(find_config(f"{stage}.yaml"))
    assert settings["trainer"]["default_root_dir"] == str(train_speaker.RUNS / stage)
    if stage != train_speaker.CORE:
        model = settings["model"]["init_args"]
        assert model["core"] == str(train_speaker.RUNS / train_speaker.CORE / "export")
        assert model["core_layer"] == train_speaker.CORE_LAYER
    read = [source["path"] for source in settings["data"]["init_args"]["train"]]
    assert all(path.startswith(f"{train_speaker.DATA}/") for path in read)


def test_the_ends_are_joined(tmp_path):
    write_core_data(tmp_path, number=1, seed=0)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        dim=16,
        num_layers=4,
        num_heads=2,
        num_kv_heads=1,
        ffn_dim=16,
        rope_theta=1e4,
        max_positions=256,
    )
    core = Llama(config)
    core.reset_parameters()
    save_llama(core, tmp_path / "core", companions=tmp_path / "tokenizer")
    tagger = Tagger(
        TaggerConfig(labels=language("en").labels, core_dim=16, dim=16, hidden_dim=16, num_heads=2)
    )
    save_tagger(tagger, tmp_path / "normalization", language_code="en")
    prosody = ProsodyModel(ProsodyConfig(dim=24, num_layers=1, ffn_dim=16, core_dim=16))
    save_prosody(prosody, tmp_path / "prosody")
    parts = {name: tmp_path / name for name in ("core", "normalization", "prosody")}
    train_speaker.join(tmp_path / "speaker", **parts)
    speaker = load_speaker(tmp_path / "speaker")
    assert speaker.embeddings is not None
    assert speaker.embeddings.layer == train_speaker.CORE_LAYER
    half, _ = load_tagger(tmp_path / "speaker/normalization")
    for name, value in half.state_dict().items():
        assert torch.equal(value, tagger.state_dict()[name].half().float())
