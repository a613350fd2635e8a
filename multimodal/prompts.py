"""What a model is told to do with a recording (paper section 8.2): part of its config.

Training and use read the prompts from the checkpoint, so that they cannot drift apart. A prompt is
the system message and the recording the user's; without a prompt a recording is spoken dialogue.
"""

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class SpeechPrompts:
    """System messages by task; ``{language}`` is the English name of the answer's language."""

    transcribe: str = "Repeat after me in {language}:"
    """The paper's, for speech recognition."""
    translate: str = "Translate the following sentence into {language}:"
    """The paper's, for speech translation."""
    identify: str = "Name the language that is spoken:"
    """Answered with the language's English name; asked where a user names no language."""

    def __post_init__(self) -> None:
        for field in fields(self):
            wants = field.name != "identify"
            if ("{language}" in getattr(self, field.name)) != wants:
                raise ValueError(
                    f"speech_prompts.{field.name} must {'' if wants else 'not '}hold {{language}}"
                )


def spoken_request(recording: Any, prompt: str | None, answer: str | None = None) -> list[Any]:
    """Messages about a recording.

    Args:
        recording: what an ``audio`` part takes.
        prompt: the system message; None is spoken dialogue.
        answer: what the assistant should say, for training.
    """
    messages: list[Any] = [{"role": "system", "content": prompt}] if prompt is not None else []
    messages.append({"role": "user", "content": [{"type": "audio", "audio": recording}]})
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    return messages
