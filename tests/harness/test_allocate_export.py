"""harness/allocate/export.py: allocation.json.

Remake the golden file with:
    python -c "import runpy; runpy.run_path('tests/harness/test_allocate_export.py')['remake']()"
"""

import json
from pathlib import Path

import pytest

from harness.allocate import Budget, Candidate, Group, Problem, solve
from harness.allocate.export import AllocationFile, Interval, read, write
from harness.errors import UsageError

GOLDEN = Path(__file__).parent.parent / "golden" / "allocation.json"


def example() -> AllocationFile:
    small = Candidate("w4a8g128", {"kl": 0.5, "decode_us": 2.0, "bytes": 10.0})
    large = Candidate("w8a8", {"kl": 0.125, "decode_us": 4.0, "bytes": 20.0})
    coarse = Candidate("w2a8", {"kl": 2.0, "decode_us": 2.0, "bytes": 5.0})
    groups = (Group("q", ("blk.0.q", "blk.0.k"), (small, large)), Group("down", ("blk.0.down",), (coarse, large)))
    problem = Problem(groups, (Budget("decode_us", 7.0), Budget("bytes", 64.0)), fixed={"decode_us": 1.0})
    measured = {"decode_us": Interval(value=6.5, low=6.0, high=7.0)}
    return AllocationFile.of(problem, solve(problem), measured, {"model": "0" * 64})


def remake() -> None:
    write(example(), GOLDEN)


def test_the_file_is_the_golden_one_byte_for_byte(tmp_path: Path) -> None:
    write(example(), tmp_path / "allocation.json")
    assert (tmp_path / "allocation.json").read_bytes() == GOLDEN.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["allocation.json"]


def test_what_was_written_is_read_back() -> None:
    assert read(GOLDEN) == example()
    assert set(read(GOLDEN).layers) == {"blk.0.q", "blk.0.k", "blk.0.down"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": 2}, "version 2"),
        ({"gap": -1.0}, "gap"),
        ({"surprise": 1}, "surprise"),
        ({"groups": []}, "groups"),
        ({"groups": [{"name": n, "layers": ["x"], "scheme": "w8a8"} for n in "ab"]}, "two groups"),
        ({"budgets": {"bytes": "many"}}, "budgets.bytes"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_entry(
    tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    path = tmp_path / "allocation.json"
    path.write_text(json.dumps({**json.loads(GOLDEN.read_text()), **change}))
    with pytest.raises(UsageError, match=complaint):
        read(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_what_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "allocation.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="not an allocation"):
        read(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "none.json")
