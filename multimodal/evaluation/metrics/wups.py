"""WUPS: NExT-QA's open-ended questions (section 7.6), whose answers are alike rather than right.

Published numbers lemmatise by a tagger and a stemmer whose models NLTK downloads. Here the part of
speech is guessed by a rule (see `content_words`), so that a dictionary folder is all it takes.
"""

import re
from collections.abc import Sequence
from math import prod

from multimodal.evaluation.metrics.wordnet import PARTS, WordNet

EXACT_TYPES = frozenset({"DB", "DC"})
"""Types of questions, yes-or-no and counting, whose answers are right or wrong."""


def next_qa_score(
    answer: str,
    *,
    references: Sequence[str],
    question_type: str,
    wordnet: WordNet,
    threshold: float = 0.0,
) -> float:
    """The score of one answer, 0 to 1, as NExT-QA (Xiao et al. 2021) has it; its mean is WUPS.

    Questions of ``EXACT_TYPES`` want the words of a reference; a full stop is a word, so that
    "Yes." is wrong for "yes". Other answers have their WUPS.

    Args:
        answer: the prediction.
        references: the answer of the benchmark and, where there is one, its second answer.
        question_type: the benchmark's own, such as "CW" or "DC".
        wordnet: the dictionary.
        threshold: 0.0 or, for WUPS@0.9, 0.9. (lmms-eval has 0.0 in place of it for second
            answers; the benchmark's own code does not.)

    Raises:
        ValueError: there are no references.
    """
    if question_type not in EXACT_TYPES:
        return wups(answer, references=references, wordnet=wordnet, threshold=threshold)
    _check(references)
    words = content_words(answer, wordnet=wordnet)
    return float(any(content_words(text, wordnet=wordnet) == words for text in references))


def wups(
    answer: str, *, references: Sequence[str], wordnet: WordNet, threshold: float = 0.0
) -> float:
    """How alike the words of an answer and of the nearest reference are, 0 to 1.

    Each word of one text has the similarity of the most similar word of the other. Their product is
    taken in both directions, and the lesser one counts (Malinowski and Fritz 2014). Words that are
    like none at all do not count, in NExT-QA's version of it: so "red dog" is wholly like "dog"
    where nothing is like "red".

    Args:
        answer: the prediction.
        references: the answers that are accepted.
        wordnet: the dictionary.
        threshold: similarities below it are taken for a tenth of themselves.

    Raises:
        ValueError: there are no references.
    """
    _check(references)
    words = content_words(answer, wordnet=wordnet)
    scores = []
    for reference in references:
        true = content_words(reference, wordnet=wordnet)
        scores.append(
            min(
                _directed(words, true, wordnet=wordnet, threshold=threshold),
                _directed(true, words, wordnet=wordnet, threshold=threshold),
            )
        )
    return max(scores)


def content_words(text: str, *, wordnet: WordNet) -> list[str]:
    """The base forms of a text's words, in order, without NExT-QA's stop words.

    Words are parted as in the Penn Treebank. A word is taken for a verb if it ends in -ing or -ed,
    or is irregular and no adjective (as "left" is), and is no verb's base form; otherwise for the
    first part of speech that knows it, nouns first. Of several base forms the shortest is taken. A
    word without any is stemmed, if the stem is in the dictionary.
    """
    from nltk.tokenize import TreebankWordTokenizer

    tokenizer = TreebankWordTokenizer()  # which parts a full stop from the last word only
    sentences = re.split(r"(?<=[.!?])\s+", text)
    words = [word for sentence in sentences for word in tokenizer.tokenize(sentence)]
    bases = [_base(word, wordnet) for word in map(str.lower, words) if word not in STOP_WORDS]
    return [base for base in bases if base not in STOP_WORDS]


def _base(word: str, wordnet: WordNet) -> str:
    verbs = wordnet.base_forms(word, part="verb")
    if verbs and word not in verbs:
        irregular = wordnet.is_irregular(word, part="verb")
        if word.endswith(("ing", "ed")) or (irregular and not wordnet.base_forms(word, part="adj")):
            return min(verbs, key=len)
    for part in PARTS:
        if forms := wordnet.base_forms(word, part=part):
            return min(forms, key=len)
    from nltk.stem import PorterStemmer

    stem = PorterStemmer().stem(word)
    return stem if wordnet.synset(stem) else word


def _directed(
    words: Sequence[str], others: Sequence[str], *, wordnet: WordNet, threshold: float
) -> float:
    """The product, over words, of the similarity to the most similar of others."""
    best = [
        max((_similarity(word, other, wordnet, threshold) for other in others), default=0.0)
        for word in words
    ]
    alike = [similarity for similarity in best if similarity > 0]
    return prod(alike) if alike else 0.0


def _similarity(first: str, second: str, wordnet: WordNet, threshold: float) -> float:
    """Of the first meanings; a word is wholly like itself, also one without a meaning."""
    if first == second:
        return 1.0
    one, other = wordnet.synset(first), wordnet.synset(second)
    if one is None or other is None:
        return 0.0
    similarity = wordnet.similarity(one, other)
    return similarity if similarity >= threshold else 0.1 * similarity


def _check(references: Sequence[str]) -> None:
    if not references:
        raise ValueError("WUPS needs references")


STOP_WORDS = frozenset(
    """
    i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she
    her hers herself it its itself they them their theirs themselves what which who whom this that
    these those am is are was were be been being have has had having do does did doing a an the and
    but if or because as until while to from of at for with about into through during again further
    then here there when where why how all any each most other some such only own so than too very s
    t can will just don should now d ll m o re ve y ain aren couldn didn doesn hadn hasn haven isn
    ma mightn mustn needn shan shouldn wasn weren won wouldn
    """.split()
)
"""NExT-QA's own list, which spares words of place and number such as "in", "up", "no", "both". The
contractions of the list are left out, since no word of a parted text is one."""
