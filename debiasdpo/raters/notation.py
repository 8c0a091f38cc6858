"""Numbers as people and models write them, and a text brought into one notation of signs."""

import re
import unicodedata
from typing import NamedTuple

# Signs that stand for another one. A full-width comma never is a decimal mark.
_SIGNS = {
    sign: plain
    for signs, plain in (
        ("−‐‑⁃➖", "-"), ("‒—―⸺⸻", "–"), ("’‘ʼ´′", "'"), ("“”„‟«»‹›″「」『』", '"'),
        ("〈《【〔⟨❨", "("), ("〉》】〕⟩❩", ")"), ("∶꞉ː", ":"), ("∼≈≃≅≒〜⁓", "~"), ("≤≦⩽", "<"),
        ("≥≧⩾", ">"), ("⇒➔➜➡⟶⟹↦", "→"), ("│┃║¦❘", "|"), ("∗", "*"), ("⁄∕", "/"), ("٫", "."),
        ("，、،", ", "), ("٬", "'"), ("٪", "%"), ("。｡।॥۔։", ". "), ("؟", "?"), ("؛", ";"),
        ("⭐🌟✭✮✯⭑🟊", "★"), ("✩✰⚝", "☆"), ("⬤⚫", "●"), ("⚪◯", "○"), ("⯨⯪⯫⯩", " 1⁄2"), ("№", "#"),
        ("🔟", " 10 "), ("\u2028\u2029\x0b\x0c\x85\r", "\n"), ("\u2800", " "),
        ("\u034f\u115f\u1160\u3164\ufe0e\ufe0f\u20e3", ""),  # invisible, or a frame around a digit
    )
    for sign in signs
}  # fmt: skip


def _plain(sign: str) -> str:
    """The notation of one character. Of a fraction that was one character,
    U+2044 is the bar."""
    if sign in _SIGNS:
        return _SIGNS[sign]
    category = unicodedata.category(sign)
    if category == "Cf":  # zero width, soft hyphens, marks of direction
        return ""
    if category == "Cc" and sign != "\n":
        return " "
    if category == "Nd":
        return str(unicodedata.decimal(sign))
    whole = unicodedata.normalize("NFKC", sign)
    if category in ("No", "Nl"):
        form = unicodedata.decomposition(sign).split(" ")[0]
        if form == "<fraction>":
            return f" {whole}"
        if form in ("<super>", "<sub>"):
            return f"^{whole}"
        value = unicodedata.numeric(sign)
        if value.is_integer() and sign != "〇" and not set(whole) & set("0123456789㈠㈤.()"):
            whole = whole if unicodedata.category(whole[0]) == "Lo" else f" {value:.0f} "
        elif whole.isdecimal():  # circled
            whole = f" {whole} "
    return "".join(_SIGNS.get(part, part) for part in whole).lower()


class _Table(dict[int, str]):
    def __missing__(self, code: int) -> str:
        self[code] = _plain(chr(code))
        return self[code]


_TABLE = _Table()


def normalise(text: str) -> str:
    """The text in lower case, with one sign for each meaning: digits of all scripts, dashes, quotes and
    spaces are those of ASCII, what is not seen is left out."""
    return text.replace("\r\n", "\n").translate(_TABLE)


def origin(text: str, position: int) -> int:
    """Where in the text that begins which stands at a position of `normalise(text)`, or after it."""
    length = 0
    for index, sign in enumerate(text):
        if length >= position:
            return index
        if not text.startswith("\r\n", index):
            length += len(_TABLE[ord(sign)])
    return len(text)


class Number(NamedTuple):
    """A number without its sign, and where it ends."""

    value: float | None  # None where it could be two numbers: 1,000 or 1.2.3
    end: int
    in_words: bool = False  # or in Roman or Chinese numerals: letters that may begin a word


_ONES = "zero one two three four five six seven eight nine"
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_FROM_ZERO = f"""
    {_ONES} {_TEENS}
    null eins zwei drei vier fünf sechs sieben acht neun zehn
    zéro un deux trois quatre cinq six sept huit neuf dix
    cero uno dos tres cuatro cinco seis siete ocho nueve diez
    zero uno due tre quattro cinque sei sette otto nove dieci
    zero um dois três quatro cinco seis sete oito nove dez
    nul één twee drie vier vijf zes zeven acht negen tien
    noll ett två tre fyra fem sex sju åtta nio tio
    ноль один два три четыре пять шесть семь восемь девять десять
"""
_HALF_MORE = "null ein zwei drei vier fünf sechs sieben acht neun"
_ROMAN = "ii iii iv vi vii viii ix"  # I, V and X are letters too


def _number_words() -> dict[str, float]:
    """The value of each word."""
    found = dict.fromkeys(("one hundred", "a hundred"), 100.0)
    found |= zip(_ROMAN.split(), (2, 3, 4, 6, 7, 8, 9), strict=True)
    for line in _FROM_ZERO.strip().splitlines():
        found |= {word: value for value, word in enumerate(line.split())}
    for tens, word in enumerate(_TENS.split(), 2):
        found[word] = 10 * tens
        for ones, one in enumerate(_ONES.split()[1:], 1):
            found |= {f"{word}-{one}": 10 * tens + ones, f"{word} {one}": 10 * tens + ones}
    for value, word in enumerate(_HALF_MORE.split()):
        found[f"{word}einhalb"] = value + 0.5
    return {word: float(value) for word, value in found.items()}


