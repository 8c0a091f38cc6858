"""JSON, tables, tags, Markdown and LaTeX in an answer, written out as lines `name: value`."""

import json
import re

from debiasdpo.raters.notation import normalise
from debiasdpo.raters.words import FINAL, FIRST, RATING

# Of chat templates, as text.
CONTROL = r"<\|?[^|<>\n]{1,40}\|>|</s>|<eos>|<(?:start|end)_of_turn>"

_ATTRIBUTES = r"(?:\s[^<>]{0,200})?"
_TAGS = (
    (r"~~[^~\n]{1,200}~~|<(s|del|strike)>[^<]{0,200}</\1>", " "),  # struck out
    (CONTROL, "\n"),
    (r"<!--(?:[^-]|-(?!->))*+(?:-->|\Z)", " "),
    (r"<su[bp]>", "^"),
    (r"</?(?:b|i|u|em|strong|span|font|mark|big|small|code|center|su[bp])" + _ATTRIBUTES + ">", ""),
    (r"<t[dh]" + _ATTRIBUTES + ">", "|"),
    (r"</t[dh]>", ""),
    (
        r"</?(?:p|div|br|li|ul|ol|h[1-6]|table|thead|tbody|tr|pre|blockquote|hr|html|body)"
        + _ATTRIBUTES
        + "/?>",
        "\n",
    ),
    # <rating>5</rating>, <rating value="5"/>, <rating max="7">5</rating>
    (r"</[a-z][\w :-]{0,40}>", "\n"),
    (r"<([a-z][\w:-]{0,40})\s([^<>\n]{0,200})/>", r"\n\1 \2\n"),
    (r"<([a-z][\w:-]{0,40})\s([^<>\n=]{1,40}=[^<>\n]{0,200})>", r"\n\1 (\2): "),
    (r"<([a-z][\w :-]{0,40})>", r"\n\1: "),
    (r"```[\w+-]*", "\n"),
    (r"^[ \t]*(?:>[ \t]?)+", ""),  # quoted
)
_LATEX = (
    (r"(?<=\d)\s?\\[dt]?frac\s?\{(\d+)\}\s?\{(\d+)\}", r" \1⁄\2"),
    (r"\\[dt]?frac\s?\{(\d+)\}\s?\{(\d+)\}", r"\1/\2"),
    (r"\\(?:text|math)[a-z]{0,8}\s?\{([^{}\n]{0,200})\}", r"\1"),
    (r"\\(?:text|math)[a-z]{0,8}|\\(?:bm|emph|underline|displaystyle|left|right|quad)\b", ""),
    (r"\\[,;:! ()\[\]]|\\(?:large|huge|bf)\b|\$", " "),
    (r"\{,\}", ","),
    (r"\\(?:times|cdot)\b", "×"),
    (r"\\pm\b", "±"),
    (r"\\(?:approx|sim)\b", "~"),
    (r"\\(?:to|rightarrow|longrightarrow)\b", "→"),
    (r"\\leq?\b", "<"),
    (r"\\geq?\b", ">"),
    (r"\\(?:big)?star\b", "★"),
    (r"\\(?=[^\w\s])", ""),
)
_TAG_PATTERNS, _LATEX_PATTERNS = (
    [(re.compile(pattern, re.MULTILINE), replacement) for pattern, replacement in table]
    for table in (_TAGS, _LATEX)
)
_OBJECT = re.compile(r"\{\s*+(?:\"[^\"\n]{0,80}\"|'[^'\n]{0,80}'|[^\W\d][\w -]{0,40})\s{0,9}:")
_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*+(?:"|\\?\Z)) | (?P<quoted>'[^'\\\n]{0,2000}'(?=\s{0,99}[:,}\]]))
    | (?P<mark>[{}\[\]:,]) | (?P<space>\s++) | [^\s{}\[\]:,"']++ | ['"]""",
    re.VERBOSE,
)
# Behind a comma in an object, what is no key: in 4,5 it is a decimal mark, or there are two numbers.
_NO_KEY = re.compile(r"\s*[\d.]")
_END = re.compile(r"\s*+\Z")
_RULE = re.compile(r"\s*:?[-–=]+:?\s*")
_LABEL = re.compile(rf"{RATING}")
_RANK = re.compile(rf"{FINAL}|{FIRST}")


def as_lines(text: str) -> str:
    """A normalised text with one line for each value of a JSON object, table or element."""
    for pattern, replacement in _TAG_PATTERNS:
        text = pattern.sub(replacement, text)
    if "\\" in text or "$" in text or "{,}" in text:
        for pattern, replacement in _LATEX_PATTERNS:
            text = pattern.sub(replacement, text)
    return _tables(_objects(text))


def _objects(text: str) -> str:
    parts = []
    start = 0
    while match := _OBJECT.search(text, start):
        lines, end = _object(text, match.start())
        parts += [text[start : match.start()], lines]
        start = end
    return "".join([*parts, text[start:]])


def _object(text: str, start: int) -> tuple[str, int]:
    """The lines of the JSON object that begins at `start`, and where it ends. Whatever is not quite JSON
    (a comma too many, no quotes, an end that was cut) is read as what it must mean."""
    lines: list[str] = []
    levels: list[tuple[str, str, list[str]]] = []  # opening bracket, key, members without a key
    value: list[str] = []

    def close_member(end: str = "\n") -> None:
        written = "".join(value).strip()
        value.clear()
        bracket, key, members = levels[-1]
        if bracket == "[":
            members += [written] if written else []
        elif written or key:
            if written:
                lines.append(f"\n{_path(levels)}: {written}{end}")
            levels[-1] = (bracket, "", members)

    for token in _TOKEN.finditer(text, start):
        mark = token["mark"]
        if mark in ("{", "["):
            value.clear()
            levels.append((mark, "", []))
        elif mark == ":" and levels[-1][0] == "{" and not levels[-1][1]:
            levels[-1] = ("{", "".join(value).strip().replace("_", " "), [])
            value.clear()
        elif mark == "," and levels[-1][1] and value and _NO_KEY.match(text, token.end()):
            value.append(mark)
        elif mark == ",":
            cut = levels[-1][0] == "{" and _END.match(text, token.end())
            close_member("" if cut else "\n")
        elif mark in ("}", "]"):
            close_member()
            _, _, members = levels.pop()
            if members and levels:
                value.append(", ".join(members))
            if not levels:
                return "".join(lines) + "\n", token.end()
        elif token["text"]:
            value.append(_decoded(token["text"]) or "none")
        elif token["quoted"]:
            value.append(token["quoted"][1:-1] or "none")
        else:
            value.append(token[0])
    if levels:
        close_member("")  # cut: the value may go on
    return "".join(lines), len(text)


def _path(levels: list[tuple[str, str, list[str]]]) -> str:
    return " ".join(key for _, key, _ in levels[-4:] if key)


def _decoded(token: str) -> str:
    if not token.endswith('"') or len(token) == 1:
        return token[1:]
    try:
        return normalise(str(json.loads(token, strict=False)))
    except ValueError:
        return token[1:-1]


def _tables(text: str) -> str:
    if "|" not in text:
        return text
    lines = text.split("\n")
    written: list[str] = []
    start = 0
    while start < len(lines):
        end = start
        while end < len(lines) and "|" in lines[end]:
            end += 1
        if end > start:
            table = _table(lines[start:end])
            written.append(table if end < len(lines) else table.rstrip("\n"))  # rows may follow
        else:
            written.append(lines[start])
            end += 1
        start = end
    return "\n".join(written)


def _table(lines: list[str]) -> str:
    """The cells of a table under the names of their columns; of rows `Rating | 5` as they stand."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    ruled = len(rows) > 1 and all(map(_RULE.fullmatch, rows[1]))
    named = ruled or (len(rows) > 1 and not re.search(r"\d", lines[0]))
    body = rows[2 if ruled else 1 :]
    head = rows[0] if body and named and any(map(_is_label, rows[0])) else []
    if not head:
        return "\n".join(
            f"{row[0]}: {' | '.join(row[1:])}\n" if len(row) > 1 and _is_label(row[0]) else line
            for row, line in zip(rows, lines, strict=True)
        )
    found = []
    for row in body:
        rank = _RANK.search(row[0])
        for name, cell in zip([*head, *[""] * len(row)], row, strict=False):
            mine = f"{rank[0]} {name}" if rank and _is_label(name) else name
            found.append(f"{mine}: {cell}\n" if mine and cell else f"{cell}\n")
    return "\n" + "".join(found)


def _is_label(cell: str) -> bool:
    return len(cell) <= 60 and _LABEL.search(cell) is not None and not re.search(r"[:=]\s*\w", cell)
