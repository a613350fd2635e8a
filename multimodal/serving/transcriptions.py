"""Recordings that clients send: written down, or translated into English."""

import threading
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.responses import JSONResponse, PlainTextResponse, Response

from multimodal.assistant import Assistant
from multimodal.serving.engine import BusyError
from multimodal.serving.limits import Limits, RefusedError
from multimodal.subtitles import render
from multimodal.transcript import Transcript
from multimodal.transcription import TooLongError

FORMS = ("json", "text", "srt", "vtt", "verbose_json")


class Transcriber:
    """Takes one recording at a time; some more may wait."""

    def __init__(self, assistant: Assistant, limits: Limits, *, max_waiting: int) -> None:
        """Listen with a model.

        Args:
            assistant: of the model.
            limits: of what a client may send.
            max_waiting: recordings that may wait.
        """
        self.assistant, self.limits, self.max_waiting = assistant, limits, max_waiting
        self._turn = threading.Lock()
        self._num_here = 0

    async def answer(self, form: FormData, *, translates: bool) -> Response:
        """What a form asks for.

        Raises:
            RefusedError: what is wrong with it.
            BusyError: too many wait.
            InputError: the recording is unusable, or the language unknown.
        """
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise RefusedError(400, "file must be a recording", param="file")
        wanted = str(form.get("response_format") or "json")
        if wanted not in FORMS:
            known = ", ".join(FORMS)
            raise RefusedError(400, f"response_format must be one of {known}",
                               param="response_format")  # fmt: skip
        language = form.get("language")
        language = str(language) if language and not translates else None
        if self._num_here > self.max_waiting:
            raise BusyError
        self._num_here += 1
        try:
            data = await file.read()
            heard = await run_in_threadpool(
                self._heard, data, language=language, to="English" if translates else None
            )
        finally:
            self._num_here -= 1
        return _response(heard, wanted, task="translate" if translates else "transcribe")

    def _heard(self, data: bytes, *, language: str | None, to: str | None) -> Transcript:
        with self._turn:
            hearing = self.assistant.hearing(data, language=language, to=to)
            hearing.max_seconds = self.limits.sound_seconds
            try:
                for _ in hearing.pieces():
                    pass
            except TooLongError as error:
                raise RefusedError(413, str(error), param="file") from None
            return hearing.transcript()


def _response(heard: Transcript, wanted: str, *, task: str) -> Response:
    if wanted == "json":
        return JSONResponse({"text": heard.text})
    if wanted == "text":
        return PlainTextResponse(heard.text + "\n")
    if wanted == "verbose_json":
        about: dict[str, Any] = heard.to_json()
        del about["remarks"]
        return JSONResponse({"task": task, **about})
    kind = {"srt": "application/x-subrip", "vtt": "text/vtt"}[wanted]
    return PlainTextResponse(render(heard, wanted), media_type=kind)
