"""Probes peer (products of another library) and peer_llm (a whole model by llama.cpp): processes on this machine."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from harness.errors import InfrastructureError
from harness.job import Job
from harness.measurement import Measurement
from harness.probes.base import Count, Word, placement_options, read_results
from harness.probes.latency import LAUNCHES, Durations, Llm, Timed


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


def peer_llm_job(timing: Job, model_sha256: str, version: str) -> Job:
    """What the llm job asks of another model file, by llama.cpp of this version; the agent only checks the clock."""
    asked = {name: value for name, value in timing.params.items() if name != "pages"}
    artifacts = {**timing.artifacts, "model": model_sha256}
    return Job(timing.device, "peer_llm", artifacts, {**asked, "peer": "llamacpp", "version": version})


class PeerProducts:
    """Metric `latency`, ns per product, one value a batch; subject peer, kernel, bits, group, n, k, m, weight_bytes."""

    name: ClassVar[str] = "peer"
    timed: ClassVar[bool] = True

    def argv(self, job: Job, paths: Mapping[str, str]) -> list[str]:
        cases = [word for case in job.params["cases"] for word in ("--case", case)]
        weights = ["--warm"] if job.params["footprint"] == "warm" else []
        effort = ["--iterations", str(job.params["iterations"]), "--min-ns", str(job.params["min_ns"])]
        command = [sys.executable, "-m", "harness.peers", job.params["peer"]]
        return [*command, *cases, *weights, *effort, *placement_options(job)]

    def parse(self, job: Job, lines: Iterable[str]) -> list[Measurement]:
        """InfrastructureError when there is no answer, or one to what was not asked; some cases may have no kernel."""
        results = read_results(lines, "peer", PeerLine)
        strange = {f"{line.bits}:{line.n}x{line.k}:{line.m}" for line in results} - set(job.params["cases"])
        if strange or not results:
            found = ", ".join(sorted(strange)) or "nothing"
            raise InfrastructureError(f"the peer answered {found}, expected {', '.join(job.params['cases'])}")
        return [_product(job, line) for line in results]


class PeerModel(Llm):
    """As of llm: metrics `latency` and `first_latency`, ns of a whole phase; subject phase, tokens, threads."""

    name: ClassVar[str] = "peer_llm"

    def argv(self, job: Job, paths: Mapping[str, str]) -> list[str]:
        work = [w for name in ("prefill", "decode", "iterations") for w in (f"--{name}", str(job.params[name]))]
        command = [sys.executable, "-m", "harness.peers.llamacpp_model", "time", paths["model"]]
        return [*command, *work, *placement_options(job)]


SUBJECT = ("peer", "kernel", "bits", "group", "n", "k", "m", "footprint_bytes", "threads", "weight_bytes")


def _product(job: Job, line: PeerLine) -> Measurement:
    values = tuple(batch / line.calls for batch in line.ns)
    subject = {name: getattr(line, name) for name in SUBJECT}
    return Measurement(job.key, "latency", "ns", subject, (values,), {"calls": line.calls})
