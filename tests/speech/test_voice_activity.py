"""The gate hears changing sounds above the noise, and neither noise nor tones; Silero's network."""

import math
import sys
import warnings

import pytest
import torch
from torch import Tensor

from language.errors import InputError
from speech.audio import SAMPLE_RATE
from speech.voice_activity import (
    EnergyGate,
    VoiceActivityConfig,
    VoiceDetector,
    new_detector,
)

GATE = VoiceActivityConfig(detector="energy")
TIMES = torch.arange(20 * SAMPLE_RATE) / SAMPLE_RATE


def hear(detector: VoiceDetector, samples: Tensor, *, size: int = SAMPLE_RATE) -> Tensor:
    """Decisions on all frames, [frames] bool, and that there is one for each."""
    flags = [flag for chunk in samples.split(size) for flag in detector.push(chunk)]
    flags += detector.finish()
    assert len(flags) == -(-len(samples) // detector.frame)
    return torch.tensor(flags, dtype=torch.bool)


def seconds(flags: Tensor, detector: VoiceDetector) -> float:
    return float(flags.sum()) * detector.frame / SAMPLE_RATE


def noise(level: float) -> Tensor:
    return level * torch.randn(len(TIMES), generator=torch.manual_seed(0))


def tone(frequency: float, level: float = 0.3) -> Tensor:
    return level * torch.sin(2 * math.pi * frequency * TIMES)


def babble() -> Tensor:
    """Two syllables a second: harmonics through a formant that wanders, pauses between them."""
    phase = 2 * math.pi * 120 * TIMES
    centre = 900 + 600 * torch.sin(2 * math.pi * 1.3 * TIMES)
    sound = sum(
        torch.exp(-(((120 * k - centre) / 400) ** 2)) * torch.sin(k * phase) for k in range(1, 30)
    )
    return 0.1 * sound * (TIMES % 0.5 < 0.35)


NO_SPEECH = {
    "silence": torch.zeros(len(TIMES)),
    "offset": torch.full((len(TIMES),), 0.2),
    "dither": noise(2e-5),
    "faint noise": noise(0.001),
    "noise": noise(0.05),
    "loud noise": noise(0.3),
    "noise that steps up": noise(0.01) * (1 + 9 * (TIMES > 9)),
    "noise that fades": noise(0.1) * 10 ** (-TIMES / 20),
    "bursts of noise": noise(0.1) * (TIMES % 6 > 3) + noise(0.001),
    "hum": tone(50) + tone(100, 0.1) + tone(150, 0.1),
    "low tone": tone(200),
    "high tone": tone(3000),
    "chord": tone(262, 0.1) + tone(330, 0.1) + tone(392, 0.1),
    "tone in noise": tone(440) + noise(0.01),
    "tones of 6 s": tone(440) * (TIMES % 10 > 4),
    "beeps": tone(1000) * (TIMES % 2 < 0.3),
    "quick beeps": tone(1000) * (TIMES % 0.2 < 0.1),
    "clicks": torch.zeros(len(TIMES)).index_fill(0, torch.arange(0, len(TIMES), 9000), 0.9),
}


@pytest.mark.parametrize("name", NO_SPEECH)
def test_gate_hears_no_speech_in(name: str) -> None:
    gate = new_detector(GATE)
    assert not hear(gate, NO_SPEECH[name]).any()


@pytest.mark.parametrize("level", [0.0, 0.002, 0.01])
@pytest.mark.parametrize("gain", [1.0, 0.05])
def test_gate_hears_syllables(level: float, gain: float) -> None:
    gate = new_detector(GATE)
    flags = hear(gate, gain * (babble() + noise(level)))
    inside = TIMES[128 :: gate.frame] % 0.5
    assert flags[(inside > 0.03) & (inside < 0.32)].float().mean() > 0.97
    assert flags[(inside > 0.4) & (inside < 0.46)].float().mean() < 0.03


def test_gate_decides_the_same_in_any_chunks_and_looks_no_further_than_it_says() -> None:
    samples = babble() + noise(0.01)
    flags = hear(new_detector(GATE), samples)
    for size in (1_601, 100_000, len(samples)):
        assert torch.equal(hear(new_detector(GATE), samples, size=size), flags)
    # A change from 11 s on reaches back by the look-ahead, a block and a window, and no further.
    changed = samples.clone()
    changed[11 * SAMPLE_RATE :] = noise(0.5)[11 * SAMPLE_RATE :]
    reach = EnergyGate.context + EnergyGate.block + 2
    first = 11 * SAMPLE_RATE // EnergyGate.frame - reach
    assert torch.equal(hear(new_detector(GATE), changed)[:first], flags[:first])


def test_gate_is_deaf_below_its_silence() -> None:
    faint = VoiceActivityConfig(detector="energy", silence_dbfs=-30.0)
    assert not hear(new_detector(faint), 0.05 * babble()).any()
    assert hear(new_detector(GATE), 0.05 * babble()).any()


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 700])
def test_short_recordings(size: int) -> None:
    for detector in (new_detector(GATE), new_detector(VoiceActivityConfig())):
        hear(detector, 0.1 * torch.ones(size))


def test_silero_hears_what_it_hears_whole() -> None:
    """Against the package's own loop over the same recording, and the threads stay as they were."""
    silero_vad = pytest.importorskip("silero_vad")
    num_threads = torch.get_num_threads()
    config = VoiceActivityConfig(detector="silero")
    detector = new_detector(config)
    assert torch.get_num_threads() == num_threads
    samples = (babble() + noise(0.002))[: 5 * SAMPLE_RATE + 100]
    flags = hear(detector, samples, size=1_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = silero_vad.load_silero_vad()
    with torch.inference_mode():
        probabilities = model.audio_forward(samples[None], sr=SAMPLE_RATE)[0]
    assert torch.equal(flags, probabilities >= config.probability)
    assert not hear(new_detector(config), noise(0.05)[: 5 * SAMPLE_RATE]).any()


def test_without_silero_the_gate_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    assert isinstance(new_detector(VoiceActivityConfig()), EnergyGate)
    with pytest.raises(InputError, match="silero_vad: cannot be imported .* pip install"):
        new_detector(VoiceActivityConfig(detector="silero"))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"detector": "webrtc"}, "detector must be one of auto, energy, silero: 'webrtc'"),
        ({"offset_db": 9.0}, r"offset_db \(9.0\) must be above 0 and at most onset_db"),
        ({"variability_db": -1.0}, "variability_db must be 0 or more"),
        ({"probability": 1.0}, "probability must lie between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        VoiceActivityConfig(**settings)  # type: ignore[arg-type]
