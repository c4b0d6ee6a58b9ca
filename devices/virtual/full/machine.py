"""Machine: a virtual board that runs. QEMU emulates it; it starts from a snapshot in about a second.

with Machine.start(prepare(home), "jetson-agx-orin") as machine:
    with open_session(machine.device()) as session:
        machine.set_temperature("cpu-thermal", 95.0)
        session.run(["cat", "/sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq"])

home/full/run/<port>-<random>/ holds its sockets and logs while it runs:
  qmp  console  console.log  qemu.log  known_hosts  machine.json
"""

import hashlib
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from devices.device import Device, Target
from devices.virtual.full.boards import BOARDS, Board
from devices.virtual.full.device_tree import QEMU, machine_arguments
from devices.virtual.full.errors import MachineError
from devices.virtual.full.image import Image
from devices.virtual.full.sockets import Qmp, ask_console
from devices.virtual.process import locked, start_time

ADDRESS = "127.0.0.1"
DEFAULT_BOARD = "jetson-agx-orin"
_COMMAND_LINE = "console=ttyAMA0 quiet mitigations=off nokaslr"
_UP_S = 120.0
"""A cold boot takes 4 s on a free core."""
_CONNECT_S = 1.0
_LAST_WORDS_S = 2.0
"""Between the closing of QEMU's sockets and its end."""
# After the first banner: what start-up still has in the air (link up, IPv6) settles before it is frozen.
_SETTLE_S = 2.0

# Ends QEMU ($1) and removes its folder ($2) when standard input ends: that is when the process that started it is gone.
# A parent-death signal would also come when only the thread that started it ends.
_WATCH = 'read -r _; kill -9 "$1"; rm -rf "$2"'


