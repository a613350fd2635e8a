"""Stop texts: an answer ends before the first of them, and nothing of one is ever shown."""

from collections.abc import Sequence


class StopText:
    """Passes text on, but for what may become a stop text."""

    def __init__(self, stops: Sequence[str]) -> None:
        """Look for ``stops``."""
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.is_found = False
        """Whether a stop text came; what follows it is dropped."""

    def push(self, text: str) -> str:
        """Add text; gives what can be shown."""
        if self.is_found:
            return ""
        self._held += text
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.is_found = True
            shown, self._held = self._held[: min(places)], ""
            return shown
        kept = max((self._overlap(stop) for stop in self._stops), default=0)
        cut = len(self._held) - kept
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def finish(self) -> str:
        """What was held back for a stop text that did not come."""
        held, self._held = self._held, ""
        return "" if self.is_found else held

    def _overlap(self, stop: str) -> int:
        """Characters at the end of what is held that a stop text may begin with."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)
