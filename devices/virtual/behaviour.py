"""Behaviour: what a virtual board's sensors show, from the load of its processes.

load -> watts (idle_w + core_w a busy core) -> degrees (first-order lag) -> throttling -> clocks. It makes the path
testable: a sensor that moves with the work. It is no model of any real board.
"""

import ast
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from devices.virtual.board import Board, Dynamics, cores_of

PERIOD_S = 0.2
HYSTERESIS_C = 5.0
THROTTLED_SHARE = 0.6
"""The highest clock that heat leaves, as a share of the cluster's."""
ROOM = "/run/virtual-board-room"
"""The temperature around the board in °C, once somebody has written it there: how a test heats one."""
_ARITHMETIC = (
    ast.Expression
    | ast.BinOp
    | ast.UnaryOp
    | ast.Constant
    | ast.Name
    | ast.Load
    | ast.operator
    | ast.unaryop
    | ast.Call
)
_FUNCTIONS = {"int": int, "min": min, "max": max, "round": round}


@dataclass(frozen=True)
class State:
    """`busy` is the number of busy cores."""

    busy: float = 0.0
    watts: float = 0.0
    celsius: float = 40.0
    throttled: bool = False


def step(dynamics: Dynamics, state: State, busy: float, seconds: float) -> State:
    """The state after `seconds` with `busy` cores at work."""
    watts = dynamics.idle_w + dynamics.core_w * busy * (THROTTLED_SHARE if state.throttled else 1.0)
    aim = dynamics.ambient_c + dynamics.c_per_w * watts
    celsius = state.celsius + (aim - state.celsius) * min(1.0, seconds / dynamics.seconds)
    margin = HYSTERESIS_C if state.throttled else 0.0
    return State(busy, watts, celsius, celsius > dynamics.throttle_c - margin)


def value(formula: str, names: Mapping[str, float]) -> str:
    """A formula of arithmetic and `names`, as sysfs would show it: a whole number."""
    tree = ast.parse(formula, mode="eval")
    if not all(isinstance(node, _ARITHMETIC) for node in ast.walk(tree)):
        raise ValueError(f"expected arithmetic, found {formula!r}")
    result = eval(compile(tree, formula, "eval"), {"__builtins__": {}}, {**names, **_FUNCTIONS})
    return str(int(result))


class Behaviour:
    """Writes the files of one board, which lie below `root`, from its load."""

    def __init__(self, board: Board, cpus: int, root: Path = Path("/")) -> None:
        self._board, self._root = board, root
        self._kinds = cores_of(board, cpus)
        self._state = State(celsius=board.dynamics.ambient_c)

    def advance(self, busy: float, seconds: float) -> State:
        """One step, written to the files."""
        self._state = step(self._dynamics(), self._state, min(busy, len(self._kinds)), seconds)
        for path, text in self._values():
            _rewrite(self._root / path.lstrip("/"), text)
        return self._state

    def _dynamics(self) -> Dynamics:
        with suppress(OSError, ValueError):
            room = float((self._root / ROOM.lstrip("/")).read_text())
            return self._board.dynamics.model_copy(update={"ambient_c": room})
        return self._board.dynamics

    def _values(self) -> Iterator[tuple[str, str]]:
        load = self._state.busy / len(self._kinds)
        khz = 0
        for cpu, kind in enumerate(self._kinds):
            policy = f"/sys/devices/system/cpu/cpufreq/policy{cpu}"
            if (self._root / policy.lstrip("/")).is_dir():
                khz = self._khz(self._root / policy.lstrip("/"), kind.min_khz, load)
                yield f"{policy}/scaling_cur_freq", str(khz)
        names = {
            "watts": self._state.watts,
            "celsius": self._state.celsius,
            "load": load,
            "khz": khz,
            "throttled": int(self._state.throttled),
        }
        for path, formula in self._board.dynamics.values.items():
            yield path, value(formula, names)

    def _khz(self, policy: Path, least: int, load: float) -> int:
        """The clock of a frequency domain: all that is allowed under `performance`, else as much as there is load."""
        allowed = int((policy / "scaling_max_freq").read_text())
        most = max(int(allowed * (THROTTLED_SHARE if self._state.throttled else 1.0)), least)
        if (policy / "scaling_governor").read_text().strip() == "performance":
            return most
        return int(least + (most - least) * min(load, 1.0))


class CpuTime:
    """CPU seconds that the processes of this PID namespace have used, its first process left out."""

    def __init__(self) -> None:
        self._tick = os.sysconf("SC_CLK_TCK")
        self._seen: dict[int, int] = {}
        self._at = time.monotonic()

    def busy(self) -> tuple[float, float]:
        """Busy cores since the last call, and the seconds since then."""
        now, seen = time.monotonic(), _ticks()
        used = sum(ticks - self._seen.get(pid, 0) for pid, ticks in seen.items())
        seconds = max(now - self._at, 1e-3)
        self._seen, self._at = seen, now
        return max(used, 0) / self._tick / seconds, seconds


def _ticks() -> dict[int, int]:
    """User and system time of every process, in clock ticks (proc(5), fields 14 and 15 of stat)."""
    ticks = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and folder.name != "1":
            with suppress(OSError, ValueError, IndexError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                ticks[int(folder.name)] = int(fields[11]) + int(fields[12])
    return ticks


def _rewrite(path: Path, text: str) -> None:
    """In place: a reader may keep the file open, as with sysfs."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, f"{text}\n".encode(), 0)
            os.ftruncate(descriptor, len(text) + 1)
        finally:
            os.close(descriptor)
