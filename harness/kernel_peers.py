"""Kernel peers: our products beside those of other libraries, in one session, their launches in turns.

standing = compare_peers(device, Products(("w4a8g128:4096x4096:1",)), Path("site"), "bench kernels --peers", progress)
standing.contests[0].rivals[0].ratio      # of the fastest peer: its time / ours, with an interval
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devices.device import Device
from harness.costs import CostTable, Operator
from harness.errors import UsageError
from harness.job import Job
from harness.kernel_cases import Case, Products
from harness.measurement import Measurement
from harness.peaks import Limit, limits_of
from harness.peers import PEERS
from harness.probes.peer import peer_job
from harness.product_run import ProductRun
from harness.progress import Progress
from harness.stats.compare import Comparison, compare
from harness.stats.launches import Estimate, Launches, estimate
from harness.store import StoredMeasurement
from harness.verdict import judge
from quantizers.scheme import Scheme

Limits = Mapping[str, float]
"""What the device can do at best, as measured: `read_gbps` of memory, `int8_gops`, `fp32_gops`; any may lack."""


@dataclass(frozen=True)
class Rival:
    """A kernel of a peer on one case; `ratio` is its time / ours: above 1 ours is faster."""

    peer: str
    kernel: str
    latency_us: Estimate
    weight_bytes: int
    ratio: Comparison


@dataclass(frozen=True)
class Contest:
    """One case: ours, rivals from the fastest on, which share of each limit ours reaches, and what is doubtful.

    `reasons` are codes of the verdicts on ours and the fastest rival.
    """

    operator: Operator
    rivals: tuple[Rival, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Standing:
    """`peers`: name -> version of those that took part; `absent`: name -> why it did not."""

    contests: tuple[Contest, ...]
    peers: Mapping[str, str]
    absent: Mapping[str, str]


def compare_peers(device: Device, products: Products, out: Path, command: str, progress: Progress) -> Standing:
    """All cases by us and by every peer that is installed. Raises the error of our job when the device cannot do it.

    A peer that fails is noted, and is no rival.
    """
    check_here(device)
    absent = {name: reason for name, peer in PEERS.items() if (reason := why_absent(name, products.cases))}
    versions = {name: peer.version() for name, peer in PEERS.items() if name not in absent}
    run = ProductRun.of(device, products, out, command, progress)
    ours = run.timing()
    theirs = [_peer_job(run, name, version) for name, version in versions.items()]
    stored = run.ask_products([ours, run.limits(), *theirs], needed=ours, together=True)
    return Standing(tuple(contests(ours, stored, best(limits_of(stored)))), versions, absent)


def best(limits: Iterable[Limit]) -> Limits:
    """Of reads those of memory; of several ways the fastest."""
    names = {"read": "read_gbps", "int8": "int8_gops", "fp32": "fp32_gops"}
    wanted = sorted((one for one in limits if one.level in ("memory", "registers")), key=lambda one: one.value)
    return {names[one.what]: one.value for one in wanted}


def check_here(device: Device) -> None:
    """Raises UsageError where nothing of ours is installed."""
    if device.transport != "local":
        raise UsageError(f"{device.name}: peers run on this machine only; leave out --peers, or --device {device.name}")


def why_absent(name: str, cases: Iterable[str]) -> str:
    """Why a peer does not take part; empty if it does."""
    fits = any(kernel.fits(*_parts(case)[:3]) for case in cases for kernel in PEERS[name].kernels)
    return PEERS[name].missing() or ("" if fits else "it has no kernel for these bits and shapes")


def contests(ours: Job, stored: Sequence[StoredMeasurement], limits: Limits) -> list[Contest]:
    """From all measurements of a run: one for each case of our job."""
    table = CostTable.of(one for one in stored if one.job.key == ours.key)
    mine = {_key(one.measurement): one.measurement for one in stored if one.job.key == ours.key and _timed(one)}
    theirs = [one.measurement for one in stored if one.job.probe == "peer" and _timed(one)]
    return [
        _contest(operator, mine[key], [one for one in theirs if _key(one) == _key_of_peers(key)], limits)
        for key, operator in table.operators.items()
    ]


def shares(operator: Operator, limits: Limits) -> dict[str, float]:
    """Limit -> the share of it that a product reaches: bytes of weights read, multiplications and additions done."""
    ns, floats = operator.latency_us.value * 1e3, Scheme.parse(operator.scheme).activation_bits == 16
    compute = "fp32_gops" if floats else "int8_gops"
    rates = {"read_gbps": operator.weight_bytes / ns, compute: 2 * operator.m * operator.n * operator.k / ns}
    return {name: rate / limits[name] for name, rate in rates.items() if name in limits}


def _contest(operator: Operator, mine: Measurement, theirs: Sequence[Measurement], limits: Limits) -> Contest:
    found = [(_rival(mine.launches, one, len(theirs)), one) for one in theirs]
    found.sort(key=lambda pair: pair[0].latency_us.value)
    judged = [mine, *(measurement for _, measurement in found[:1])]
    reasons = dict.fromkeys(reason for one in judged for reason in judge(one).reasons)
    return Contest(operator, tuple(rival for rival, _ in found), shares(operator, limits), tuple(reasons))


def _rival(ours: Launches, theirs: Measurement, rivals: int) -> Rival:
    """The fastest of several looks faster than it is: the interval allows for all of them."""
    return Rival(
        theirs.subject["peer"],
        theirs.subject["kernel"],
        estimate(theirs.launches).scaled(1e-3),
        theirs.subject["weight_bytes"],
        compare(ours, theirs.launches, comparisons=rivals),
    )


def _peer_job(run: ProductRun, name: str, version: str) -> Job:
    cases = dict.fromkeys("{}:{}x{}:{}".format(*_parts(case)) for case in run.products.cases)
    job = peer_job(
        run.station.identity,
        run.station.agent.sha256,
        name,
        version,
        list(cases),
        footprint=run.products.memory,
        threads=run.products.threads,
        cpus=run.station.cpus,
        launches=run.products.launches,
    )
    return run.of_this_run(job)


def _parts(case: str) -> tuple[int, int, int, int]:
    """Bits, N, K, M of SCHEME:NxK:M."""
    parsed = Case.parse(case)
    return parsed.scheme.weight_bits, parsed.n, parsed.k, parsed.m


def _timed(stored: StoredMeasurement) -> bool:
    return stored.measurement.metric == "latency" and bool(stored.measurement.launches)


def _key(measurement: Measurement) -> tuple[str | int, int, int, int]:
    """What is asked by whom: our schemes, or the bits of a peer."""
    subject = measurement.subject
    return subject.get("scheme") or subject["bits"], subject["n"], subject["k"], subject["m"]


def _key_of_peers(key: tuple[str, int, int, int]) -> tuple[int, int, int, int]:
    scheme, *shape = key
    n, k, m = shape
    return Scheme.parse(scheme).weight_bits, n, k, m
