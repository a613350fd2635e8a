"""A small endpoint on this machine, which says what it is told to say."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Reply = tuple[int, bytes]
"""Status and body."""


@dataclass
class Served:
    """What an endpoint was asked."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


def completion(text: Any, model: str = "judge-0613") -> Reply:
    """A completed chat."""
    said = {"model": model, "choices": [{"message": {"role": "assistant", "content": text}}]}
    return 200, json.dumps(said).encode()


@contextmanager
def endpoint(says: Callable[[str, int], Reply]) -> Iterator[Served]:
    """Serve; ``says`` is given what the user said and the number of the request."""
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.asked.append(body)
            served.keys.append(self.headers.get("Authorization"))
            served.paths.append(self.path)
            status, reply = says(body["messages"][-1]["content"], len(served.asked))
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("Location", reply.decode())
                reply = b""
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
