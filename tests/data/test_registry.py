import subprocess
import sys

import pytest

from mcld.data import list_data, load_data
from mcld.errors import InputError


def test_every_entry_has_its_options_and_a_reader() -> None:
    names = [entry.name for entry in list_data()]
    assert len(set(names)) == len(names)
    for entry in list_data():
        assert entry.make_options().name == entry.name
        assert entry.needs in {"packaged", "downloaded", "your path"}
        assert callable(entry.load)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("digit", {}, "there is no data set 'digit'; did you mean 'digits'?"),
        ("zzz", {}, "there is no data set 'zzz'; expected arrays, cifar10"),
        ("folder", {"pathh": "x"}, "no option of data set 'folder': 'pathh'; did you mean 'path'?"),
        ("folder", {}, "data set 'folder' needs path: data.path=PATH"),
        ("arrays", {"train": "x.npz"}, "data set 'arrays' needs val: data.val=PATH"),
        ("digits", {"batch_size": 0}, "option 'batch_size' is 0; expected 1 to 1,000,000"),
        ("digits", {"batch_size": "many"}, "option 'batch_size' is 'many'"),
        ("digits", {"workers": -1}, "option 'workers' is -1; expected 0 to 256"),
    ],
)
def test_wrong_names_and_options_are_one_line(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as error:
        load_data(name, **options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_importing_the_room_is_light() -> None:
    code = "import sys, mcld.data; print([m for m in ('torchvision', 'PIL', 'sklearn', 'mlxtend') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
