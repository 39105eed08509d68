import json
from typing import Any

import pytest

from mcld.runs.results import results_text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_never_written(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        results_text({}, {}, {}, {"curves": {}}, {"last": {"top1": value}})
    with pytest.raises(ValueError, match="not JSON compliant"):
        results_text({}, {}, {}, {"curves": {"loss": [value]}}, {})


def test_where_the_machine_keeps_things_is_left_out() -> None:
    environment: dict[str, Any] = {"command": ["/home/me/bin/mcld", "bench", "suite.yaml"], "cores": 2}
    summary: dict[str, Any] = {
        "curves": {},
        "teacher": {"name": "resnet20", "stored": {"folder": "/home/me/logits/abc", "v": 1}},
    }
    text = results_text({}, {}, environment, summary, {})
    assert "/home/me" not in text
    content = json.loads(text)
    assert content["environment"] == {"command": ["mcld", "bench", "suite.yaml"], "cores": 2}
    assert content["summary"]["teacher"] == {"name": "resnet20", "stored": {"folder": "abc", "v": 1}}
    assert environment["command"][0] == "/home/me/bin/mcld"
