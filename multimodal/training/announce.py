"""What a training tells whoever watches it: on stdout, from the first process alone, at once."""

from lightning.pytorch.utilities import rank_zero_only


@rank_zero_only
def announce(text: str) -> None:
    """Print a line or a table."""
    print(text, flush=True)
