"""Words of English that the rules look up: units, currencies, abbreviations, names of symbols."""

DIGITS = dict(enumerate("zero one two three four five six seven eight nine".split()))
MONTHS = dict(
    enumerate(
        "January February March April May June July August September October November "
        "December".split(),
        start=1,
    )
)
CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "", ""),
}
"""One and many of a currency and of its hundredth."""
UNITS = {
    "km": ("kilometer", "kilometers"),
    "m": ("meter", "meters"),
    "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"),
    "mi": ("mile", "miles"),
    "ft": ("foot", "feet"),
    "in": ("inch", "inches"),
    "yd": ("yard", "yards"),
    "kg": ("kilogram", "kilograms"),
    "g": ("gram", "grams"),
    "mg": ("milligram", "milligrams"),
    "lb": ("pound", "pounds"),
    "lbs": ("pound", "pounds"),
    "oz": ("ounce", "ounces"),
    "l": ("liter", "liters"),
    "L": ("liter", "liters"),
    "ml": ("milliliter", "milliliters"),
    "mph": ("mile per hour", "miles per hour"),
    "km/h": ("kilometer per hour", "kilometers per hour"),
    "GB": ("gigabyte", "gigabytes"),
    "MB": ("megabyte", "megabytes"),
    "Hz": ("hertz", "hertz"),
    "kHz": ("kilohertz", "kilohertz"),
    "W": ("watt", "watts"),
    "kW": ("kilowatt", "kilowatts"),
    "V": ("volt", "volts"),
    "h": ("hour", "hours"),
    "min": ("minute", "minutes"),
    "s": ("second", "seconds"),
    "%": ("percent", "percent"),
    "°": ("degree", "degrees"),
    "°C": ("degree Celsius", "degrees Celsius"),
    "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "m²": ("square meter", "square meters"),
    "km²": ("square kilometer", "square kilometers"),
}
"""One and many of a unit."""
DOTTED = ("ft", "in", "oz", "lb", "lbs", "yd", "mi", "min")
"""Units that may end with a full stop."""
TITLES = {
    "dr": "Doctor", "st": "Saint", "mr": "Mister", "mrs": "Missus", "ms": "Miz",
    "prof": "Professor", "mt": "Mount", "ft": "Fort", "gen": "General", "col": "Colonel",
    "capt": "Captain", "sgt": "Sergeant", "lt": "Lieutenant", "gov": "Governor", "sen": "Senator",
    "rev": "Reverend", "hon": "Honorable", "pres": "President",
}  # fmt: skip
"""Abbreviations before a name."""
PLACES = {
    "dr": "Drive", "st": "Street", "ave": "Avenue", "rd": "Road", "blvd": "Boulevard",
    "ln": "Lane", "ct": "Court", "pl": "Place", "sq": "Square", "hwy": "Highway", "pkwy": "Parkway",
    "apt": "Apartment", "ste": "Suite",
}  # fmt: skip
"""Abbreviations behind the name of a street."""
ABBREVIATIONS = {
    "no": "number", "nos": "numbers", "etc": "et cetera", "vs": "versus", "jr": "junior",
    "sr": "senior", "inc": "incorporated", "co": "company", "corp": "corporation", "ltd": "limited",
    "dept": "department", "est": "established", "approx": "approximately", "fig": "figure",
    "ed": "edition", "vol": "volume", "pp": "pages", "p": "page", "ca": "circa", "max": "maximum",
    "min": "minimum", "tel": "telephone", "ext": "extension", "e.g": "for example",
    "i.e": "that is", "a.m": "A M", "p.m": "P M", "jan": "January", "feb": "February",
    "mar": "March", "apr": "April", "jun": "June", "jul": "July", "aug": "August",
    "sep": "September", "sept": "September", "oct": "October", "nov": "November",
    "dec": "December", "mon": "Monday", "tue": "Tuesday", "wed": "Wednesday", "thu": "Thursday",
    "fri": "Friday", "sat": "Saturday", "sun": "Sunday", "bc": "B C", "ad": "A D",
}  # fmt: skip
"""Abbreviations of other words."""
HOMOGRAPHS = {
    "read": ("reed", "red"),
    "lead": ("leed", "led"),
    "leads": ("leeds", "leds"),
    "wind": ("wined", "wind"),
    "tear": ("teer", "tare"),
    "bow": ("bough", "beau"),
}
"""Words that are spelled alike, respelled as their first and their second sense sound."""
SYMBOLS = {
    "&": "and", "@": "at", "#": "hash", "+": "plus", "=": "equals", "%": "percent", "$": "dollar",
    "€": "euro", "£": "pound", "¥": "yen", "*": "star", "/": "slash", "\\": "backslash",
    "_": "underscore", "~": "tilde", "<": "less than", ">": "greater than", "|": "bar",
    "^": "caret", "°": "degree", "×": "times", "÷": "divided by", ".": "dot", ",": "comma",
    ":": "colon", ";": "semicolon", "!": "exclamation mark", "?": "question mark", "-": "dash",
    "(": "parenthesis", ")": "close parenthesis", "'": "apostrophe", '"': "quote",
    "½": "one half", "¼": "one quarter", "¾": "three quarters", "²": "squared", "³": "cubed",
}  # fmt: skip
"""Names of symbols; others go by their names in Unicode."""
