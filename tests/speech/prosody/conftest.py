import pytest
import torch

from speech.prosody.model import ProsodyConfig, ProsodyModel

CORE_DIM = 12


@pytest.fixture(scope="session")
def new_model():
    def make(*, look_ahead, sees, memory=500, num_layers=2):
        torch.manual_seed(3)
        model = ProsodyModel(
            ProsodyConfig(
                dim=24,
                num_heads=6,
                num_layers=num_layers,
                ffn_dim=32,
                look_ahead=look_ahead,
                core_dim=CORE_DIM if sees else None,
                memory=memory,
                num_speakers=3,
                num_styles=2,
                means=(-2.5, 4.8, -6.0),
                spreads=(0.5, 0.3, 1.5),
            )
        )
        for parameter in model.parameters():
            if parameter.dim() == 1 or parameter is model.layers[0].steps.distance.weight:
                torch.nn.init.normal_(parameter, std=0.5)
        return model.eval()

    return make
