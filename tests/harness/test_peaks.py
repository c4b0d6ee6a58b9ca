"""Limits are read from what was stored: the fastest piece of all launches, whatever pattern read it."""

from typing import Any

from harness.measurement import Measurement
from harness.peaks import limits_of
from harness.probes.peak import peak_job
from harness.store import Store

JOB = peak_job({"machine": "test"}, "a")


def measured(*launches: tuple[float, ...], **subject: Any) -> Measurement:
    read = subject["what"] == "read"
    own = [{"loop": f"{i + 1} streams", "set_bytes": 1 << 26, "huge_share": 1.0} for i in range(len(launches))]
    return Measurement(
        JOB.key,
        "bandwidth" if read else "throughput",
        "GB/s" if read else "GOP/s",
        {"isa": "avx2", "threads": 1, **subject},
        launches,
        {"launches": own} if read else {},
    )


def test_a_limit_is_the_fastest_piece_with_the_pattern_of_its_launch(store: Store) -> None:
    run = store.begin_run("test", "bench", {})
    read = measured((10.0, 20.0), (19.0, 22.5), (1.0,), what="read", level="memory", pages="huge")
    store.append(run, JOB, [read, measured((170.0,), what="int8", level="registers", loop="vpmaddubsw")])
    memory, registers = limits_of(store.measurements(run_id=run))
    assert (memory.value, memory.loop, memory.pages, memory.launches, memory.pieces) == (
        22.5,
        "2 streams",
        "huge",
        3,
        5,
    )
    assert (registers.value, registers.loop, registers.pages, registers.set_bytes) == (170.0, "vpmaddubsw", "", 0)


def test_a_failed_answer_is_no_limit(store: Store) -> None:
    run = store.begin_run("test", "bench", {})
    store.append(run, JOB, [Measurement(JOB.key, "peak", "", error="no memory")])
    assert limits_of(store.measurements(run_id=run)) == []
