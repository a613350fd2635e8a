"""Answers that say the same again and again: when to stop one, and what of it to keep.

Models that read speech are known for it where they hear none. A run of tokens counts as a loop once
it stands often enough in a row; short runs, which lists and laughter repeat in earnest, must also
fill as many tokens as the longest run may have.
"""

from collections.abc import Sequence


def ends_in_loop(tokens: Sequence[int], *, max_loop: int, num_loops: int) -> int:
    """Size of the shortest run of tokens whose repetition ends ``tokens``; 0 if none does.

    Looks at the end alone, and at one token for nearly every size: cheap after each new token.

    Args:
        tokens: said so far.
        max_loop: longest run that counts.
        num_loops: times in a row that it must stand; a run of less than ``max_loop / num_loops``
            tokens must fill ``max_loop``.
    """
    end = len(tokens)
    for size in range(1, min(max_loop, end - 1) + 1):
        if tokens[-1] != tokens[-1 - size]:
            continue
        start = end - size * max(num_loops, -(-max_loop // size))
        if start >= 0 and tokens[start : end - size] == tokens[start + size :]:
            return size
    return 0


def cut_repetition(tokens: Sequence[int], *, max_loop: int = 32, num_loops: int = 4) -> list[int]:
    """What ``tokens`` say before they repeat themselves: of the loop at their end, one run.

    The repeated part reaches back as far as each token equals the one a run later, so that a loop
    is cut alike wherever the answer stopped. Tokens that end in no loop stay as they are; the
    arguments are those of :func:`ends_in_loop`, and by default those of a generation.
    """
    size = ends_in_loop(tokens, max_loop=max_loop, num_loops=num_loops)
    if not size:
        return list(tokens)
    start = len(tokens) - size
    while start and tokens[start - 1] == tokens[start - 1 + size]:
        start -= 1
    return list(tokens[: start + size])
