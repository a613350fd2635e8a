"""What models say, made up: the strings on which our metrics are compared with others' code."""

from hypothesis import strategies as st

TRICKY = (
    "", " ", "\n", "\t\n", ".", "..", ",", "'", "-", "%", "$", "$5", "£3.50", "5%", "5 %", "1,000",
    "1,000.50", "-3", "+3", "1e3", "1.5e-3", ".5", "5.", "3.0", "007", "½", "٣", "１２", "inf",
    "nan", "1_000", "0", "0.0", "two", "Two", "none", "ten", "a", "A", "an", "The", "the", "a.m.",
    "dont", "don't", "couldnt've", "hes", "men's", "mens", "o'clock", "oclock", "yall", "Id've",
    "can not", "U.S.A.", "DNA", "a-b - c", "red/blue", "[x]", "(b)", "B.", "B", "b", "(B)", "_B_",
    "The answer is B", "So (A), not (C).", "A or B", "it is 3.50", "answer is 1,234", "x = 4",
    "naïve", "Straße", "ＡＢ", "İ", "ﬁ", "e\u0301", "\u200b", "\u00a0", "你好", "हिंदी", "😀",
    "mr. smith", "it's twenty-one", "$20 million", "colour", "gonna", "uh hmm", "[noise] so",
    "1st", "nineteen ninety nine", "two thousand and one", "50 pence", "i've", "won't",
    "3 o'clock",
)  # fmt: skip
"""Numbers, articles, contractions, money, marks, scripts, and nothing."""

WORDS = st.one_of(
    st.sampled_from(TRICKY),
    st.text(alphabet="abABC ,.;:!?'\"-%$()/0123456789\n\té", max_size=8),
    st.text(max_size=6),
    st.floats(allow_nan=True, allow_infinity=True, width=16).map(str),
    st.integers(-10_000, 10_000).map("{:,}".format),
)
ANSWERS = st.lists(WORDS, max_size=6).map(" ".join)
"""Several of them one behind the other."""
