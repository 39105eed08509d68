import pytest

from mcld.runs.results import results_text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_never_written(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        results_text({}, {}, {}, {"curves": {}}, {"last": {"top1": value}})
    with pytest.raises(ValueError, match="not JSON compliant"):
        results_text({}, {}, {}, {"curves": {"loss": [value]}}, {})
