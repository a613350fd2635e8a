"""Word classes of the speaking world: what its sentences are filled with, and what is kept apart.

Speech out learns from sentences made of templates and words. What a template means often hangs on
the class of a word ("Chapter IV" is *four*, "Henry IV" *the fourth*), so every class is split: the
training sentences draw from one part, the test sentences from words that no training sentence has.
Only the language core has read all of them, in text that says nothing of how anything is spoken, as
a real core has read of kings and chapters long before anyone asks it to read them aloud.
"""

import random
from typing import Literal

WordSplit = Literal["train", "validation", "test", "all"]
"""Parts of each class; "all" is every word, for text that nobody learns to read aloud from."""

CLASSES: dict[str, tuple[str, ...]] = {
    "ruler": (
        *("Henry", "Louis", "Charles", "George", "Edward", "William", "Philip", "James", "Richard"),
        *("Frederick", "Leopold", "Otto", "Ivan", "Peter", "Alaric", "Sigismund", "Ferdinand"),
        *("Gustav", "Christian", "Victor", "Umberto", "Harald", "Olaf", "Magnus", "Ramses"),
        *("Ptolemy", "Darius", "Xerxes", "Baldwin", "Conrad", "Lothar", "Pedro", "Alfonso"),
        *("Matilda", "Catherine", "Margrethe", "Clement", "Urban", "Benedict", "Leo"),
    ),
    "part": (
        *("chapter", "part", "volume", "act", "section", "book", "phase", "level", "stage"),
        *("episode", "lesson", "unit", "article", "scene", "canto", "psalm", "verse", "appendix"),
        *("tier", "class", "group", "round", "module", "exhibit", "plate", "table", "figure"),
        *("type", "track", "step", "season", "column"),
    ),
    "person": (
        *("Lee", "Smith", "Garcia", "Brown", "Patel", "Kim", "Novak", "Jones", "Miller", "Davis"),
        *("Wilson", "Moore", "Clark", "Lewis", "Walker", "Young", "Allen", "Wright", "Scott"),
        *(
            "Torres",
            "Nguyen",
            "Baker",
            "Adams",
            "Nelson",
            "Carter",
            "Mitchell",
            "Roberts",
            "Turner",
        ),
        *("Phillips", "Campbell", "Parker", "Evans", "Edwards", "Collins", "Stewart", "Morris"),
        *("Rogers", "Reed", "Cook", "Morgan", "Bell", "Murphy", "Bailey", "Rivera", "Cooper"),
        *("Okafor", "Sato", "Weber", "Rossi", "Silva"),
    ),
    "given": (
        *("Ann", "Bob", "Clara", "David", "Emma", "Frank", "Grace", "Hugo", "Irene", "Jack"),
        *("Karen", "Liam", "Maria", "Noah", "Olivia", "Paul", "Quinn", "Rosa", "Sam", "Tina"),
        *("Ursula", "Vera", "Walter", "Yusuf", "Zoe", "Amir", "Bella", "Carlos", "Dora", "Elena"),
    ),
    "saint": (
        *("Andrew", "Anthony", "Brigid", "Cuthbert", "Denis", "Agnes", "Barbara", "Helena"),
        *("Jerome", "Martin", "Nicholas", "Patrick", "Lucia", "Thomas", "Vincent", "Monica"),
        *("Gregory", "Basil", "Ambrose", "Cecilia"),
    ),
    "street": (
        *("Elm", "Oak", "Maple", "Cedar", "Pine", "Walnut", "Chestnut", "Park", "Lake", "Hill"),
        *("River", "Spring", "Church", "Mill", "Bridge", "Station", "Market", "Garden", "Forest"),
        *("Meadow", "Sunset", "Highland", "Willow", "Birch", "Cherry", "Laurel", "Magnolia"),
        *("Juniper", "Orchard", "Harbor", "Canyon", "Prairie", "Summit", "Valley", "Ridge"),
        *("Aspen", "Hickory", "Poplar", "Sycamore", "Hawthorn"),
    ),
    "code": (
        *("PIN", "code", "password", "extension", "locker", "account", "ticket", "badge", "serial"),
        *("passcode", "combination", "voucher", "coupon", "permit", "license", "invoice", "order"),
        *("receipt", "booking", "passport", "membership", "reference", "tracking", "routing"),
        *("confirmation", "keypad", "vault", "alarm", "login", "terminal"),
    ),
    "quantity": (
        *("total", "sum", "attendance", "population", "headcount", "output", "turnout", "altitude"),
        *("distance", "tally", "turnover", "profit", "harvest", "quota", "enrollment", "stock"),
        *("budget", "balance", "debt", "income", "yield", "capacity", "weight", "height", "demand"),
        *("supply", "catch", "production", "consumption", "surplus"),
    ),
    "counted": (
        *("pages", "apples", "soldiers", "chairs", "bottles", "letters", "stones", "bricks"),
        *("students", "visitors", "tickets", "items", "houses", "trees", "flowers", "coins"),
        *("boxes", "crates", "barrels", "sheep", "horses", "cows", "boats", "trucks", "tiles"),
        *("candles", "lanterns", "pencils", "buttons", "blankets", "seats", "guests", "workers"),
        *("farmers", "sailors", "villages", "islands", "bridges", "windows", "ladders"),
    ),
    "team": (
        *("Rovers", "United", "Wanderers", "Tigers", "Lions", "Eagles", "Sharks", "Bears"),
        *("Hawks", "Wolves", "Giants", "Rangers", "Pirates", "Bulls", "Falcons", "Ravens"),
        *("Panthers", "Dolphins", "Comets", "Rockets", "Saints", "Knights", "Warriors", "Kings"),
    ),
    "task": (
        *("days", "weeks", "months", "hours", "minutes", "years", "steps", "miles", "lessons"),
        *("meetings", "sessions", "glasses", "spoons", "cups", "drops", "people", "players"),
        *("nights", "visits", "rooms"),
    ),
    "city": (
        *("Paris", "London", "Rome", "Berlin", "Madrid", "Vienna", "Lisbon", "Dublin", "Oslo"),
        *("Prague", "Athens", "Cairo", "Tokyo", "Delhi", "Boston", "Denver", "Dallas", "Chicago"),
        *("Lima", "Quito", "Nairobi", "Sydney", "Geneva", "Munich", "Naples"),
    ),
    "material": (
        *("pipe", "pipes", "paint", "bullet", "weights", "roof", "bars", "shield", "figures"),
        *("sheet", "ingot", "crystal", "ore", "solder", "plates"),
    ),
    "led": (
        *("team", "choir", "army", "march", "class", "company", "expedition", "parade", "debate"),
        *("orchestra", "campaign", "tour", "horse", "protest", "congregation"),
    ),
    "text": (
        *("book", "letter", "story", "poem", "report", "novel", "article", "newspaper", "essay"),
        *("diary", "speech", "contract", "menu", "map", "script", "message", "manual"),
    ),
    "colour": (
        *("red", "blue", "green", "yellow", "black", "white", "brown", "purple", "orange", "grey"),
        *("pink", "golden", "silver", "violet", "beige"),
    ),
    "animal": (
        *("dog", "cat", "horse", "cow", "sheep", "bird", "fish", "rabbit", "lion", "wolf"),
        *("mouse", "duck", "goat", "pig", "snake", "monkey", "frog", "crow", "turtle", "whale"),
        *("camel", "zebra", "fox", "deer", "spider", "parrot", "lizard", "owl"),
    ),
    "food": (
        *("bread", "cheese", "soup", "rice", "salad", "cake", "fruit", "meat", "honey", "butter"),
        *("pasta", "beans"),
    ),
    "thing": (
        *("car", "house", "boat", "chair", "lamp", "coat", "bag", "cup", "door", "box", "hat"),
        *("bottle", "clock", "shirt", "bike", "spoon", "camera", "piano", "drum", "flag", "tent"),
        *("wheel", "basket", "mirror", "pillow", "kettle", "brush", "umbrella", "statue", "guitar"),
        *("hammer", "needle", "helmet", "balloon", "pencil"),
    ),
    "place": (
        *("garden", "kitchen", "market", "school", "park", "river", "station", "office", "church"),
        *("forest", "beach", "library"),
    ),
    "adjective": (
        *(
            "big",
            "small",
            "old",
            "new",
            "long",
            "short",
            "good",
            "bad",
            "quiet",
            "heavy",
            "strange",
        ),
        *("famous", "little", "whole", "first", "last", "simple", "curious", "broken", "beautiful"),
        *("cheap", "clean", "dirty", "narrow", "shiny", "wooden", "tiny", "lovely", "gloomy"),
    ),
}
"""Words by class."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "dog": ("hound", "puppy"),
    "cat": ("kitten", "feline"),
    "horse": ("pony", "stallion"),
    "car": ("vehicle", "automobile"),
    "house": ("home", "cottage"),
    "boat": ("ship", "vessel"),
    "coat": ("jacket", "garment"),
    "bag": ("sack", "purse"),
    "doctor": ("physician", "surgeon"),
    "teacher": ("tutor", "instructor"),
    "child": ("kid", "youngster"),
    "road": ("street", "lane"),
    "stone": ("rock", "pebble"),
    "bread": ("loaf", "toast"),
    "forest": ("woods", "grove"),
    "thief": ("robber", "burglar"),
    "cook": ("chef", "baker"),
    "farmer": ("peasant", "grower"),
    "actor": ("performer", "player"),
    "writer": ("author", "novelist"),
    "boss": ("manager", "chief"),
    "soldier": ("fighter", "trooper"),
    "baby": ("infant", "newborn"),
    "hill": ("mountain", "peak"),
    "lake": ("pond", "pool"),
    "shop": ("store", "boutique"),
    "hotel": ("inn", "hostel"),
    "prison": ("jail", "dungeon"),
    "painting": ("picture", "drawing"),
    "gift": ("souvenir", "token"),
    "sofa": ("couch", "settee"),
    "carpet": ("rug", "mat"),
    "cup": ("mug", "beaker"),
    "knife": ("blade", "dagger"),
    "rope": ("cord", "cable"),
    "film": ("movie", "feature"),
    "plane": ("aircraft", "jet"),
    "insect": ("bug", "beetle"),
    "pig": ("hog", "swine"),
    "rabbit": ("bunny", "hare"),
    "shirt": ("blouse", "top"),
    "hat": ("cap", "bonnet"),
    "flower": ("blossom", "bloom"),
    "tale": ("fable", "legend"),
    "battle": ("fight", "combat"),
    "lamp": ("lantern", "light"),
    "chair": ("seat", "stool"),
}
"""Words and what else the same thing is called."""


def _unlike() -> tuple[tuple[str, ...], ...]:
    sets = tuple((word, *others) for word, others in SYNONYMS.items())
    named = {word for names in sets for word in names}
    alone = [word for name in ("animal", "thing") for word in CLASSES[name] if word not in named]
    return (*sets, *((word,) for word in alone))


NOUNS = _unlike()
"""What can be spoken of twice: each thing's names, of which it may have one alone."""

SHARED = ("city", "colour", "animal", "food", "thing", "place", "adjective", "given", "task")
"""Classes that no reading hangs on: all splits draw from the whole of them."""
_KEPT = 3  # first words of a class, which are always trained on
_HELD_OUT = 0.3  # of a class's words, half of them for validation


def members(name: str, *, split: WordSplit) -> tuple[str, ...]:
    """The words of a class that the sentences of a split may draw."""
    words = CLASSES[name]
    if name in SHARED or split == "all":
        return words
    shuffled = sorted(words[_KEPT:])
    random.Random(f"lexicon {name}").shuffle(shuffled)
    apart = max(2, round(_HELD_OUT * len(words)))
    parts = {
        "test": shuffled[: apart - apart // 2],
        "validation": shuffled[apart - apart // 2 : apart],
        "train": [*words[:_KEPT], *shuffled[apart:]],
    }
    return tuple(parts[split])