class Machine:
    """Also a context manager. Only one process at a time may steer a machine."""

    address = ADDRESS

    def __init__(self, image: Image, board: Board, port: int, icount: bool, detached: bool, folder: Path) -> None:
        self.image = image
        self.board = board
        self.port = port
        self.icount = icount
        self.detached = detached
        self.folder = folder
        self.pid = 0
        self._started = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None

    @classmethod
    def start(
        cls,
        image: Image,
        board: str = DEFAULT_BOARD,
        port: int = 0,
        *,
        icount: bool = False,
        detached: bool = False,
    ) -> Self:
        """A machine that answers ssh on 127.0.0.1:`port` (0: a free one); raises MachineError.

        The first start of a board makes its snapshot. `icount`: one nanosecond of its time per instruction, so that
        times repeat. `detached`: it runs on after this process, until `stop_all`.
        """
        state = _snapshot(image, _board(board), icount)
        return cls._launched(image, _board(board), port, icount, detached, state)

    @classmethod
    def _launched(cls, image: Image, board: Board, port: int, icount: bool, detached: bool, state: Path | None) -> Self:
        port = port or _free_port()
        folder = image.home.resolve() / "full" / "run" / f"{port}-{secrets.token_hex(4)}"
        folder.mkdir(parents=True)
        machine = cls(image, board, port, icount, detached, folder)
        try:
            machine._launch(state)
        except BaseException:
            machine.stop()
            raise
        return machine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def device(self, user: str = "bench") -> Device:
        """How to reach it: as `bench` (uid 1000, no rights) or as `root`, with the image's key."""
        return Device(
            name=f"{self.board.name}-full",
            family=self.board.family,
            host=self.address,
            port=self.port,
            user=user,
            identity_file=self.image.client_key,
            known_hosts=self.folder / "known_hosts",
            tags=("virtual",),
            target=Target(arch="aarch64"),
        )

    def qmp(self, command: str, **arguments: object) -> Any:
        """Any command of QEMU, such as `query-status`; raises MachineError."""
        if self._qmp is None:
            self._qmp = Qmp(self.folder / "qmp", _CONNECT_S)
        return self._qmp(command, **arguments)

    def set_link(self, up: bool) -> None:
        """Pull the network cable, or plug it in."""
        self.qmp("set_link", name="net0", up=up)

    def pause(self) -> None:
        """Freeze it; its clocks stand still too."""
        self.qmp("stop")

    def resume(self) -> None:
        self.qmp("cont")

    def power_cut(self) -> None:
        """Gone at once, with everything it held in memory; `power_on` boots it anew at the same port."""
        self._end()

    def power_on(self) -> None:
        """After a power cut: a cold boot, not from the snapshot."""
        if self.running:
            raise MachineError(f"{self.board.name} at port {self.port} has its power on already")
        self._launch(state=None)

    def reset(self) -> None:
        """As if its power had been gone for a moment: the kernel boots again, what was in memory is lost."""
        self.qmp("system_reset")

    @property
    def running(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        return bool(self.pid) and start_time(self.pid) == self._started

    def stop(self) -> None:
        """End it and remove its sockets; stopping twice is no error."""
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def set_power(self, watts: Mapping[str, float]) -> None:
        """What the INA3221 measures on each named rail from now on; the model no longer writes."""
        for label, power_w in watts.items():
            rail = self.board.rail(label)
            self._ask("power", f"0x{rail.address:02x} {rail.channel} {round(power_w * 1000)}")

    def set_temperature(self, zone: str, celsius: float) -> None:
        """What the sensor of a thermal zone measures from now on; the model no longer writes."""
        self._ask("temperature", f"0x{self.board.zone(zone).address:02x} {round(celsius * 1000)}")

    def set_register(self, address: int, register: int, value: int) -> None:
        """Write a chip's register as its data sheet numbers the bits; the model no longer writes."""
        self._ask("register", f"{address:#x} {register:#x} {value:#x}")

    def set_model(self, on: bool) -> None:
        """Let power and temperature follow the load again, as after the start, or hold what they are."""
        self._ask("model", str(int(on)))

    def set_clock(self) -> None:
        """This machine's time, to a second. With icount the guest's clock goes its own way while it computes."""
        self._ask("clock", str(round(time.time())))

    def _ask(self, verb: str, rest: str, timeout_s: float = 20.0) -> None:
        ask_console(self.folder / "console", verb, rest, timeout_s)

    def _launch(self, state: Path | None) -> None:
        """Start QEMU, from a snapshot or cold, and wait until ssh answers."""
        for name in ("qmp", "console"):
            (self.folder / name).unlink(missing_ok=True)
        incoming = ["-incoming", f"exec:cat {shlex.quote(str(state.resolve()))}"] if state else []
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command(), *incoming],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the program that started it, which then stops it
            )
        self.pid = self._process.pid
        self._started = start_time(self.pid)
        if not self.detached:
            self._watch = subprocess.Popen(
                ["sh", "-c", _WATCH, "sh", str(self.pid), str(self.folder)],
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        host = self.image.host_key
        (self.folder / "known_hosts").write_text(f"[{self.address}]:{self.port} {host}\n")
        (self.folder / "machine.json").write_text(json.dumps(self._record()))
        self._wait_until_up(bool(state))
        # All that start from one snapshot would draw the same random numbers, boot ids among them.
        self._ask("seed", secrets.token_hex(32))
        self.set_clock()
        if self.detached:
            self._hang_up()  # who attaches later wants it

    def _command(self) -> list[str]:
        return [
            *(QEMU, "-name", f"virtual-{self.board.name}", "-M", "virt", *machine_arguments(self.board)),
            *("-kernel", str(self.image.kernel.resolve()), "-initrd", str(self.image.initrd.resolve())),
            *("-dtb", str(self.image.device_tree(self.board.name).resolve()), "-append", _COMMAND_LINE),
            *("-netdev", f"user,id=net0,restrict=on,hostfwd=tcp:{ADDRESS}:{self.port}-:22"),
            *("-device", "virtio-net-device,netdev=net0"),
            *("-chardev", "socket,id=serial0,path=console,server=on,wait=off,logfile=console.log"),
            *("-serial", "chardev:serial0", "-qmp", "unix:qmp,server=on,wait=off"),
            *(("-icount", "shift=0") if self.icount else ()),
        ]

    def _record(self) -> dict[str, object]:
        return {
            "version": 1,
            "pid": self.pid,
            "started": self._started,
            "board": self.board.name,
            "port": self.port,
            "icount": self.icount,
            "detached": self.detached,
            "image": self.image.key,
        }

    def _wait_until_up(self, restoring: bool) -> None:
        deadline = time.monotonic() + _UP_S
        while self._qmp is None:
            self._check_alive()
            with suppress(MachineError):  # QEMU does not listen yet
                self.qmp("query-status")
        try:
            while restoring and self.qmp("query-status")["status"] == "inmigrate":
                time.sleep(0.01)
            if restoring:
                self.qmp("cont")
            # QEMU accepts connections before the guest listens: only the banner says that it is there.
            while not _answers(self.port):
                self._check_alive()
                if time.monotonic() > deadline:
                    raise MachineError(
                        f"{self.board.name} did not answer ssh within {_UP_S:g} s; its console said:\n"
                        f"{self._log('console.log')}"
                    )
                time.sleep(0.02)
        except MachineError:
            with suppress(subprocess.TimeoutExpired):
                if self._process is not None:
                    self._process.wait(_LAST_WORDS_S)
            self._check_alive()  # which can say more
            raise

    def _check_alive(self) -> None:
        if not self.running:
            raise MachineError(f"QEMU ended while {self.board.name} started:\n{self._log('qemu.log')}")

    def _log(self, name: str) -> str:
        with suppress(OSError):
            return (self.folder / name).read_text(errors="replace")[-2000:].strip()
        return "nothing"

    def _hang_up(self) -> None:
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None

    def _end(self) -> None:
        self._hang_up()
        if self._watch is not None:
            self._watch.kill()
            self._watch.communicate()
            self._watch = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        elif self.running:
            os.kill(self.pid, signal.SIGKILL)
            while self.running:
                time.sleep(0.01)
        self.pid = 0


def running(home: Path) -> list[Machine]:
    """The detached machines of `home` that run now, by port; what is left of ended ones is removed."""
    machines = []
    for path in sorted((home / "full" / "run").glob("*/machine.json")):
        machine = _attached(home, path)
        if machine.running and machine.detached:
            machines.append(machine)
        elif not machine.running:
            machine.stop()
    return machines


def stop_all(home: Path) -> int:
    """End all detached machines of `home` and remove their sockets; returns how many there were."""
    machines = running(home)
    for machine in machines:
        machine.stop()
    return len(machines)


def _attached(home: Path, path: Path) -> Machine:
    record = json.loads(path.read_text())
    image = Image(home, record["image"])
    machine = Machine(
        image, _board(record["board"]), record["port"], record["icount"], record["detached"], path.parent.resolve()
    )
    machine.pid, machine._started = record["pid"], record["started"]
    return machine


def _board(name: str) -> Board:
    if name not in BOARDS:
        raise MachineError(f"no virtual board is called {name!r}; expected one of {sorted(BOARDS)}")
    return BOARDS[name]


def _snapshot(image: Image, board: Board, icount: bool) -> Path:
    """The saved state of the booted board; made if there is none.

    QEMU restores only what it saved itself, into an equal machine. The image's key covers the version of QEMU, the
    kernel, and the board's core, memory and device tree; the snapshot's name this file, with QEMU's command line.
    """
    source = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    kind = board.name + ("-icount" if icount else "")
    path = image.folder / "snapshots" / f"{kind}-{source}"
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            part = path.with_suffix(".part")
            with Machine._launched(image, board, 0, icount, False, None) as machine:
                time.sleep(_SETTLE_S)
                _save(machine, part)
            part.replace(path)
            for older in set(path.parent.glob(f"{kind}-{'?' * len(source)}")) - {path}:
                older.unlink()
    return path


def _save(machine: Machine, path: Path) -> None:
    machine.qmp("stop")
    machine.qmp("migrate", uri=f"exec:cat >{shlex.quote(str(path.resolve()))}")
    deadline = time.monotonic() + _UP_S
    while (status := machine.qmp("query-migrate").get("status")) != "completed":
        if status in ("failed", "cancelled") or time.monotonic() > deadline:
            raise MachineError(f"QEMU did not save {machine.board.name}: {status}; is the disk of {path} full?")
        time.sleep(0.05)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((ADDRESS, port), 1.0) as client:
            return client.recv(4) == b"SSH-"
    except OSError:
        return False


def _free_port() -> int:
    with socket.create_server((ADDRESS, 0)) as probe:
        return int(probe.getsockname()[1])
