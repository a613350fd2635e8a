"""The HTTP side: OpenAI's paths, their answers and their errors (Starlette)."""

import asyncio
import hmac
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from language.errors import InputError
from multimodal.assistant import Assistant
from multimodal.serving.engine import BusyError, Engine, Said, Ticket
from multimodal.serving.limits import Limits, RefusedError
from multimodal.serving.measures import Measures
from multimodal.serving.requests import ChatRequest, chat_request
from multimodal.serving.transcriptions import Transcriber

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """What answers requests."""

    assistant: Assistant
    engine: Engine
    transcriber: Transcriber
    measures: Measures
    limits: Limits
    model: str
    """Its name to clients."""
    key: str = ""
    """What clients must show; "" asks for nothing."""
    files: Path | None = None
    """Folder whose files requests may name."""

    def app(self) -> Starlette:
        """The paths."""
        routes = [
            ("/v1/chat/completions", self._chat, "POST"),
            ("/v1/audio/transcriptions", self._transcription, "POST"),
            ("/v1/audio/translations", self._translation, "POST"),
            ("/v1/models", self._models, "GET"),
            ("/v1/models/{name:path}", self._one_model, "GET"),
        ]
        made = [Route(path, self._guarded(path, serve), methods=[m]) for path, serve, m in routes]
        made.append(Route("/health", self._health))
        made.append(Route("/metrics", self._metrics))
        return Starlette(routes=made)

    def _guarded(self, path: str, serve: Handler) -> Handler:
        """The handler behind the key, its faults as OpenAI's errors, its requests counted."""

        async def guarded(request: Request) -> Response:
            begun = time.monotonic()
            try:
                self._check_key(request)
                response = await serve(request)
            except RefusedError as error:
                response = JSONResponse(error.to_json(), error.status)
            except InputError as error:
                response = JSONResponse(RefusedError(400, str(error)).to_json(), 400)
            except BusyError:
                busy = RefusedError(429, "too many requests wait already: try later",
                                    kind="rate_limit_error")  # fmt: skip
                response = JSONResponse(busy.to_json(), 429, headers={"Retry-After": "1"})
            except ClientDisconnect:
                response = Response(status_code=499)  # nobody reads it
            self.measures.answered(path, response.status_code, time.monotonic() - begun)
            return response

        return guarded

    def _check_key(self, request: Request) -> None:
        if not self.key:
            return
        shown = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(shown.encode(), self.key.encode()):
            raise RefusedError(401, "wrong or missing API key", kind="authentication_error")

    def _check_model(self, name: Any) -> None:
        if name != self.model:
            message = f"no model {name!r:.80} here; there is {self.model!r}"
            raise RefusedError(404, message, param="model")

    async def _chat(self, request: Request) -> Response:
        body = await self._json(request)
        self._check_model(body.get("model") if isinstance(body, dict) else None)
        wanted = chat_request(
            body, usual=self.assistant.generation, limits=self.limits, files=self.files
        )
        said: asyncio.Queue[Said] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(piece: Said) -> None:
            if not loop.is_closed():  # the endpoint is being stopped
                loop.call_soon_threadsafe(said.put_nowait, piece)

        prompt = await run_in_threadpool(
            self.assistant.processor.encode, wanted.messages, train=False
        )
        ticket = Ticket(prompt=prompt, settings=wanted.settings, stops=wanted.stops, tell=tell)
        self.engine.submit(ticket)
        name = f"chatcmpl-{uuid.uuid4().hex}"
        if wanted.streams:
            pieces = self._streamed(name, ticket, said, wanted)
            return StreamingResponse(pieces, media_type="text/event-stream")
        return await self._whole(name, ticket, said, request)

    async def _whole(
        self, name: str, ticket: Ticket, said: "asyncio.Queue[Said]", request: Request
    ) -> Response:
        text, end = "", None
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            while end is None:
                piece = asyncio.ensure_future(said.get())
                await asyncio.wait({piece, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not piece.done():
                    piece.cancel()
                    raise ClientDisconnect
                text, end = text + _sound(piece.result()).text, piece.result().end
        finally:
            gone.cancel()
            self._over(ticket)
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": end, "logprobs": None}
        return JSONResponse(
            {**self._head(name, "chat.completion"), "choices": [choice], "usage": _usage(ticket)}
        )

    async def _streamed(
        self, name: str, ticket: Ticket, said: "asyncio.Queue[Said]", wanted: ChatRequest
    ) -> AsyncIterator[str]:
        head = self._head(name, "chat.completion.chunk")

        def event(delta: dict[str, Any], end: str | None = None) -> str:
            choice = {"index": 0, "delta": delta, "finish_reason": end, "logprobs": None}
            return _event({**head, "choices": [choice]})

        try:
            yield event({"role": "assistant", "content": ""})
            end = None
            while end is None:
                piece = await said.get()
                if piece.fault is not None:
                    yield _event(RefusedError(500, "the answer could not be made").to_json())
                    return
                if piece.text:
                    yield event({"content": piece.text})
                end = piece.end
            yield event({}, end)
            if wanted.counts_usage:
                yield _event({**head, "choices": [], "usage": _usage(ticket)})
            yield "data: [DONE]\n\n"
        finally:  # also where the client went away
            self._over(ticket)

    def _over(self, ticket: Ticket) -> None:
        ticket.is_cancelled = True
        self.measures.said(prompt=ticket.num_prompt, answer=ticket.num_said)

    def _head(self, name: str, kind: str) -> dict[str, Any]:
        return {"id": name, "object": kind, "created": int(time.time()), "model": self.model}

    async def _transcription(self, request: Request) -> Response:
        return await self._heard(request, translates=False)

    async def _translation(self, request: Request) -> Response:
        return await self._heard(request, translates=True)

    async def _heard(self, request: Request, *, translates: bool) -> Response:
        form = await self._form(request)
        try:
            self._check_model(form.get("model"))
            return await self.transcriber.answer(form, translates=translates)
        finally:
            await form.close()

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._about()]})

    async def _one_model(self, request: Request) -> Response:
        self._check_model(request.path_params["name"])
        return JSONResponse(self._about())

    def _about(self) -> dict[str, Any]:
        return {"id": self.model, "object": "model", "created": 0, "owned_by": "openherd"}

    async def _health(self, request: Request) -> Response:
        running, waiting = self.engine.num_running, self.engine.num_waiting
        return JSONResponse({"status": "ok", "running": running, "waiting": waiting})

    async def _metrics(self, request: Request) -> Response:
        text = self.measures.text(running=self.engine.num_running, waiting=self.engine.num_waiting)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def _json(self, request: Request) -> Any:
        data = b"".join([part async for part in self._body(request)])
        try:
            return await run_in_threadpool(json.loads, data)
        except (ValueError, RecursionError):
            raise RefusedError(400, "the request is not JSON") from None

    async def _form(self, request: Request) -> Any:
        """A form, read under the same limits."""
        parts = self._body(request)

        async def receive() -> dict[str, Any]:
            async for part in parts:
                return {"type": "http.request", "body": part, "more_body": True}
            return {"type": "http.request", "body": b"", "more_body": False}

        bounded = Request(request.scope, receive)
        from starlette.exceptions import HTTPException

        try:
            return await bounded.form(max_files=1, max_fields=16)
        except HTTPException as error:
            raise RefusedError(400, f"not a form: {error.detail}") from None

    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """Parts of a request's body, within its size, none of them long in coming."""
        limits = self.limits
        told = request.headers.get("content-length", "")
        too_long = RefusedError(413, f"longer than {limits.body_bytes:,} bytes")
        if told.isdecimal() and int(told) > limits.body_bytes:
            raise too_long
        stream, size = request.stream(), 0
        while True:
            try:
                part = await asyncio.wait_for(anext(stream, None), limits.body_seconds)
            except TimeoutError:
                raise RefusedError(408, "the request did not come to its end") from None
            if part is None:
                return
            size += len(part)
            if size > limits.body_bytes:
                raise too_long
            yield part


def _sound(said: Said) -> Said:
    if isinstance(said.fault, BusyError | InputError | RefusedError):
        raise said.fault
    if said.fault is not None:
        raise RefusedError(500, "the answer could not be made")
    return said


def _usage(ticket: Ticket) -> dict[str, int]:
    prompt, answer = ticket.num_prompt, ticket.num_said
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
    }


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


async def _disconnected(request: Request) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(0.2)
