from pathlib import Path

import pytest

from mcld import create_method
from mcld.assembly.parts import build_parts
from mcld.configs.compose import compose
from mcld.errors import InputError
from mcld.methods import Shapes


@pytest.mark.parametrize(("method", "what"), [("simkd", "classifier"), ("crd", "pooled"), ("at", "maps")])
def test_a_wrong_module_is_told_by_its_setting(arrays: list[str], teacher: Path, method: str, what: str) -> None:
    value = "[nowhere]" if what == "maps" else "nowhere"
    words = [*arrays, f"teacher={teacher}", "student=resnet8", f"method={method}", f"student.{what}={value}"]
    with pytest.raises(InputError, match=rf"student\.{what}.*nowhere"):
        build_parts(compose("distill", words))


def test_a_method_names_the_argument_and_the_setting() -> None:
    with pytest.raises(InputError, match=r"student_maps=\[...\] names other .* settings student\.maps="):
        create_method("catkd").prepare(Shapes(4, 8, ((3, 4, 4),)), Shapes(4, 8, ((8, 4, 4),)), 10, 1)
