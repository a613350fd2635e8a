"""The endpoint under 1, 8 and 32 clients, same weights, against transformers' generate behind HTTP.

Theirs is what a plain server does: the same framework, the same path, one call of ``generate`` a
request, one after another. Each client asks three times in a row, over the network stack, for
answers of the same number of tokens; the text is what differs least, since weights are random.
"""

import asyncio
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch
import transformers
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from benchmarks.decoding import HALF_BILLION, TINY
from benchmarks.paired import Ratio, compare
from benchmarks.released_models import save_llama
from language.tokenizer import train_bpe
from multimodal.assistant import Assistant, load
from multimodal.serving.app import Endpoint
from multimodal.serving.engine import Engine
from multimodal.serving.limits import Limits
from multimodal.serving.measures import Measures
from multimodal.serving.transcriptions import Transcriber

ASKED = 3
"""Requests of a client, one after another."""
QUESTION = "What is the capital of the country in which the river begins?"
AGAINST = f"transformers {transformers.__version__} generate, same framework"


def run() -> Iterator[Ratio]:
    """The tiny core and one of half a billion weights, at three numbers of clients."""
    for name, config, num_new, pairs in (
        ("tiny core", TINY, 32, 5),
        ("0.5B core", HALF_BILLION, 8, 2),
    ):
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder)
            save_llama(directory, dtype=torch.float32, **config)
            train_bpe([QUESTION], num_merged=64).save(directory)
            assistant = load(directory, device="cpu")
            assistant.configure(stop_ids=(), max_loop=0)
            theirs = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
            with (
                _served(_ours(assistant, num_new)) as here,
                _served(_plain(assistant, theirs, num_new)) as there,
            ):
                for clients in (1, 8, 32):
                    yield compare(
                        f"endpoint, {name}, {clients} clients",
                        ours=_asking(here, clients),
                        theirs=_asking(there, clients),
                        against=AGAINST,
                        target=1.0 if clients == 1 else 1.5,
                        pairs=pairs,
                    )


def _ours(assistant: Assistant, num_new: int) -> Starlette:
    limits = Limits(answer_tokens=num_new)
    engine = Engine(
        assistant.model, assistant.processor, num_rows=32, max_length=256, max_waiting=64
    )
    return Endpoint(
        assistant=assistant,
        engine=engine,
        transcriber=Transcriber(assistant, limits, max_waiting=1),
        measures=Measures(),
        limits=limits,
        model="model",
    ).app()


def _plain(assistant: Assistant, model: Any, num_new: int) -> Starlette:
    """One request after another through ``generate``."""
    turn = asyncio.Lock()

    def answer(messages: list[Any]) -> str:
        prompt = torch.from_numpy(assistant.processor.encode(messages, train=False).tokens)[None]
        with torch.inference_mode():
            out = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=num_new,
                min_new_tokens=num_new, do_sample=False, pad_token_id=0,
            )  # fmt: skip
        return assistant.processor.tokenizer.decode(
            out[0, prompt.shape[1] :].tolist(), skip_special=True
        )

    async def chat(request: Request) -> Response:
        body = await request.json()
        async with turn:
            text = await run_in_threadpool(answer, body["messages"])
        return JSONResponse({"choices": [{"message": {"role": "assistant", "content": text}}]})

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])


@contextmanager
def _served(app: Starlette) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1/chat/completions"
        server.should_exit = True
        thread.join()


def _asking(url: str, clients: int) -> Callable[[], object]:
    body = {"model": "model", "messages": [{"role": "user", "content": QUESTION}]}

    async def everyone() -> None:
        async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=64)) as http:

            async def one() -> None:
                for _ in range(ASKED):
                    (await http.post(url, json=body)).raise_for_status()

            await asyncio.gather(*(one() for _ in range(clients)))

    return lambda: asyncio.run(everyone())
