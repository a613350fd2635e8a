"""Loops at the end of an answer, found and cut: equal to their definition by brute force."""

from hypothesis import given
from hypothesis import strategies as st

from language.repetition import cut_repetition, ends_in_loop

LIMITS = {"max_loop": st.integers(0, 6), "num_loops": st.integers(2, 4)}
RUN = st.lists(st.integers(0, 2), max_size=7)


def defined(tokens: list[int], *, max_loop: int, num_loops: int) -> int:
    for size in range(1, max_loop + 1):
        times = num_loops
        while times * size < max_loop:
            times += 1
        if times * size <= len(tokens) and tokens[-times * size :] == tokens[-size:] * times:
            return size
    return 0


@given(start=RUN, run=RUN, times=st.integers(0, 12), rest=RUN, **LIMITS)
def test_found_and_cut_as_defined(
    start: list[int], run: list[int], times: int, rest: list[int], max_loop: int, num_loops: int
) -> None:
    tokens = start + run * times + rest
    limits = {"max_loop": max_loop, "num_loops": num_loops}
    size = ends_in_loop(tokens, **limits)
    assert size == defined(tokens, **limits)
    kept = cut_repetition(tokens, **limits)
    if not size:
        assert kept == tokens
        return
    # The shortest beginning that, repeating its last `size` tokens for ever, says all of it.
    for length in range(size, len(tokens) + 1):
        said = tokens[:length]
        while len(said) < len(tokens):
            said.append(said[-size])
        if said == tokens:
            break
    assert kept == tokens[:length]


@given(start=RUN, run=st.lists(st.integers(3, 9), min_size=1, max_size=6), more=st.integers(0, 5))
def test_cut_alike_wherever_the_answer_stopped(start: list[int], run: list[int], more: int) -> None:
    endless = run * 40
    texts = [start + endless[:length] for length in (6 * 32, 6 * 32 + more)]
    assert cut_repetition(texts[0]) == cut_repetition(texts[1])
    kept = cut_repetition(texts[0])
    assert kept[: len(start)] == start and len(start) < len(kept) <= len(start) + len(run)


def test_by_default_what_a_generation_stops_at() -> None:
    words = [5, 8, 1, 9, 4, 2, 7, 3, 6]
    assert cut_repetition([1, 2, *words * 4]) == [1, 2, *words]
    assert cut_repetition([1, 2, *words * 3]) == [1, 2, *words * 3]  # a refrain
    assert cut_repetition([1, *[7] * 31]) == [1, *[7] * 31]
    assert cut_repetition([1, *[7] * 32]) == [1, 7]
    assert cut_repetition([]) == []
