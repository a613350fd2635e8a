"""What is said aloud in the world: one meaning in English, Spanish and German.

A sentence is drawn as a meaning and worded in every language, so that each wording is the right
translation of the others. Words agree as the languages want it: Spanish adjectives in gender and
number, German articles and adjectives in gender, number and case. The hash of the meaning decides
the split: no sentence of the test split is ever heard or read in training, in any language.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass

from multimodal.world.scenes import Split

LANGUAGES = {"en": "English", "es": "Spanish", "de": "German"}
"""Languages of the world, by code."""


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """One meaning."""

    text: dict[str, str]
    """Its wording by language code."""

    @property
    def split(self) -> Split:
        """The split that its meaning falls into: 85 % train, 5 % validation, 10 % test."""
        percentile = int.from_bytes(hashlib.sha256(self.text["en"].encode()).digest()[:4]) % 100
        return "train" if percentile < 85 else "validation" if percentile < 90 else "test"


@dataclass(frozen=True)
class _Noun:
    """A noun: singular and plural in each language, and its genders."""

    en: tuple[str, str]
    es: tuple[str, str]
    es_gender: str
    de: tuple[str, str]
    de_gender: str


_NOUNS = tuple(
    _Noun(*fields)
    for fields in (
        (("apple", "apples"), ("manzana", "manzanas"), "f", ("Apfel", "Äpfel"), "m"),
        (("ball", "balls"), ("pelota", "pelotas"), "f", ("Ball", "Bälle"), "m"),
        (("banana", "bananas"), ("banana", "bananas"), "f", ("Banane", "Bananen"), "f"),
        (("boat", "boats"), ("barco", "barcos"), "m", ("Boot", "Boote"), "n"),
        (("car", "cars"), ("coche", "coches"), "m", ("Auto", "Autos"), "n"),
        (("cat", "cats"), ("gato", "gatos"), "m", ("Katze", "Katzen"), "f"),
        (("cup", "cups"), ("taza", "tazas"), "f", ("Tasse", "Tassen"), "f"),
        (("dog", "dogs"), ("perro", "perros"), "m", ("Hund", "Hunde"), "m"),
        (("fish", "fish"), ("pez", "peces"), "m", ("Fisch", "Fische"), "m"),
        (("flower", "flowers"), ("flor", "flores"), "f", ("Blume", "Blumen"), "f"),
        (("house", "houses"), ("casa", "casas"), "f", ("Haus", "Häuser"), "n"),
        (("tree", "trees"), ("árbol", "árboles"), "m", ("Baum", "Bäume"), "m"),
        (("book", "books"), ("libro", "libros"), "m", ("Buch", "Bücher"), "n"),
        (("chair", "chairs"), ("silla", "sillas"), "f", ("Stuhl", "Stühle"), "m"),
        (("letter", "letters"), ("carta", "cartas"), "f", ("Brief", "Briefe"), "m"),
        (("picture", "pictures"), ("cuadro", "cuadros"), "m", ("Bild", "Bilder"), "n"),
        (("horse", "horses"), ("caballo", "caballos"), "m", ("Pferd", "Pferde"), "n"),
        (("bird", "birds"), ("pájaro", "pájaros"), "m", ("Vogel", "Vögel"), "m"),
        (("clock", "clocks"), ("reloj", "relojes"), "m", ("Uhr", "Uhren"), "f"),
        (("bottle", "bottles"), ("botella", "botellas"), "f", ("Flasche", "Flaschen"), "f"),
        (("key", "keys"), ("llave", "llaves"), "f", ("Schlüssel", "Schlüssel"), "m"),
        (("bread", "breads"), ("pan", "panes"), "m", ("Brot", "Brote"), "n"),
    )
)

# English, Spanish (masculine singular; before the noun or after), German stem.
_ADJECTIVES = (
    ("big", "grande", "groß"),
    ("small", "pequeño", "klein"),
    ("old", "viejo", "alt"),
    ("new", "nuevo", "neu"),
    ("red", "rojo", "rot"),
    ("green", "verde", "grün"),
    ("yellow", "amarillo", "gelb"),
    ("black", "negro", "schwarz"),
    ("white", "blanco", "weiß"),
    ("beautiful", "bonito", "schön"),
    ("cheap", "barato", "billig"),
    ("heavy", "pesado", "schwer"),
)
_NUMBERS = (
    ("two", "dos", "zwei"),
    ("three", "tres", "drei"),
    ("four", "cuatro", "vier"),
    ("five", "cinco", "fünf"),
    ("six", "seis", "sechs"),
    ("seven", "siete", "sieben"),
    ("eight", "ocho", "acht"),
    ("nine", "nueve", "neun"),
    ("ten", "diez", "zehn"),
    ("twelve", "doce", "zwölf"),
)
_PEOPLE = (
    ("Anna", "Anna", "Anna"),
    ("Peter", "Peter", "Peter"),
    ("Maria", "Maria", "Maria"),
    ("David", "David", "David"),
    ("Laura", "Laura", "Laura"),
    ("Martin", "Martin", "Martin"),
    ("my mother", "mi madre", "meine Mutter"),
    ("my father", "mi padre", "mein Vater"),
    ("the teacher", "la maestra", "die Lehrerin"),
    ("the doctor", "el médico", "der Arzt"),
    ("our neighbour", "nuestro vecino", "unser Nachbar"),
)
_PLACES = (
    ("in the garden", "en el jardín", "im Garten"),
    ("in the kitchen", "en la cocina", "in der Küche"),
    ("at school", "en la escuela", "in der Schule"),
    ("in the city", "en la ciudad", "in der Stadt"),
    ("on the table", "sobre la mesa", "auf dem Tisch"),
    ("under the bed", "debajo de la cama", "unter dem Bett"),
    ("in the street", "en la calle", "auf der Straße"),
    ("behind the door", "detrás de la puerta", "hinter der Tür"),
    ("next to the window", "al lado de la ventana", "neben dem Fenster"),
)
_TIMES = (
    ("today", "hoy", "heute"),
    ("tomorrow", "mañana", "morgen"),
    ("on Monday", "el lunes", "am Montag"),
    ("on Tuesday", "el martes", "am Dienstag"),
    ("on Friday", "el viernes", "am Freitag"),
    ("on Sunday", "el domingo", "am Sonntag"),
    ("every day", "todos los días", "jeden Tag"),
    ("in the evening", "por la tarde", "am Abend"),
    ("in winter", "en invierno", "im Winter"),
    ("at night", "por la noche", "in der Nacht"),
)
_INTRANSITIVE = (
    ("sings", "canta", "singt"),
    ("sleeps", "duerme", "schläft"),
    ("works", "trabaja", "arbeitet"),
    ("reads", "lee", "liest"),
    ("dances", "baila", "tanzt"),
    ("waits", "espera", "wartet"),
    ("laughs", "ríe", "lacht"),
    ("cooks", "cocina", "kocht"),
)
_TRANSITIVE = (
    ("has", "tiene", "hat"),
    ("buys", "compra", "kauft"),
    ("sees", "ve", "sieht"),
    ("paints", "pinta", "malt"),
    ("wants", "quiere", "will"),
    ("looks for", "busca", "sucht"),
    ("sells", "vende", "verkauft"),
    ("finds", "encuentra", "findet"),
)
_Words = tuple[str, str, str]
"""English, Spanish, German."""

_DE_ADJECTIVE = {"m": "en", "f": "e", "n": "es"}  # accusative after "ein", by gender
_DE_THE = {"m": "der", "f": "die", "n": "das"}


def sample_sentence(rng: random.Random, *, split: Split) -> Sentence:
    """Draw a sentence of a split."""
    while True:
        sentence = _worded(rng.choice(_FORMS)(rng))
        if sentence.split == split:
            return sentence


def _worded(words: _Words) -> Sentence:
    return Sentence(
        text={code: said[0].upper() + said[1:] for code, said in zip(LANGUAGES, words, strict=True)}
    )


def _does(rng: random.Random) -> _Words:
    """Anna sings in the garden on Monday."""
    parts = [rng.choice(_PEOPLE), rng.choice(_INTRANSITIVE)]
    return _joined(*parts, *_circumstances(rng))


def _does_with(rng: random.Random) -> _Words:
    """Peter buys three red cups today."""
    return _joined(rng.choice(_PEOPLE), rng.choice(_TRANSITIVE), _object(rng), *_circumstances(rng))


def _is_somewhere(rng: random.Random) -> _Words:
    """The black cat is under the bed."""
    noun, adjective = rng.choice(_NOUNS), rng.choice((None, *_ADJECTIVES))
    return _joined(_the(noun, adjective), ("is", "está", "ist"), rng.choice(_PLACES))


def _are_like(rng: random.Random) -> _Words:
    """The houses are old."""
    noun, adjective = rng.choice(_NOUNS), rng.choice(_ADJECTIVES)
    if rng.random() < 0.5:
        looks = adjective[0], _es(adjective, noun, plural=False), adjective[2]
        return _joined(_the(noun, None), ("is", "es", "ist"), looks)
    looks = adjective[0], _es(adjective, noun, plural=True), adjective[2]
    article = "los" if noun.es_gender == "m" else "las"
    the = f"the {noun.en[1]}", f"{article} {noun.es[1]}", f"die {noun.de[1]}"
    return _joined(the, ("are", "son", "sind"), looks)


def _where(rng: random.Random) -> _Words:
    """Where is the old clock?"""
    noun, adjective = rng.choice(_NOUNS), rng.choice((None, *_ADJECTIVES))
    en, es, de = _the(noun, adjective)
    return f"where is {en}?", f"¿Dónde está {es}?", f"wo ist {de}?"


def _there_are(rng: random.Random) -> _Words:
    """There are four small birds in the garden."""
    return _joined(("there are", "hay", "es gibt"), _several(rng), rng.choice(_PLACES))


def _two_do(rng: random.Random) -> _Words:
    """Anna sings and Peter sleeps."""
    first, second = rng.sample(_PEOPLE, 2)
    doing, other = rng.sample(_INTRANSITIVE, 2)
    return _joined(first, doing, ("and", "y", "und"), second, other)


_FORMS: tuple[Callable[[random.Random], _Words], ...] = (
    _does,
    _does_with,
    _does_with,
    _is_somewhere,
    _are_like,
    _where,
    _there_are,
    _two_do,
)


def _circumstances(rng: random.Random) -> list[_Words]:
    """Where, when, both or neither; German says first when, then where."""
    place, time = rng.choice(_PLACES), rng.choice(_TIMES)
    chance = rng.random()
    if chance < 0.25:
        return []
    if chance < 0.5:
        return [place]
    if chance < 0.75:
        return [time]
    return [(f"{place[0]} {time[0]}", f"{place[1]} {time[1]}", f"{time[2]} {place[2]}")]


def _object(rng: random.Random) -> _Words:
    """Something, in the accusative."""
    if rng.random() < 0.5:
        return _several(rng)
    noun, adjective = rng.choice(_NOUNS), rng.choice((None, *_ADJECTIVES))
    en = f"{adjective[0]} {noun.en[0]}" if adjective else noun.en[0]
    es = f"{noun.es[0]} {_es(adjective, noun, plural=False)}" if adjective else noun.es[0]
    ending = _DE_ADJECTIVE[noun.de_gender]
    de = f"{adjective[2]}{ending} {noun.de[0]}" if adjective else noun.de[0]
    ein = {"m": "einen", "f": "eine", "n": "ein"}[noun.de_gender]
    return _a(en), f"{'un' if noun.es_gender == 'm' else 'una'} {es}", f"{ein} {de}"


def _several(rng: random.Random) -> _Words:
    noun, number = rng.choice(_NOUNS), rng.choice(_NUMBERS)
    adjective = rng.choice((None, *_ADJECTIVES))
    if adjective is None:
        return (
            f"{number[0]} {noun.en[1]}",
            f"{number[1]} {noun.es[1]}",
            f"{number[2]} {noun.de[1]}",
        )
    return (
        f"{number[0]} {adjective[0]} {noun.en[1]}",
        f"{number[1]} {noun.es[1]} {_es(adjective, noun, plural=True)}",
        f"{number[2]} {adjective[2]}e {noun.de[1]}",
    )


def _the(noun: _Noun, adjective: _Words | None) -> _Words:
    """A definite noun in the nominative."""
    el, der = "el" if noun.es_gender == "m" else "la", _DE_THE[noun.de_gender]
    if adjective is None:
        return f"the {noun.en[0]}", f"{el} {noun.es[0]}", f"{der} {noun.de[0]}"
    return (
        f"the {adjective[0]} {noun.en[0]}",
        f"{el} {noun.es[0]} {_es(adjective, noun, plural=False)}",
        f"{der} {adjective[2]}e {noun.de[0]}",
    )


def _es(adjective: _Words, noun: _Noun, *, plural: bool) -> str:
    """A Spanish adjective in the gender and number of its noun."""
    word = adjective[1]
    if word.endswith("o") and noun.es_gender == "f":
        word = f"{word[:-1]}a"
    return f"{word}s" if plural else word


def _a(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _joined(*parts: _Words) -> _Words:
    en, es, de = (" ".join(words) for words in zip(*parts, strict=True))
    return f"{en}.", f"{es}.", f"{de}."
