"""What the page's buttons do, without the page: media in, what is shown out."""

import random
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from language.errors import InputError
from multimodal.assistant import CAPTION_REQUESTS, Assistant
from multimodal.demo.looking import look_by_word
from multimodal.demo.preferences import POINTS, Rating, keep, kept, placed, tally
from multimodal.languages import LANGUAGES
from multimodal.processor import Message
from multimodal.subtitles import render
from multimodal.transcript import Transcript

Turns = list[dict[str, Any]]
"""A dialogue as Gradio's chatbot has it."""


class Actions:
    """A model, and perhaps another one to compare it with."""

    def __init__(
        self,
        assistant: Assistant,
        *,
        name: str,
        other: Assistant | None = None,
        other_name: str = "",
        ratings: Path | None = None,
        seed: int | None = None,
    ) -> None:
        """Put models behind a page.

        Args:
            assistant: answers.
            name: of its model.
            other: answers beside it, in the comparison.
            other_name: of that model.
            ratings: file that ratings are kept in.
            seed: of which model stands left.
        """
        self.assistant, self.name = assistant, name
        self.other, self.other_name = other, other_name
        self.ratings = ratings or Path("ratings.jsonl")
        self._rng = random.Random(seed)

    def about(self) -> str:
        """A line about the model."""
        config = self.assistant.model.config
        weights = sum(p.numel() for p in self.assistant.model.parameters())
        can = [("pictures", config.image_encoder), ("clips", config.video_aggregator),
               ("recordings", config.speech_encoder)]  # fmt: skip
        media = ", ".join(what for what, part in can if part is not None) or "text alone"
        return f"Model **{self.name}**: {weights / 1e6:,.1f} million weights; knows {media}."

    def caption(self, picture: str | None, turns: Turns) -> Turns:
        """Add a caption to a dialogue about a picture."""
        return self.ask(picture, CAPTION_REQUESTS["image"], turns)[0]

    def ask(self, picture: str | None, question: str, turns: Turns) -> tuple[Turns, str]:
        """Add a question and its answer to a dialogue about a picture; empties the question."""
        if not question.strip():
            raise gr.Error("Type a question first.")
        asked = [*turns, {"role": "user", "content": question}]
        answer = self._told(lambda: "".join(self.assistant.stream(_messages(picture, asked))))
        return [*asked, {"role": "assistant", "content": answer or "(no answer)"}], ""

    def words(self, picture: str | None, turns: Turns) -> list[tuple[Image.Image, str]]:
        """Where each word of the answer to the last question came from."""
        questions = [_text(turn["content"]) for turn in turns if turn["role"] == "user"]
        if picture is None or not questions:
            raise gr.Error("Ask about a picture first.")
        drawn = self._told(lambda: look_by_word(self.assistant, picture, questions[-1]))
        return [(image, word) for word, image in drawn]

    def watch(self, clip: str | None, question: str, with_sound: bool) -> tuple[str, Image.Image]:
        """Answer a question about a clip, and show the frames that were seen."""
        if clip is None or not question.strip():
            raise gr.Error("Choose a clip and type a question first.")
        return self._told(lambda: self.assistant.watch(clip, question, sound=with_sound))

    def transcribe(self, sound: str | None, language: str) -> tuple[str, list[list[Any]], str]:
        """Write down a recording: its text, with times, and a file of subtitles."""
        known = language if language in LANGUAGES.values() else None
        return self._heard(sound, lambda path: self.assistant.transcribe(path, language=known))

    def translate(self, sound: str | None, to: str) -> tuple[str, list[list[Any]], str]:
        """Translate a recording: its text, with times, and a file of subtitles."""
        return self._heard(sound, lambda path: self.assistant.translate(path, to=to))

    def ask_both(self, picture: str | None, question: str) -> tuple[str, str, None, dict[str, str]]:
        """Ask both models; which stands left is drawn. No rating is chosen yet."""
        if not question.strip():
            raise gr.Error("Type a question first.")
        assert self.other is not None
        left, right = placed(self.name, self.other_name, rng=self._rng)
        models = {self.name: self.assistant, self.other_name: self.other}
        messages = _messages(picture, [{"role": "user", "content": question}])
        answers = [
            self._told(lambda model=models[name]: "".join(model.stream(messages)))
            for name in (left, right)
        ]
        asked = {"question": question, "left": left, "right": right,
                 "left_answer": answers[0], "right_answer": answers[1]}  # fmt: skip
        return answers[0], answers[1], None, asked

    def rate(self, asked: dict[str, str] | None, rating: str | None) -> tuple[str, None, None]:
        """Keep a rating, once; shows how the models stand."""
        if not asked or rating not in POINTS:
            raise gr.Error("Ask both, then choose a rating.")
        keep(Rating(**asked, points=POINTS[rating]), self.ratings)
        shown = f"Left was **{asked['left']}**, right was **{asked['right']}**.\n\n{self.tally()}"
        return shown, None, None

    def tally(self) -> str:
        """How the models stand by the ratings so far."""
        names = {self.name, self.other_name}
        ratings = [each for each in kept(self.ratings) if {each.left, each.right} == names]
        if not ratings:
            return "No ratings yet."
        found = tally(ratings, self.name)
        return (
            f"{found.number} ratings: **{self.name}** preferred in {found.wins:.0%}, the same in "
            f"{found.ties:.0%}, **{self.other_name}** in {found.losses:.0%}; win rate "
            f"{found.rate:.0%} (95 %: {found.low:.0%} to {found.high:.0%}), in {self.ratings}"
        )

    def _heard(self, sound: str | None, hear: Any) -> tuple[str, list[list[Any]], str]:
        if sound is None:
            raise gr.Error("Choose or record something first.")
        heard: Transcript = self._told(lambda: hear(sound))
        rows = [[round(s.start, 2), round(s.end, 2), s.text] for s in heard.segments]
        file = Path(tempfile.mkdtemp(prefix="openherd-")) / f"{Path(sound).stem}.srt"
        file.write_text(render(heard, "srt"), encoding="utf-8")
        return heard.text or "(nobody speaks)", rows, str(file)

    def _told(self, act: Any) -> Any:
        """What an action gives; bad input is told on the page."""
        try:
            return act()
        except InputError as error:
            raise gr.Error(str(error)) from None


def _messages(picture: str | None, turns: Turns) -> list[Message]:
    """A dialogue as the assistant takes it, the picture with the first question."""
    messages: list[Message] = []
    for index, turn in enumerate(turns):
        text = _text(turn["content"])
        if index == 0 and picture is not None:
            content = [{"type": "image", "image": picture}, {"type": "text", "text": text}]
            messages.append({"role": turn["role"], "content": content})
        else:
            messages.append({"role": turn["role"], "content": text})
    return messages


def _text(content: Any) -> str:
    """The text of a turn, whichever way the chatbot holds it."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, dict))
