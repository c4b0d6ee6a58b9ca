"""Shared by the tests of the harness: a store, local devices in folders of their own, and an agent that obeys."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devices.device import Device, Target
from harness.artifact import Artifact, artifact_of
from harness.build import build_agent
from harness.job import Job
from harness.model_files import Shape
from harness.store import Store

GOLDEN = Path(__file__).parents[1] / "golden" / "protocol"

FAKE_AGENT = '''#!{python} -IS
"""Speaks PROTOCOL.md. Logs each call beside the bench folder; `--case` schemes that name a fault have it.

A file `slow` there has the factor by which products take longer."""
import json, os, pathlib, signal, sys, time

def say(**record):
    print(json.dumps(dict(record, t=time.monotonic_ns())), flush=True)

def fail(code, status):
    say(type="error", code=code, message="as told")
    sys.exit(status)

command, options = sys.argv[1], sys.argv[2:]
cases = [value for name, value in zip(options, options[1:]) if name == "--case"]
model = [value for name, value in zip(options, options[1:]) if name == "--model"]
log = pathlib.Path(__file__).parents[1] / "calls.log"
with log.open("a") as file:
    file.write(" ".join([command, *cases, *(pathlib.Path(path).read_text().strip() for path in model)]) + "\\n")
say(type="hello", protocol=1, agent="0.1.0", command=command, pid=os.getpid())
if command == "spin":
    say(type="spin", cpu=0, additions=1000, ns=1000, mhz=1000.0)
elif command == "mm":
    for case in cases:
        scheme, shape, m = case.split(":")
        if scheme == "unsupported":
            fail("unsupported", 5)
        if scheme == "usage":
            fail("usage", 2)
        if scheme == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if scheme == "once" and log.read_text().count("mm " + case) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        while scheme == "gate" and log.read_text().count("mm " + case) == 2 and not (log.parent / "open").exists():
            time.sleep(0.02)
        n, k = map(int, shape.split("x"))
        slow = log.parent / "slow"
        factor = int(slow.read_text()) if slow.exists() else 1
        say(type="mm", scheme=scheme, variant="fake", n=n, k=k, m=int(m), footprint_bytes=0, threads=1, calls=10,
            weight_bytes=n * k, ns=[factor * (1000 + i) for i in range(5)])
elif command == "peak":
    say(type="peak", what="read", isa="fake", loop="1 stream", level="memory", bytes=1 << 26, pages="huge",
        huge_share=1.0, threads=1, work=8000, begin_ns=1, end_ns=2, ns=[1000, 800])
elif command == "llm":
    say(type="llm", phase="prefill", tokens=128, threads=1, first_ns=2000, ns=[1000, 1001])
    say(type="llm", phase="decode", tokens=64, threads=1, first_ns=2000, ns=[1000, 1001])
elif command == "lease":
    say(type="lease", event="held", fence=int(options[options.index("--fence") + 1]), ttl_ms=30000)
    for line in sys.stdin:
        if line == "end\\n":
            say(type="lease", event="restored", cause="end", restored=0, failed=[])
            break
        say(type="lease", event=line.split("\\t")[0].strip())
say(type="done")
'''


@pytest.fixture
def golden() -> Callable[[str], list[str]]:
    """The lines of one golden file of the protocol."""
    return lambda name: (GOLDEN / f"{name}.jsonl").read_text().splitlines()


@pytest.fixture(scope="session")
def tiny_shape() -> Shape:
    """Of a model that is made and timed in a moment, with columns that every library can quantize."""
    sizes = {
        "vocab_size": 512, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    }  # fmt: skip
    return Shape("tiny", sizes)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store" / "results.sqlite")


@pytest.fixture
def agent(tmp_path: Path) -> Artifact:
    """A real executable that answers like the agent, and dies when told so by the name of a scheme."""
    path = tmp_path / "fake-agent"
    path.write_text(FAKE_AGENT.replace("{python}", sys.executable))
    return artifact_of("agent", path)


@pytest.fixture(scope="session")
def real_agent() -> Callable[[str], Artifact]:
    """The agent of a preset (`x86_64-linux`), built from this checkout; the user's cache makes the second run fast."""
    return lambda preset: build_agent(Target(*preset.split("-")[:1]))


@pytest.fixture
def local_device(tmp_path: Path) -> Callable[[str], Device]:
    """A device that is this machine, with a bench folder of its own."""
    return lambda name: Device(name=name, family="local", transport="local", root=str(tmp_path / "devices" / name))


@pytest.fixture
def mm_job(agent: Artifact) -> Callable[..., Job]:
    """A job that times one product on the named device."""
    from harness.probes.latency import mm_job

    def make(device: str, case: str, launches: int = 2, **params: Any) -> Job:
        return mm_job({"machine": device}, agent.sha256, [case], launches=launches, **params)

    return make
