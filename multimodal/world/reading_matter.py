"""What the speaking core reads before it is frozen: text in which words keep their company.

A real core knows from its pre-training that Alaric is a king, that a locker has a number which
nobody counts, that a hound is a dog. The speaking core learns as much of the words of
:mod:`multimodal.world.lexicon`, held-out ones among them, from sentences that say what things are
and do, and besides (:mod:`multimodal.world.speaking`) from the templates of training with all words
in them, and from texts in which it matters what was spoken of before
(:mod:`multimodal.world.mentions`). It is text alone: nothing says how anything is read aloud, and
no test template is among it.
"""

import random
import re
from collections.abc import Iterator

from multimodal.world.lexicon import CLASSES, SYNONYMS

FRAMES: dict[str, tuple[str, ...]] = {
    "ruler": (
        "King [ruler] was crowned in [city].",
        "When [ruler] took the throne, the kingdom was [adjective].",
        "[ruler] reigned for many years and built a [adjective] palace.",
        "The reign of [ruler] began with a war.",
        "Emperor [ruler] and Pope [ruler] signed the treaty.",
        "A statue of [ruler] the Great stands in [city].",
        "[ruler] the second was the son of [ruler] the first.",
        "The crown of [ruler], king of the realm, was lost.",
        "[ruler] inherited the crown from his father.",
    ),
    "part": (
        "The next [part] is longer than the one before.",
        "Please open the book at the [adjective] [part].",
        "[part] one and [part] two are easy, [part] three is hard.",
        "Each [part] has a title and a number.",
        "We finished the first [part] of the manual.",
        "In this [part] the author explains the [adjective] rules.",
        "[part] four follows [part] three.",
        "The [part] begins on a new page.",
    ),
    "person": (
        "Mister [person] and Doctor [person] met in [city].",
        "[given] [person] works as a doctor in [city].",
        "The [person] family lives near the [place].",
        "Professor [person] taught [given] [person] for years.",
        "[given] [person] sold the [adjective] [thing] to Missus [person].",
        "Ask [person], she knows the answer.",
    ),
    "saint": (
        "Saint [saint] is honoured in [city].",
        "The church of Saint [saint] is [adjective].",
        "[saint] was a holy man, a martyr and a saint.",
        "Pilgrims pray to Saint [saint] for rain.",
        "The feast of [saint] the martyr is in spring.",
    ),
    "street": (
        "They live on [street] Street, near the [place].",
        "[street] Avenue crosses [street] Drive.",
        "Turn left into [street] Lane and stop at the [place].",
        "The [thing] was parked on [street] Road.",
        "The [adjective] house on [street] Drive was sold.",
    ),
    "code": (
        "Never tell anyone the [code] number.",
        "Type the [code] digit by digit and press enter.",
        "The [code] was rejected because one digit was wrong.",
        "Write down your [code] and keep it secret.",
        "My [code] has four digits.",
        "The clerk asked for the [code] and checked every digit.",
        "A [code] is not an amount, it is read digit by digit.",
    ),
    "quantity": (
        "The [quantity] grew to more than a thousand.",
        "The [quantity] doubled and is now a large amount.",
        "A high [quantity] is good for [city].",
        "They measured the [quantity] and it was an amount in thousands.",
        "The [quantity] fell by half, then rose again.",
        "How large is the [quantity]?",
    ),
    "counted": (
        "There are so many [counted] that nobody counts them.",
        "Hundreds of [counted] were lost in the storm.",
        "How many [counted] do you need?",
        "We counted all the [counted] in the [place].",
        "A few [counted] more and several [counted] less make no difference.",
        "The number of [counted] grew to a thousand.",
        "They bought a dozen [counted] for the [place].",
    ),
    "team": (
        "The [team] beat the [team] in the final.",
        "The [team] won the match by a goal.",
        "Fans of the [team] sang in the stadium.",
        "The coach of the [team] praised the players.",
        "The [team] lost the game against [city].",
        "The final score made the [team] happy.",
    ),
    "task": (
        "It takes several [task].",
        "After many [task] they stopped.",
        "Wait a few [task] and try again.",
        "Three or four [task] are enough.",
        "Between six and nine [task] went by.",
    ),
    "material": (
        "The [material] is made of metal.",
        "A heavy [material] of lead and iron.",
        "They melted the metal [material] in the furnace.",
        "The [material] is a dense, grey metal, and poisonous.",
    ),
    "led": (
        "He guided the [led] through the streets.",
        "She took the [led] to victory.",
        "Who will guide the [led] next year?",
        "The head of the [led] walked in front.",
    ),
    "text": (
        "[given] wrote a [adjective] [text] about [city].",
        "The [text] lies open on the table.",
        "I wrote the [text] yesterday, and she will write one tomorrow.",
        "A [text] has words, lines and sentences.",
    ),
    "colour": (
        "Red, blue and green are colours, and so is [colour].",
        "The [colour] [thing] is nicer than the [colour] [thing].",
        "[given] painted the [thing] [colour], not [colour].",
        "Her [thing] is [colour] and his is [colour].",
    ),
    "animal": (
        "The [animal] saw the [animal] and ran away.",
        "A [animal] is an animal, as is a [animal].",
        "[given] fed the [animal] and the [animal].",
        "The [animal] slept in the [place], not in the [place].",
    ),
    "food": (
        "We bought [food], [food] and [food].",
        "[given] likes [food] but not [food].",
        "Would you like some [food] with the [food]?",
    ),
    "place": (
        "[given] went to the [place], not to the [place].",
        "The [place] is near the [place].",
        "Did [given] go to the [place] or to the [place]?",
        '"I was in the [place]," said [given].',
        '"Where is the [thing]?" asked [given].',
    ),
    "synonym": (
        "A [one] is a [two].",
        "The [one] came home. The [two] was tired.",
        "They call the [one] a [two].",
        "[given] saw the [one], and the [two] saw [given].",
        "Some say [one], some say [two].",
        "The [adjective] [one], or [two], was gone.",
    ),
    "written": (
        "In [year] the [place] was built.",
        "Between [year] and [year] the [place] was closed.",
        "Call [phone] before [clock].",
        "It costs $[amount] or [amount] euros.",
        "The [place] opens at [clock] and closes at [clock].",
        "[number] people came, [number] stayed.",
        "Add [amount] kg of [food] and [amount] km of road.",
        "About [amount]% of the [counted] are [adjective].",
        "Read it yesterday, read it every day.",
        "On [small]/[small] the [team] won [small]-[small].",
    ),
}
"""Frames by the class that they tell about; `[class]` is any word of that class."""
_SLOT = re.compile(r"\[(\w+)\]")


