"""Placement: the cores that a measurement runs on, as a word that fits many devices or as a list of CPUs.

    all   cpus=0-3,6   little   mid   big   prime   big+mid

The words name kinds of cores (Facts.clusters, slowest first):

    kinds   little   mid         big             prime
    1       all of them, whatever the word
    2       first    -           second          -
    3       first    second      third           third
    more    first    between     next to last    last

With three kinds the fastest has two names, since makers differ: Google's kernels call it BIG, Qualcomm's prime.
"""

from dataclasses import replace

from devices.device import placement_cpus
from devices.errors import InventoryError
from devices.families.base import Facts
from devices.families.linux import cpu_list

WORDS = ("little", "mid", "big", "prime")


def check_placement(placement: str) -> None:
    """Whether it can be read at all, without knowing the device; raises InventoryError."""
    if _words(placement) is None:
        try:
            placement_cpus(placement)
        except InventoryError as error:
            raise InventoryError(f"{error}, or kinds of cores: {', '.join(WORDS)}, big+mid") from error


def resolve_placement(placement: str, facts: Facts) -> tuple[int, ...] | None:
    """The CPUs of a placement on a device, ascending, all of them online; None for `all`. Raises InventoryError."""
    check_placement(placement)
    words = _words(placement)
    chosen = placement_cpus(placement) if words is None else _of_kinds(placement, words, facts)
    if chosen is None:
        return None
    online = {core.id for core in facts.cores if core.online}
    if facts.cores and not online.issuperset(chosen):
        off = ", ".join(str(cpu) for cpu in sorted(set(chosen) - online))
        raise InventoryError(f"placement {placement!r}: CPUs {off} are not there or off; {describe_kinds(facts)}")
    return chosen


def barred(cpus: tuple[int, ...] | None, facts: Facts) -> tuple[int, ...]:
    """Those of the CPUs that the device's cpuset keeps us off; empty for `all`, which means all that we may use."""
    if cpus is None or facts.affinity is None:
        return ()
    return tuple(sorted(set(cpus) - cpu_list(facts.affinity)))


def describe_kinds(facts: Facts) -> str:
    """`it has little (0-3), big (4-7)`, for messages."""
    kinds = kinds_of(facts)
    by_cpus: dict[tuple[int, ...], list[str]] = {}
    for word in WORDS:
        if word in kinds:
            by_cpus.setdefault(kinds[word], []).append(word)
    named = [f"{'/'.join(names)} (CPUs {','.join(map(str, cpus))})" for cpus, names in by_cpus.items()]
    return f"it has {', '.join(named)}" if named else "it does not list its cores: name them, such as `cpus=0-3`"


def kinds_of(facts: Facts) -> dict[str, tuple[int, ...]]:
    """CPUs by the words that this device has. A kind whose cores are all off keeps its name."""
    clusters = _clusters(facts)
    if not clusters:
        return {}
    if len(clusters) == 1:
        return dict.fromkeys(WORDS, clusters[0])
    named = {"little": clusters[0], "big": clusters[-1]}
    if len(clusters) == 3:
        named |= {"mid": clusters[1], "prime": clusters[2]}
    if len(clusters) > 3:
        named |= {"mid": tuple(sorted(sum(clusters[1:-2], ()))), "big": clusters[-2], "prime": clusters[-1]}
    return named


def _clusters(facts: Facts) -> tuple[tuple[int, ...], ...]:
    """Kinds of cores that are on, and those that are off as a whole: such a core has a capacity that no other has."""
    seen = {core.capacity for core in facts.cores if core.online}
    counted = [core for core in facts.cores if core.online or (core.capacity is not None and core.capacity not in seen)]
    return replace(facts, cores=tuple(counted)).clusters


def _words(placement: str) -> list[str] | None:
    """`big+mid` as its words; None if it is anything else."""
    words = placement.split("+")
    return words if set(words) <= set(WORDS) else None


def _of_kinds(placement: str, words: list[str], facts: Facts) -> tuple[int, ...]:
    kinds = kinds_of(facts)
    if missing := [word for word in words if word not in kinds]:
        raise InventoryError(f"placement {placement!r}: no {missing[0]} cores on this device; {describe_kinds(facts)}")
    return tuple(sorted({cpu for word in words for cpu in kinds[word]}))
