"""Lab benchmark: how fast the path to a device is, on virtual boards: connect, start, upload, many at once.

figures = run_benchmark(32, progress)
write_page(figures, {"command": "bench lab benchmark"}, Path("site"))
"""

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from devices import LOCAL, Device, Session, open_session
from devices.device import Target
from devices.virtual.lab import Lab, VirtualBoard
from harness.artifact import Artifact
from harness.build import build_agent
from harness.campaign import bench_version, git_commit
from harness.deploy import deploy
from harness.errors import InfrastructureError
from harness.probes.latency import mm_job
from harness.progress import Progress
from harness.scheduler import DeviceWork, run_jobs
from harness.store import Store
from quantizers.atomic import atomic

REPEATS = 9
PAGE = "lab-benchmark.html"
UPLOAD_BYTES = 50 << 20
BOARD = "pi5"
CASE = "w4a8g32:64x64:1"


@dataclass(frozen=True)
class Figure:
    """`limit` is what was promised: at most, or at least where `least` is set."""

    name: str
    unit: str
    value: float
    limit: float
    least: bool = False
    detail: str = ""

    @property
    def kept(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit


def run_benchmark(sessions: int, progress: Progress) -> list[Figure]:
    """All figures; starts its own boards and stops them. Raises LabError or BenchError."""
    agent = build_agent(Target("aarch64"))
    with tempfile.TemporaryDirectory(prefix="bench-lab-") as folder:
        lab = Lab(Path(folder) / "lab")
        try:
            with progress.step("one board: connect, start, upload"):
                (board,) = lab.up([BOARD])
                figures = [
                    *_connecting(board.device),
                    *_starting(board.device, agent),
                    *_uploading(board, Path(folder)),
                ]
            lab.down()
            with progress.step(f"{sessions} boards at once") as advance:
                boards = lab.up([f"{BOARD}:{sessions}"], lambda board: advance(0, 0, board.name))
                figures.append(_many(boards, agent, Path(folder)))
        finally:
            lab.down()
    return figures


def write_page(figures: Sequence[Figure], facts: Mapping[str, str], out: Path) -> Path:
    """The page of the last benchmark in the folder of the reports; `facts` are added to those of this machine."""
    from pandas import DataFrame

    from reports.promises import render_promises

    shown = [
        {
            "name": one.name,
            "unit": one.unit.replace("ratio", "\N{MULTIPLICATION SIGN}"),
            "value": one.value,
            "limit": one.limit,
            "bound": "at least" if one.least else "at most",
            "verdict": "kept" if one.kept else "missed",
            "detail": one.detail,
        }
        for one in figures
    ]
    host = DataFrame({**_host_facts(), **facts}.items(), columns=["fact", "value"])
    with atomic(out / PAGE) as temporary:
        page = render_promises({"figures": DataFrame(shown), "host": host}, "Virtual lab: the path to a device")
        temporary.write_text(page, encoding="utf-8")
    return out / PAGE


def _host_facts() -> dict[str, str]:
    with open_session(LOCAL) as session:
        facts = session.facts()
    return {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{len(facts.cores)} cores of {facts.cpu_model or facts.arch or 'an unknown processor'}",
        "kernel": facts.kernel or "",
        "load afterwards": "" if facts.load_1min is None else f"{facts.load_1min:g}",
        "bench": " ".join(filter(None, (bench_version(), git_commit()))),
    }


def _connecting(device: Device) -> list[Figure]:
    def connect() -> None:
        with open_session(device) as session:
            session.facts()

    return [Figure("connection plus facts", "s", _median(connect), 1.0, detail=f"median of {REPEATS} new connections")]


def _starting(device: Device, agent: Artifact) -> list[Figure]:
    with open_session(device) as session:
        deploy(session, agent)
        seconds = statistics.median(_start(session, agent) for _ in range(REPEATS))
    detail = "agent checked by its hash, until its first line arrives"
    return [Figure("start of a deployed job", "ms", 1e3 * seconds, 150.0, detail=detail)]


def _start(session: Session, agent: Artifact) -> float:
    """Seconds from the request to the agent's first line."""
    first: list[float] = []
    began = time.perf_counter()
    session.run([deploy(session, agent), "spin", "--ms", "1"], on_line=lambda line: first.append(time.perf_counter()))
    return first[0] - began


def _uploading(board: VirtualBoard, folder: Path) -> list[Figure]:
    """In turns with scp, over the same link."""
    file = folder / "upload"
    file.write_bytes(os.urandom(1 << 20) * (UPLOAD_BYTES >> 20))
    scp = _scp(board, file)
    with open_session(board.device) as session:
        pairs = [(_seconds(lambda: session.put(file, "upload")), _seconds(scp)) for _ in range(REPEATS)]
    ours, theirs = (UPLOAD_BYTES / 1e6 / statistics.median(column) for column in zip(*pairs, strict=True))
    detail = f"{ours:.0f} MB/s, scp {theirs:.0f} MB/s, {UPLOAD_BYTES >> 20} MiB"
    return [Figure("upload beside scp", "ratio", ours / theirs, 0.7, least=True, detail=detail)]


def _scp(board: VirtualBoard, file: Path) -> Callable[[], object]:
    program, device = shutil.which("scp"), board.device
    if program is None:
        raise InfrastructureError("scp is missing, beside which uploads are measured: apt-get install openssh-client")
    options = ["-q", "-F", "none", "-i", str(device.identity_file), "-P", str(device.port or 22)]
    options += ["-o", f"UserKnownHostsFile={device.known_hosts}", "-o", "BatchMode=yes"]
    argv = [program, *options, str(file), f"{device.user}@{device.host}:upload-scp"]
    return lambda: subprocess.run(argv, check=True)


def _many(boards: Sequence[VirtualBoard], agent: Artifact, folder: Path) -> Figure:
    """One job on each, all at once: how many were lost."""
    store = Store(folder / "results.sqlite")
    jobs = [mm_job({"name": board.name}, agent.sha256, [CASE], launches=1, iterations=3) for board in boards]
    work = [DeviceWork(board.device, (job,)) for board, job in zip(boards, jobs, strict=True)]
    run_id = store.begin_run("lab", "bench lab benchmark", {})
    began = time.perf_counter()
    outcomes = run_jobs(work, store, run_id, [agent])
    seconds = time.perf_counter() - began
    lost = sum(outcome.status != "measured" for outcome in outcomes) + len(boards) - len(outcomes)
    store.close()
    return Figure(f"jobs lost of {len(boards)} at once", "jobs", lost, 0, detail=f"all done after {seconds:.1f} s")


def _median(work: Callable[[], None]) -> float:
    return statistics.median(_seconds(work) for _ in range(REPEATS))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
