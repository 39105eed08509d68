"""``mcld teacher-logits``."""

from collections.abc import Sequence

from mcld.cli.main import Parser, split_words
from mcld.errors import InputError

EPILOG = """\
mcld distill stores the teacher's logits as it goes, and any later run with the same teacher, data and views finds them.
This command computes all of them at once: those of every view of each training image, and of the validation images.
It says first how big they will be. Only what is missing is computed, so after an interruption the same command goes on.

Settings are those of mcld distill that say what the teacher sees: data=NAME and data.KEY=VALUE, teacher=RUN and
teacher.KEY=VALUE (mcld distill --help explains them), device=, precision=, threads=; published= and recipe=;
method=NAME where it shows a second view of another kind (mlkd, sld).
"""
KEYS = ("teacher", "method", "published", "recipe", "device", "precision", "threads")


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    usage = "data=NAME teacher=RUN [teacher.views=V] [teacher.store=PATH] [key=value ...] [--check]"
    parser = Parser("teacher-logits", usage, EPILOG)
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings; see below")
    parser.add_argument(
        "--check",
        action="store_true",
        help="compute nothing, but read all that is stored; damaged vectors are counted, and computed anew next time",
    )
    given = parser.parse_intermixed_args(list(arguments))
    others, words = split_words(given.words, KEYS)
    if others:
        raise InputError(f"cannot read {others[0]!r}; expected key=value, such as teacher={others[0]}")

    from mcld.commands.teacher_logits import check_stores, fill_stores
    from mcld.configs.compose import compose
    from mcld.configs.schema import Distill
    from mcld.engine.stop import Interrupted

    settings = compose("distill", ["student=none", *words])  # with no student: it changes nothing here
    assert isinstance(settings, Distill)
    try:
        if given.check:
            return 1 if check_stores(settings) else 0
        fill_stores(settings)
    except Interrupted as stop:
        print(stop)
        return 128 + stop.signal
    return 0
