import csv
import io

import pytest

from mcld.errors import InputError, RunError
from mcld.text import csv_text, name_of, printable


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("plain, ü, 日本, ✓ and ×", "plain, ü, 日本, ✓ and ×"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x9b2J\x07", r"\x9b2J\x07"),
        ("caf\udce9", r"caf\xe9"),
        ("\ud800", r"\ud800"),
        ("txt.\u202egpj", r"txt.\u202egpj"),
    ],
)
def test_what_would_steer_a_terminal_is_spelt_out(text: str, right: str) -> None:
    assert printable(text) == right
    assert str(InputError(text)) == str(RunError(text)) == right


def test_what_is_kept() -> None:
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def test_one_name_however_it_is_spelt_on_disk() -> None:
    assert name_of("cafe\u0301") == name_of("caf\u00e9") == "caf\u00e9"
    assert name_of("caf\udce9") == r"caf\xe9"
    assert name_of("\ud800") == r"\ud800"


def test_no_cell_of_a_spreadsheet_is_calculated() -> None:
    cells = ["=HYPERLINK(1)", "+1+1", "-cmd", "@SUM(1)", "\t=1", " =1", "plain", "-1.5", "3e-4", "a=b", "\x1b]8;;x"]
    text = csv_text(["name", "=top1"], [{"name": cell, "=top1": -0.5} for cell in cells] + [{"name": None}])
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["name", "'=top1"]
    assert [row[0] for row in rows[1:]] == [
        *("'=HYPERLINK(1)", "'+1+1", "'-cmd", "'@SUM(1)", "'\t=1", "' =1", "plain", "-1.5", "3e-4", "a=b"),
        *(r"\x1b]8;;x", ""),
    ]
    assert [row[1] for row in rows[1:]] == ["-0.5"] * len(cells) + [""]
