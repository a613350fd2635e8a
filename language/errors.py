"""What the user did wrong, said in one line."""

from pathlib import Path


class InputError(ValueError):
    """A mistake in what the user gave: a file, a directory, a value.

    The message is one line, ``SOURCE: fault``. The command prints it and exits with 2; training
    counts it and skips the sample.
    """

    def __init__(self, source: str | Path, fault: str) -> None:
        """Say which file or value (``source``) has which ``fault``."""
        self.source, self.fault = str(source), fault
        super().__init__(" ".join(f"{source}: {fault}".split()))

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str]]:
        """Survive the way back from a loader's worker process."""
        return type(self), (self.source, self.fault)
