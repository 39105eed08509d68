"""Text of others, such as the names of files and classes, as a terminal, a log or a spreadsheet may be given it."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

# Control characters (escape sequences begin with one), what turns the direction of a line, and half characters, which
# is how Python spells the bytes of a file name that is no valid Unicode.
_UNSAFE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str, keep: str = "") -> str:
    """The text with every character spelt out that would steer a terminal, break a line or be no valid Unicode.

    Args:
        text: any.
        keep: control characters to leave as they are, such as a newline.
    """
    if text.isprintable():
        return text
    return "".join(_spelt(c) if c not in keep and _is_unsafe(c) else c for c in text)


def brief(text: str, most: int = 2000) -> str:
    """The text, without its middle where it is longer than anybody reads.

    >>> brief("0123456789", 4)
    '01 … 89'
    """
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"


def name_of(file: str) -> str:
    """A file's or folder's name as a name of what is in it: composed letters, and bytes that are no Unicode spelt out.

    So a name is the same however a system spells it: ``é`` may be one character on disk, or an e and an accent.
    """
    return unicodedata.normalize("NFC", "".join(_spelt(c) if "\ud800" <= c <= "\udfff" else c for c in file))


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Rows as CSV that a spreadsheet takes for what it says: text that it would calculate gets a ``'`` in front."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_cell, columns))
    writer.writerows([_cell(row.get(column, "")) for column in columns] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = printable(value, keep="\n\t")
    if re.match(r"\s*[=+\-@\t]", found) and not re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", found, re.IGNORECASE):
        return f"'{found}"
    return found


def _is_unsafe(character: str) -> bool:
    return unicodedata.category(character) in _UNSAFE or character in _TURNS


def _spelt(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii") if code < 0xD800 or code > 0xDFFF else f"\\u{code:04x}"
