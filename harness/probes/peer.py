"""Probe peer: products of another library, in a process of its own on this machine (harness/peers/)."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from harness.errors import InfrastructureError
from harness.job import Job
from harness.measurement import Measurement
from harness.probes.base import Count, Word, read_results
from harness.probes.latency import LAUNCHES, Durations, Timed


class PeerLine(Timed):
    type: Literal["peer"]
    peer: Word
    kernel: Word
    bits: Annotated[int, Field(ge=1, le=16)]
    group: Annotated[int, Field(ge=0)]
    n: Count
    k: Count
    m: Count
    footprint_bytes: Count
    threads: Count
    calls: Count
    weight_bytes: Count
    ns: Durations


def peer_job(
    device: Mapping[str, Any],
    agent_sha256: str,
    peer: str,
    version: str,
    cases: Sequence[str],
    *,
    footprint: Literal["cold", "warm"] = "cold",
    iterations: int = 20,
    min_ns: int = 1_000_000,
    threads: int = 1,
    cpus: Sequence[int] = (),
    launches: int = LAUNCHES,
) -> Job:
    """Time every case `BITS:NxK:M` with all kernels of a peer; the agent only checks the clock before and after."""
    params = {
        "peer": peer,
        "version": version,
        "cases": list(cases),
        "footprint": footprint,
        "iterations": iterations,
        "min_ns": min_ns,
        "threads": threads,
        "cpus": list(cpus),
        "launches": launches,
    }
    return Job(device, "peer", {"agent": agent_sha256}, params)


class PeerProducts:
    """Metric `latency`, ns per product, one value a batch; subject peer, kernel, bits, group, n, k, m, weight_bytes."""

    name: ClassVar[str] = "peer"
    timed: ClassVar[bool] = True

    def argv(self, job: Job, paths: Mapping[str, str]) -> list[str]:
        cases = [word for case in job.params["cases"] for word in ("--case", case)]
        weights = ["--warm"] if job.params["footprint"] == "warm" else []
        effort = ["--iterations", str(job.params["iterations"]), "--min-ns", str(job.params["min_ns"])]
        cpus = ["--cpus", ",".join(map(str, job.params["cpus"]))] if job.params["cpus"] else []
        place = ["--threads", str(job.params["threads"]), *cpus]
        return [sys.executable, "-m", "harness.peers", job.params["peer"], *cases, *weights, *effort, *place]

    def parse(self, job: Job, lines: Iterable[str]) -> list[Measurement]:
        """InfrastructureError when there is no answer, or one to what was not asked; some cases may have no kernel."""
        results = read_results(lines, "peer", PeerLine)
        strange = {f"{line.bits}:{line.n}x{line.k}:{line.m}" for line in results} - set(job.params["cases"])
        if strange or not results:
            found = ", ".join(sorted(strange)) or "nothing"
            raise InfrastructureError(f"the peer answered {found}, expected {', '.join(job.params['cases'])}")
        return [_product(job, line) for line in results]


SUBJECT = ("peer", "kernel", "bits", "group", "n", "k", "m", "footprint_bytes", "threads", "weight_bytes")


def _product(job: Job, line: PeerLine) -> Measurement:
    values = tuple(batch / line.calls for batch in line.ns)
    subject = {name: getattr(line, name) for name in SUBJECT}
    return Measurement(job.key, "latency", "ns", subject, (values,), {"calls": line.calls})
