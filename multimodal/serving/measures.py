"""What an endpoint does, in numbers that Prometheus reads."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Measures:
    """Counters of one endpoint."""

    def __init__(self) -> None:
        """Begin at 0."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "openherd_requests", "Requests by path and status.", ["path", "status"],
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "openherd_request_seconds", "Time to the answer, or to a stream's start.", ["path"],
            registry=self._registry, buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
        )  # fmt: skip
        self._tokens = Counter(
            "openherd_tokens", "Tokens of prompts and of answers.", ["kind"],
            registry=self._registry,
        )  # fmt: skip
        self._now = Gauge(
            "openherd_requests_now", "Requests that run, and that wait for a row.", ["state"],
            registry=self._registry,
        )  # fmt: skip

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def said(self, *, prompt: int, answer: int) -> None:
        """Count the tokens of a request."""
        self._tokens.labels("prompt").inc(prompt)
        self._tokens.labels("answer").inc(answer)

    def text(self, *, running: int, waiting: int) -> str:
        """All of it, in Prometheus' text form."""
        self._now.labels("running").set(running)
        self._now.labels("waiting").set(waiting)
        return generate_latest(self._registry).decode()
