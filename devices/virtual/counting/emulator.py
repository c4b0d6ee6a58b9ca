"""Emulator: runs an aarch64 program on a processor model, and counts how often each of its blocks is executed.

    run = Emulator(home).run(["./agent", "info"], cpu="cortex-a76")
    sum(block.executed for block in run.blocks)     # instructions, exact for a program with one thread

QEMU's user mode with a plugin of ours, blocks.c, which zig compiles on demand.
"""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devices.virtual.counting.errors import CountingError, find_tool
from devices.virtual.process import locked

INSTRUCTION_BYTES = 4
QEMU, PACKAGE = "qemu-aarch64", "qemu-user"
_SOURCE = Path(__file__).with_name("blocks.c")
_COMPILE = ("cc", "-shared", "-fPIC", "-O2", "-std=c11", "-D_GNU_SOURCE")
_STDERR_BYTES = 2000


@dataclass(frozen=True)
class Block:
    """A straight piece of code at an address, and how often it was executed."""

    address: int
    code: bytes
    executions: int

    @property
    def instructions(self) -> int:
        return len(self.code) // INSTRUCTION_BYTES

    @property
    def executed(self) -> int:
        """Instructions in all."""
        return self.executions * self.instructions

    @property
    def end(self) -> int:
        return self.address + len(self.code)


@dataclass(frozen=True)
class Run:
    stdout: str
    blocks: tuple[Block, ...]


class Emulator:
    def __init__(self, home: Path) -> None:
        """`home` keeps the compiled plugin. Raises CountingError when QEMU is missing."""
        self._qemu = find_tool(QEMU, PACKAGE)
        self._plugin = _plugin(home)

    def run(self, argv: Sequence[str], cpu: str, root: Path | None = None, env: Mapping[str, str] | None = None) -> Run:
        """Run to the end on the model `cpu` of QEMU; the program finds the files below `root` before this machine's.

        It sees the environment `env` alone: what a shell has set here must not change a count.
        """
        with tempfile.TemporaryDirectory() as folder:
            counts = Path(folder) / "blocks"
            prefix = ["-L", str(root)] if root else []
            command = [self._qemu, "-cpu", cpu, *prefix, "-plugin", f"{self._plugin},out={counts}", *argv]
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=dict(env or {}), check=False
            )
            if done.returncode != 0 or not counts.exists():
                raise CountingError(_complaint(argv, cpu, done))
            return Run(done.stdout, tuple(map(_block, counts.read_text().splitlines())))


def _block(line: str) -> Block:
    address, executions, code = line.split()
    return Block(int(address, 16), bytes.fromhex(code), int(executions))


def _complaint(argv: Sequence[str], cpu: str, done: subprocess.CompletedProcess[str]) -> str:
    said = (done.stderr.strip() or done.stdout.strip())[-_STDERR_BYTES:] or "it printed nothing"
    hint = f"; plugins need the {QEMU} of Debian 12's {PACKAGE} (7.2), later packages are static" * ("plugin" in said)
    return f"`{' '.join(argv)}` ended with status {done.returncode} on the model {cpu}: {said}{hint}"


def _plugin(home: Path) -> Path:
    """The compiled plugin of our source."""
    key = hashlib.sha256(_SOURCE.read_bytes() + " ".join(_COMPILE).encode()).hexdigest()[:16]
    plugin = home / "counting" / f"blocks-{key}.so"
    with locked(home / "counting" / "plugin.lock"):
        if not plugin.exists():
            part = plugin.with_suffix(".part")
            _compile(part)
            part.replace(plugin)
    return plugin


def _compile(to: Path) -> None:
    argv = [sys.executable, "-m", "ziglang", *_COMPILE, str(_SOURCE), "-o", str(to)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CountingError(f"compiling {_SOURCE.name} failed, is ziglang installed? {done.stderr[-_STDERR_BYTES:]}")