_WORDS = _number_words()
_WORD = re.compile(r"([^\W\d_]+)(?:[ -][^\W\d_]+)?(?!\d)")
_DIGITS = re.compile(r"\d++(?:[.,'·_]\d++)*+|\.\d++(?![.,]?\d)")
_FRACTION = re.compile(r"(\d+)⁄(\d+)")
# 5 1/2 is a half more than 5; what 5 2/7 is nobody knows.
_AND_FRACTION = re.compile(r" {1,2}(\d+)⁄(\d+)|[ -]([1-7])/([248])(?![\d.,/]|[^\W_])")
_AND_A_HALF = re.compile(
    r"[ -](?:(?:and[ -](?:a|one)[ -]half|et demie?|y medi[oa]|e mezz[oa]|e mei[oa]"
    r"|en (?:een )?half)(?!\w)|с половиной)|einhalb(?!\w)"
)
_CHINESE = "零一二三四五六七八九"
_CHINESE_NUMBER = re.compile(rf"[〇兩两{_CHINESE}十百]+(?:[点點][〇{_CHINESE}]+)?")
_STARS = re.compile(r"(?P<full>(?:[★●■] ?)+)(?P<half>1⁄2 ?)?(?P<empty>(?:[☆○□] ?)*)")


def number_at(text: str, position: int, low: float, high: float) -> Number | None:
    """The number that begins at a position of a normalised text. `low`, `high`: the scale; it decides what
    1.000 is, and of how many a row of stars must be."""
    if match := _FRACTION.match(text, position):
        return Number(_quotient(match[1], match[2]), match.end())
    if match := _DIGITS.match(text, position):
        return _with_fraction(text, _decimal(match[0], high), match.end(), in_words=False)
    if match := _WORD.match(text, position):
        for words in (match[0], match[1]):
            if words in _WORDS:
                return _with_fraction(text, _WORDS[words], position + len(words), in_words=True)
    if match := _CHINESE_NUMBER.match(text, position):
        return Number(_chinese(match[0]), match.end(), in_words=True)
    if (match := _STARS.match(text, position)) and not match[0].isspace():
        full, empty = (len(match[part].replace(" ", "")) for part in ("full", "empty"))
        half = 0.5 if match["half"] else 0.0
        if match[0].strip() in ("●", "■"):
            return None  # a bullet
        total = full + empty + (1 if half else 0)
        fits = low >= 0 and (total == high if empty else True)
        return Number(full + half if fits else None, position + len(match[0].rstrip()))
    return None


def has_number(text: str) -> bool:
    """Whether there is a number in a normalised text, in digits or in words."""
    return any(word.isdigit() or word in _WORDS for word in re.findall(r"\d|[^\W\d_]+", text))


def _quotient(above: str, below: str) -> float | None:
    return float(above) / float(below) if float(below) else None


def _decimal(digits: str, high: float) -> float | None:
    """What digits with points or commas are, None where that is not sure."""
    parts = re.split(r"[.,'·_]", digits)
    if len(parts) == 1:
        return float(digits)
    marks = set(digits) - set("0123456789")
    if len(parts) > 2 or not marks <= {".", ","}:
        return None
    whole, rest = parts
    # In thousands, or with three decimals.
    doubtful = len(rest) == 3 and whole.strip("0") and ("," in marks or high >= 1000)
    return None if doubtful else float(f"{whole}.{rest}")


def _with_fraction(text: str, value: float | None, end: int, *, in_words: bool) -> Number:
    if value is None or not value.is_integer():
        return Number(value, end, in_words)
    if match := _AND_A_HALF.match(text, end):
        return Number(value + 0.5, match.end(), in_words)
    if not in_words and (match := _AND_FRACTION.match(text, end)):
        above, below = (match[1], match[2]) if match[1] else (match[3], match[4])
        part = _quotient(above, below)
        if part is not None and part < 1:
            return Number(value + part, match.end())
    return Number(value, end, in_words)


def _chinese(numerals: str) -> float | None:
    """五 is 5, 十五 is 15, 八十五 is 85, 一百 is 100, 四点五 is 4.5."""
    digits = dict(zip(_CHINESE, range(10), strict=True)) | {"〇": 0, "两": 2, "兩": 2}
    whole, _, decimals = numerals.replace("點", "点").partition("点")
    match = re.fullmatch(r"(?:(.)百)?[零〇]?(?:([^百零〇]?)(十))?([^百十]?)", whole)
    if match is None:
        return None
    hundreds, tens, ten, ones = match.groups()
    value = 100 * digits.get(hundreds or "", 0) + digits.get(ones, 0)
    value += 10 * digits.get(tens or "", 1) if ten else 0
    return float(f"{value}.{''.join(str(digits[d]) for d in decimals) or 0}")
