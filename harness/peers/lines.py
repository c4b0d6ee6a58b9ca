"""Lines: what the process of a peer prints, as the agent does (kernels/PROTOCOL.md), and where its threads stay."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.peers.timing import now_ns, timer_ns

PROTOCOL = 1


def own_output() -> None:
    """What libraries print on standard output goes to standard error from here on; lines do not."""
    os.dup2(2, 1)


def hello(command: str, agent: str) -> None:
    """The first line. `agent` is who answers, with its version."""
    affinity = sorted(os.sched_getaffinity(0))
    say(
        "hello",
        protocol=PROTOCOL,
        agent=agent,
        command=command,
        pid=os.getpid(),
        timer_ns=timer_ns(),
        affinity=affinity,
    )


def say(kind: str, **fields: Any) -> None:
    """On the standard output that this process began with."""
    print(json.dumps({"type": kind, "t": now_ns(), **fields}), file=_OUTPUT, flush=True)


def done() -> None:
    """The last line: what the kernel lets the threads of this process run on, together."""
    say("done", cpus=sorted({cpu for task in _tasks() for cpu in os.sched_getaffinity(task)}))


def settle(cpus: Sequence[int]) -> None:
    """Before threads of the peer begin: they inherit where they may run. Those that numpy began are moved."""
    # Meant for the libraries of the bench itself; a peer waits as it likes.
    os.environ.pop("OMP_WAIT_POLICY", None)
    for task in _tasks() if cpus else ():
        os.sched_setaffinity(task, cpus)


def _tasks() -> list[int]:
    return [int(path.name) for path in Path("/proc/self/task").iterdir()]


_OUTPUT = os.fdopen(os.dup(1), "w", encoding="utf-8")
