"""Text before a stop text is shown whole, whatever pieces it comes in, and nothing after."""

from hypothesis import given
from hypothesis import strategies as st

from multimodal.serving.stopping import StopText

LETTERS = st.text("ab", max_size=12)


@given(text=LETTERS, stops=st.lists(st.text("ab", min_size=1, max_size=3), max_size=3),
       cuts=st.lists(st.integers(0, 12), max_size=6))  # fmt: skip
def test_pieces_show_what_the_whole_text_would(text, stops, cuts):
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    stop, shown = StopText(stops), ""
    for start, end in zip(edges, edges[1:], strict=False):
        before = stop.is_found
        piece = stop.push(text[start:end])
        assert not (before and piece)
        shown += piece
    shown += stop.finish()
    ends = [i for i in range(len(text) + 1) if any(text[:i].endswith(each) for each in stops)]
    if not ends:
        assert shown == text and not stop.is_found
    else:  # what had come when the first stop text was whole decides, and the earliest in that
        known = [text[:edge] for edge in edges if any(each in text[:edge] for each in stops)][0]
        first = min(known.find(each) for each in stops if each in known)
        assert shown == text[:first] and stop.is_found
