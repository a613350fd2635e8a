"""An endpoint of the shipped model, served for real on a port of its own."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
import uvicorn

from multimodal import load
from multimodal.locations import TINY
from multimodal.serving.app import Endpoint
from multimodal.serving.engine import Engine
from multimodal.serving.limits import Limits
from multimodal.serving.measures import Measures
from multimodal.serving.transcriptions import Transcriber

LIMITS = Limits(body_bytes=4 << 20, body_seconds=1.0, sound_seconds=20.0, media=3)


@dataclass
class Served:
    url: str
    endpoint: Endpoint

    def client(self, **more) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", **{"api_key": "any", "max_retries": 0,
                                                          "timeout": 60, **more})  # fmt: skip


@pytest.fixture(scope="session")
def assistant():
    return load("tiny", device="cpu")


def serve(assistant, *, rows: int = 8, queue: int = 64, **more) -> Iterator[Served]:
    engine = Engine(
        assistant.model, assistant.processor, num_rows=rows, max_length=256, max_waiting=queue
    )
    endpoint = Endpoint(
        assistant=assistant,
        engine=engine,
        transcriber=Transcriber(assistant, LIMITS, max_waiting=4),
        measures=Measures(),
        limits=LIMITS,
        model="tiny",
        **more,
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(endpoint.app(), host="127.0.0.1", port=port, log_level="error")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Served(url=f"http://127.0.0.1:{port}", endpoint=endpoint)
    server.should_exit = True
    thread.join(10)
    engine.close()


@pytest.fixture(scope="module")
def served(assistant):
    yield from serve(assistant)


@pytest.fixture
def locked(assistant):
    yield from serve(assistant, key="secret", files=Path(TINY / "samples"))


@pytest.fixture
def narrow(assistant):
    yield from serve(assistant, rows=1, queue=1)
