"""How much one client may ask for, and what is told to one that asks for more."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of an endpoint."""

    body_bytes: int = 64 << 20
    """Longest request."""
    body_seconds: float = 30.0
    """Longest wait for the next part of a request."""
    messages: int = 256
    """Most messages of a dialogue."""
    media: int = 16
    """Most pictures, clips and recordings of a dialogue."""
    sound_seconds: float = 3600.0
    """Longest recording that is written down."""
    answer_tokens: int = 1024
    """Longest answer, and the default."""
    stop_texts: int = 4
    """Most stop texts, as OpenAI's."""


class RefusedError(Exception):
    """A request that is not answered: an HTTP status, and what is wrong, in OpenAI's form."""

    def __init__(self, status: int, message: str, *, kind: str = "", param: str = "") -> None:
        """Say what is wrong.

        Args:
            status: of HTTP.
            message: one line.
            kind: OpenAI's ``type``; by default what goes with the status.
            param: field of the request that is at fault.
        """
        super().__init__(message)
        usual = "invalid_request_error" if status < 500 else "server_error"
        self.status, self.message, self.kind, self.param = status, message, kind or usual, param

    def to_json(self) -> dict[str, Any]:
        """OpenAI's form of an error."""
        about = {"message": self.message, "type": self.kind, "param": self.param or None}
        return {"error": {**about, "code": None}}
