"""Who may be asked about answers: an endpoint as OpenAI's is, or a Python function.

Neither is ever asked unless the command names it, and no address is known here. The endpoint's key
is read from the environment, goes to that address alone, and is written nowhere.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from language.errors import InputError
from multimodal.evaluation.benchmark import Judging

KEY = "OPENHERD_JUDGE_KEY"
"""Variable of the environment that holds the endpoint's key."""
AT_ONCE = 8
"""Questions that are with the endpoint at a time."""
PATIENCE = (1.0, 4.0, 15.0, 60.0)
"""Seconds before an endpoint that is busy, or out of reach, is asked again."""
SECONDS = 120.0
"""That an answer may take."""
MAX_REPLY_BYTES = 1 << 20
MAX_TOKENS = 256
"""Of a verdict."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What was said to one question."""

    number: int
    """Of the question among those that were asked."""
    verdict: Any
    version: str
    """Who said it, more exactly than they are called: the model that an endpoint reports."""


class Judge(Protocol):
    """Somebody who is asked about answers."""

    @property
    def about(self) -> dict[str, str]:
        """What tells them from others."""

    def ask(self, texts: Sequence[str]) -> Iterator[Reply]:
        """Give a reply to each text, in any order.

        Raises:
            InputError: they do not answer, or not in the way that is wanted.
        """


def judge(named: str, *, judging: Judging, model: str = "") -> Judge:
    """Somebody by their name.

    Args:
        named: address of an endpoint, or ``module:function``.
        judging: what they are asked for.
        model: that the endpoint is to run.

    Raises:
        InputError: there is no such function, or the address is none, or has no model.
    """
    option = f"--{judging.option}"
    if "://" not in named:
        if model:
            raise InputError("--judge_model", f"is of an endpoint, and {named} is a function")
        return Function(named, function=_function(named, option=option), judging=judging)
    if judging.verdict is not str:
        raise InputError(option, "must be module:function; an endpoint does not classify")
    return Endpoint(url=_checked(named, option=option), model=model, judging=judging)


class Function:
    """A function that takes a list of texts and gives a verdict on each.

    The ``__version__`` of its module, if there is one, tells its verdicts from those of another.
    """

    def __init__(
        self, name: str, *, function: Callable[[list[str]], Sequence[Any]], judging: Judging
    ) -> None:
        """Name it as ``module:function``."""
        self.name, self.function, self.judging = name, function, judging
        self.version = str(getattr(sys.modules.get(name.partition(":")[0]), "__version__", ""))

    @property
    def about(self) -> dict[str, str]:
        """Name and version."""
        return {"name": self.name, "version": self.version}

    def ask(self, texts: Sequence[str]) -> Iterator[Reply]:
        """Give its verdicts.

        Raises:
            InputError: it fails, or gives too few or other things.
        """
        before = f"{self.judging.instructions}\n\n" if self.judging.instructions else ""
        try:
            given = list(self.function([before + text for text in texts]))
        except Exception as error:  # somebody else's code
            raise InputError(self.name, f"failed: {type(error).__name__}: {error}") from error
        verdicts = [each.item() if hasattr(each, "item") else each for each in given]
        kind = self.judging.verdict
        if odd := [each for each in verdicts if not isinstance(each, kind)]:
            raise InputError(self.name, f"gave {odd[0]!r:.60}, where {kind.__name__} is wanted")
        if len(verdicts) != len(texts):
            raise InputError(self.name, f"gave {len(verdicts)} verdicts on {len(texts)} texts")
        for number, verdict in enumerate(verdicts):
            yield Reply(number=number, verdict=verdict, version=self.version)


class Endpoint:
    """An endpoint that completes chats; several questions are with it at a time."""

    def __init__(self, *, url: str, model: str, judging: Judging) -> None:
        """Name its address, with or without ``/chat/completions``, and its model."""
        if not model:
            raise InputError("--judge_model", "name the model that the endpoint is to run")
        self.url = url.rstrip("/").removesuffix("/chat/completions")
        self.model, self.judging = model, judging
        self._opener = build_opener(_Stays)

    @property
    def about(self) -> dict[str, str]:
        """Model and address."""
        return {"name": self.model, "url": self.url}

    def ask(self, texts: Sequence[str]) -> Iterator[Reply]:
        """Give its replies as they come.

        Raises:
            InputError: one cannot be had; the others that are under way are given before.
        """
        fault = None
        with ThreadPoolExecutor(AT_ONCE) as workers:
            asked = {workers.submit(self._asked, text): n for n, text in enumerate(texts)}
            for done in as_completed(asked):
                if done.cancelled():
                    continue
                try:
                    verdict, version = done.result()
                except InputError as error:
                    fault = error
                    for each in asked:
                        each.cancel()
                    continue
                yield Reply(number=asked[done], verdict=verdict, version=version)
        if fault is not None:
            raise fault

    def _asked(self, text: str) -> tuple[str, str]:
        """Verdict, and the model that gave it."""
        messages = [{"role": "user", "content": text}]
        if self.judging.instructions:
            messages.insert(0, {"role": "system", "content": self.judging.instructions})
        content = {
            "model": self.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        request = Request(
            f"{self.url}/chat/completions", data=json.dumps(content).encode(), headers=headers
        )
        reply = self._sent(request)
        try:
            data = json.loads(reply)
            said = data["choices"][0]["message"]["content"]
            if not isinstance(said, str):
                raise TypeError
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            raise InputError(self.url, f"no completion of a chat: {reply[:60]!r}") from None
        return said, str(data.get("model", ""))

    def _sent(self, request: Request) -> bytes:
        for seconds in (*PATIENCE, None):
            try:
                with self._opener.open(request, timeout=SECONDS) as reply:
                    return bytes(reply.read(MAX_REPLY_BYTES))
            except HTTPError as error:
                fault, may_pass = f"status {error.code}", error.code == 429 or error.code >= 500
            except (URLError, OSError, HTTPException) as error:
                fault, may_pass = str(getattr(error, "reason", error)), True
            if seconds is None or not may_pass:
                break
            time.sleep(seconds)
        raise InputError(self.url, f"does not answer ({fault})")


class _Stays(HTTPRedirectHandler):
    """Follows nobody to another address, which would be given the key."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Make of every redirection an error."""


def _checked(url: str, *, option: str) -> str:
    """An address that can be asked, and that can be written down.

    Raises:
        InputError: it cannot.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        is_address = False
    if not is_address:
        raise InputError(option, "what it names is no http address")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(option, f"an address alone: a key belongs into the environment, as {KEY}")
    return url


def _function(named: str, *, option: str) -> Callable[[list[str]], Sequence[Any]]:
    """A function of a module that is installed, or lies in the working directory.

    Raises:
        InputError: there is none.
    """
    module, _, name = named.partition(":")
    if not module or not name:
        raise InputError(option, f"{named!r:.80} is neither an address nor module:function")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # at the end: nothing that is installed is shadowed
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(option, f"{named}: {error}") from None
    if not callable(found):
        raise InputError(option, f"{named} is no function")
    return found
