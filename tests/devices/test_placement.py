"""A placement is a word that means the right cores on every device, or an error that says what the device has."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Core, Device, Facts, Session, barred, resolve_placement
from devices.errors import InventoryError
from devices.families.phone import Phone
from devices.placement import WORDS, check_placement, kinds_of
from devices.transport.local import LocalTransport
from devices.virtual.board import build_tree, load_board


def device(*sizes: int) -> Facts:
    """One kind of core per size, slowest first, numbered in order."""
    kinds = [kind for kind, size in enumerate(sizes) for _ in range(size)]
    return Facts(cores=tuple(Core(cpu, capacity=100 * (kind + 1)) for cpu, kind in enumerate(kinds)))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((4,), {"little": "0123", "mid": "0123", "big": "0123", "prime": "0123"}),
        ((4, 2), {"little": "0123", "big": "45"}),
        ((4, 3, 1), {"little": "0123", "mid": "456", "big": "7", "prime": "7"}),
        ((2, 2, 3, 1), {"little": "01", "mid": "23", "big": "456", "prime": "7"}),
        ((2, 1, 1, 3, 1), {"little": "01", "mid": "23", "big": "456", "prime": "7"}),
        ((), {}),
    ],
)
def test_words_name_kinds(sizes: tuple[int, ...], expected: dict[str, str]) -> None:
    assert {word: "".join(map(str, cpus)) for word, cpus in kinds_of(device(*sizes)).items()} == expected


def test_words_add_up() -> None:
    assert resolve_placement("big+mid", device(4, 3, 1)) == (4, 5, 6, 7)
    assert resolve_placement("little+big", device(2, 2)) == (0, 1, 2, 3)


def test_all_pins_nothing_and_a_list_is_taken_as_it_is() -> None:
    assert resolve_placement("all", device(4)) is None
    assert resolve_placement("cpus=1,3", device(4)) == (1, 3)
    assert resolve_placement("cpus=0-3", Facts()) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("placement", "facts", "said"),
    [
        ("mid", device(4, 2), r"no mid cores on this device; it has little \(CPUs 0,1,2,3\), big \(CPUs 4,5\)"),
        ("prime", device(1, 1), "no prime cores"),
        ("big", Facts(), "does not list its cores: name them, such as `cpus=0-3`"),
        ("cpus=3-5", device(4), "CPUs 4, 5 are not there or off; it has little/mid/big/prime"),
    ],
)
def test_what_a_device_lacks_is_told_with_what_it_has(placement: str, facts: Facts, said: str) -> None:
    with pytest.raises(InventoryError, match=said):
        resolve_placement(placement, facts)


def off(facts: Facts, *cpus: int) -> Facts:
    return replace(facts, cores=tuple(replace(core, online=core.id not in cpus) for core in facts.cores))


def test_a_core_that_is_off_is_left_out_of_its_kind() -> None:
    facts = off(device(4, 3, 1), 5)
    assert resolve_placement("mid", facts) == (4, 6)
    # The kernel says less about a core that is off; it is no kind of its own.
    vague = replace(facts, cores=tuple(c if c.online else replace(c, max_khz=None, part=None) for c in facts.cores))
    assert resolve_placement("mid", vague) == (4, 6)


def test_a_kind_that_is_off_keeps_its_name_so_that_the_others_keep_theirs() -> None:
    facts = off(device(4, 3, 1), 7)
    assert resolve_placement("mid", facts) == (4, 5, 6)
    with pytest.raises(InventoryError, match="CPUs 7 are not there or off"):
        resolve_placement("prime", facts)


def test_words_on_real_layouts(tmp_path: Path) -> None:
    build_tree(load_board("phone-pixel8"), tmp_path)
    facts = Phone(str(tmp_path)).facts(Session(Device("x", transport="local"), LocalTransport()))
    found = {word: resolve_placement(word, facts) for word in ("little", "mid", "prime")}
    assert found == {"little": (0, 1, 2, 3), "mid": (4, 5, 6, 7), "prime": (8,)}


@pytest.mark.parametrize("word", ["all", "cpus=0-3,6", *WORDS, "big+mid"])
def test_what_can_be_written(word: str) -> None:
    check_placement(word)


@pytest.mark.parametrize("word", ["", "Big", "big+", "big+all", "bigmid", "little,big", "cpus=", "+"])
def test_other_words_are_explained(word: str) -> None:
    with pytest.raises(InventoryError, match=r"expected `all` or a list of CPUs.*little, mid, big, prime, big\+mid"):
        check_placement(word)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.sampled_from(WORDS), st.sets(st.integers(0, 23)))
def test_a_placement_gives_cores_that_are_on_or_an_error(sizes: list[int], word: str, asleep: set[int]) -> None:
    facts = off(device(*sizes), *asleep)
    try:
        cpus = resolve_placement(word, facts)
    except InventoryError:
        return
    assert cpus and list(cpus) == sorted(set(cpus))
    assert {core.id for core in facts.cores if core.online}.issuperset(cpus)


@pytest.mark.parametrize(
    ("cpus", "affinity", "expected"),
    [((4, 5), "0-3", (4, 5)), ((3, 4), "0-3", (4,)), ((0, 1), "0-3", ()), (None, "0-3", ()), ((7,), None, ())],
)
def test_barred_are_the_cores_that_the_cpuset_forbids(
    cpus: tuple[int, ...] | None, affinity: str | None, expected: tuple[int, ...]
) -> None:
    assert barred(cpus, Facts(affinity=affinity)) == expected
