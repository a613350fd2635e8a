"""Text in which it matters what was spoken of before says so truly, and gives no template away."""

import random
import re
from itertools import islice

from multimodal.world import mentions
from multimodal.world.lexicon import CLASSES, NOUNS
from multimodal.world.prosody_sentences import _TEMPLATES

CONCEPT = {word: names for names in NOUNS for word in names}
KINDS = {*CLASSES["colour"], *CLASSES["adjective"]}


def test_no_word_names_two_things():
    assert len(CONCEPT) == sum(map(len, NOUNS))


def test_what_follows_says_whether_it_is_the_same():
    rng, seen = random.Random(1), set()
    for _ in range(500):
        text = mentions.drawn(rng)
        said = [(tag, key) for key, tags in mentions.FOLLOWS.items() for tag in tags if tag in text]
        tag, (is_same, is_alike) = max(said, key=lambda pair: len(pair[0]))
        words = re.findall(r"\w+", text[: text.index(tag)])
        things = [index for index, word in enumerate(words) if word.lower() in CONCEPT]
        first, second = (things[0], things[-1])
        assert (CONCEPT[words[first].lower()] == CONCEPT[words[second].lower()]) == is_same, text
        looks = [words[index - 1] for index in (first, second)]
        if set(looks) <= KINDS:
            assert (looks[0] == looks[1]) == is_alike, text
        else:
            assert is_same == is_alike
        seen.add((is_same, is_alike))
    assert seen == set(mentions.FOLLOWS)


def test_again_is_what_was_met_before():
    rng, both = random.Random(2), set()
    for _ in range(100):
        met = []
        for word, said in re.findall(r"\ban? (\w+) (again|too)", mentions.walk(rng)):
            assert (said == "again") == (CONCEPT[word] in met)
            met.append(CONCEPT[word])
            both.add(said)
    assert both == {"again", "too"}


def test_an_echo_names_the_same_things_in_the_same_order():
    rng = random.Random(3)
    for _ in range(100):
        said = [CONCEPT[w] for w in re.findall(r"\w+", mentions.echo(rng).lower()) if w in CONCEPT]
        assert said[: len(said) // 2] == said[len(said) // 2 :]


def test_no_template_of_prosody_is_among_it():
    def bare(text):
        return re.sub(r"\[\w+\]|[#%~]", "", text).strip(" .,").lower()

    frames = {bare(f) for group in (mentions.FIRST, mentions.SECOND, mentions.WALKS) for f in group}
    halves = {
        bare(part)
        for kinds in _TEMPLATES.values()
        for templates in kinds.values()
        for template in templates
        for part in re.split(r"[.,!]| and | but | so ", template)
        if len(bare(part).split()) > 2
    }
    assert not frames & halves


def test_the_same_seed_tells_the_same():
    told = [list(islice(mentions.sentences(seed=seed), 30)) for seed in (1, 1, 2)]
    assert told[0] == told[1] != told[2]
