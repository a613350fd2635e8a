"""A model that says what it was told to say."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from multimodal.evaluation.benchmark import Benchmark, Settings, Spoken
from multimodal.evaluation.packed import Packed
from multimodal.evaluation.runner import read_samples
from multimodal.prompts import SpeechPrompts


def heard(recording: Any) -> Any:
    """What a model knows a recording by: a file by its name, one of an archive by what it holds."""
    if isinstance(recording, Packed):
        return recording.read()
    return recording if isinstance(recording, bytes) else str(recording)


class Canned:
    """Says what it was told to say."""

    model = SimpleNamespace(config=SimpleNamespace(speech_prompts=SpeechPrompts()))

    def __init__(self, chosen: Benchmark, data: Path, settings: Settings, answers: dict) -> None:
        samples = read_samples(chosen, data, settings=settings)
        self.says = {
            heard(s.request.recording): answers[s.key]
            for s in samples
            if isinstance(s.request, Spoken)
        }
        self.written = {str(s.request.messages): answers[s.key] for s in samples
                        if not isinstance(s.request, Spoken)}  # fmt: skip
        self.settings: dict = {}
        self.asked: list[int] = []
        """Sizes of the batches."""

    def configure(self, **settings) -> None:
        self.settings |= settings

    def answer_all(self, dialogues, *, batch_size):
        asked = list(dialogues)
        self.asked.append(len(asked))
        return [self.written[str(messages)] for messages in asked]

    def hear_all(self, recordings, *, language, to):
        return [SimpleNamespace(text=self.says[heard(recording)]) for recording in recordings]