def sentences(*, seed: int) -> Iterator[str]:
    """Sentences without end."""
    rng = random.Random(seed)
    while True:
        kind = rng.choice(list(FRAMES))
        yield filled(rng.choice(FRAMES[kind]), rng)


def filled(frame: str, rng: random.Random) -> str:
    """A frame with words drawn for its slots, and a capital at its begin."""
    meant = rng.choice(list(SYNONYMS))
    names = [meant, *SYNONYMS[meant]]
    rng.shuffle(names)
    drawn = {
        "one": lambda: names[0],
        "two": lambda: names[1],
        "year": lambda: str(rng.randint(1100, 2040)),
        "number": lambda: str(rng.randint(2, 10 ** rng.randint(1, 5))),
        "small": lambda: str(rng.randint(1, 12)),
        "amount": lambda: rng.choice(["{}", "{}.5", "{}.25"]).format(rng.randint(1, 99)),
        "phone": lambda: f"555-{rng.randint(100, 9999):04d}",
        "clock": lambda: f"{rng.randint(1, 12)}:{rng.randint(0, 59):02d}",
    }

    def draw(slot: re.Match[str]) -> str:
        name = slot[1]
        word = drawn[name]() if name in drawn else rng.choice(CLASSES[name])
        return word[:1].upper() + word[1:] if slot.start() == 0 else word

    return _SLOT.sub(draw, frame)
