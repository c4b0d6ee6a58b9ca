"""Lab: virtual boards of the fast kind, started and stopped from this machine.

    lab = Lab(home / "lab")
    lab.up(["pi5", "jetson-orin-nano"])     # each with an address of its own, a sshd, and enrolled keys
    lab.devices()                           # as the inventory would list them
    lab.down()

Everything lies below one folder, one subfolder a board. A board runs until `down`, or until this machine goes down.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from devices.device import Device
from devices.errors import InventoryError, VirtualBoardError
from devices.virtual.board import Board, board_names, load_board
from devices.virtual.machine import Config, read_config, write_config
from devices.virtual.process import locked, start_time

DEFAULT_BOARDS = ("jetson-orin-nano", "pi5", "pi4", "phone")
ALIASES = {"phone": "phone-termux"}
"""Short names of boards."""
CABLE_S = 1.0
"""For so long a board that is going may hold its number; its cable goes with it in any case, a little later."""
MAX_BOARDS = 200
"""The third part of the address is the board's number."""
START_S = 30.0
TAG = "virtual"
_COUNTED = re.compile(r"([a-z0-9-]+?)(?::([0-9]{1,3}))?")
_TOOLS = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "mount": "mount",
    "ssh-keygen": "openssh-client",
    "/usr/sbin/sshd": "openssh-server",
    "qemu-aarch64-static": "qemu-user-static",
}


class LabError(VirtualBoardError):
    """The virtual lab cannot do what was asked on this machine."""


@dataclass(frozen=True)
class VirtualBoard:
    """A board that `up` has made; `init` is the host's number of its first process, None while it is down."""

    name: str
    config: Config
    board: Board
    folder: Path

    @property
    def init(self) -> int | None:
        with suppress(OSError, ValueError):
            return int((self.folder / "init").read_text())
        return None

    @property
    def keeper(self) -> int | None:
        """The process that keeps the board running, if it is alive and still ours (numbers come round again)."""
        with suppress(OSError, ValueError):
            pid, started = map(int, (self.folder / "pid").read_text().split())
            if started and start_time(pid) == started:
                return pid
        return None

    def inside(self, *argv: str) -> str:
        """What a command prints that root runs on the board, without ssh: how faults are made."""
        enter = ["nsenter", "-t", str(self.init), "-U", "-m", "-u", "-n", "-p", "-r", "-w", "--"]
        done = subprocess.run([*enter, *argv], capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"`{' '.join(argv)}` failed on {self.name}: {done.stderr.strip()[-500:]}")
        return done.stdout

    @property
    def device(self) -> Device:
        return Device(
            name=self.name,
            family=self.board.family,
            host=self.config.address,
            port=self.board.port,
            user=self.board.user,
            identity_file=self.folder.parent / "client_key",
            known_hosts=self.folder / "known_hosts",
            tags=(TAG, self.config.board),
        )


class Lab:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def up(
        self,
        wanted: Sequence[str] = DEFAULT_BOARDS,
        on_board: Callable[[VirtualBoard], None] = lambda board: None,
    ) -> list[VirtualBoard]:
        """Start boards by the names of their files in boards/; `pi5:3` starts pi5-1 to pi5-3. Running ones stay.

        `on_board` is told of each as soon as it answers. Raises LabError; then what was started here is stopped.
        """
        names = expand(wanted)
        _check_machine()
        with locked(self.folder.parent / "lab.lock"):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._make_client_key()
            started = [self._start(name, board) for name, board in names.items() if self._keeperless(name)]
            try:
                for board in started:
                    _wait_until_it_answers(board)
                    on_board(board)
            except LabError:
                for board in started:
                    _stop(board)
                raise
        return [board for board in self.boards() if board.name in names]

    def down(self, names: Sequence[str] = ()) -> list[str]:
        """Stop these boards, or all, and remove all that was theirs; returns their names."""
        if not self.folder.is_dir():
            return []
        with locked(self.folder.parent / "lab.lock"):
            stopped = [board for board in self.boards() if not names or board.name in names]
            unknown = set(names) - {board.name for board in stopped}
            if unknown:
                raise LabError(f"no virtual board {', '.join(sorted(unknown))} is up; `bench lab status` lists them")
            for board in stopped:
                _kill(board)
            for board in stopped:
                _stop(board)
        if not self.boards():
            shutil.rmtree(self.folder)
        return [board.name for board in stopped]

    def reboot(self, name: str) -> None:
        """As if somebody had pulled the plug and put it back."""
        for board in self.boards():
            if board.name == name and board.keeper is not None:
                os.kill(board.keeper, signal.SIGHUP)
                return
        raise LabError(f"no virtual board {name!r} is up; `bench lab up {name}` starts one")

    def boards(self) -> list[VirtualBoard]:
        """Those that are up or were left behind, by name."""
        folders = sorted(self.folder.glob("*/config.json")) if self.folder.is_dir() else []
        return [self._board(path.parent) for path in folders]

    def devices(self) -> tuple[Device, ...]:
        return tuple(board.device for board in self.boards())

    def _board(self, folder: Path) -> VirtualBoard:
        config = read_config(folder)
        return VirtualBoard(config.name, config, load_board(config.board), folder)

    def _keeperless(self, name: str) -> bool:
        """Whether there is no such board running; what a dead one left behind is removed."""
        folder = self.folder / name
        if not (folder / "config.json").exists():
            return True
        board = self._board(folder)
        if board.keeper is not None:
            return False
        _stop(board)
        return True

    def _start(self, name: str, board: str) -> VirtualBoard:
        folder = self.folder / name
        folder.mkdir(parents=True)
        emulator = shutil.which("qemu-aarch64-static") or ""
        cpus = len(os.sched_getaffinity(0))
        index, claim = _claim_index()
        write_config(Config(name, board, index, cpus, emulator), folder)
        made = self._board(folder)
        _make_key(folder / "host_key")
        shutil.copy(self.folder / "client_key.pub", folder / "authorized_keys")
        kind, key, *_ = (folder / "host_key.pub").read_text().split()
        port = made.board.port
        host = made.config.address if port == 22 else f"[{made.config.address}]:{port}"
        (folder / "known_hosts").write_text(f"{host} {kind} {key}\n")
        with (folder / "log").open("ab") as log, claim:
            process = subprocess.Popen(
                [sys.executable, "-m", "devices.virtual.machine", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[claim.fileno()],
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                cwd="/",
            )
        (folder / "pid").write_text(f"{process.pid} {start_time(process.pid)}")
        return made

    def _make_client_key(self) -> None:
        if not (self.folder / "client_key").exists():
            _make_key(self.folder / "client_key")


def _claim_index() -> tuple[int, socket.socket]:
    """A number that no board of this machine has, in whichever lab, and the claim to it, which its keeper inherits.

    The claim is a name that the kernel gives to one socket at a time, and takes back when the last process has closed
    it: nothing is left behind by a keeper that is killed.
    """
    for index in range(1, MAX_BOARDS + 1):
        if claim := _claim(index):
            return index, claim
    raise LabError(f"{MAX_BOARDS} virtual boards are up already; `bench lab down` stops them")


def _claim(index: int) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0edge-quant-bench-virtual-board-{index}")
    except OSError:
        claim.close()
        return None
    return claim


def expand(wanted: Sequence[str]) -> dict[str, str]:
    """Name -> board of everything that words such as `pi5:3` ask for; raises InventoryError."""
    return dict(pair for word in wanted for pair in _names(word))


def _names(word: str) -> Iterator[tuple[str, str]]:
    """(name, board) of every board that a word asks for."""
    match = _COUNTED.fullmatch(word)
    board = ALIASES.get(match[1], match[1]) if match else ""
    if match is None or board not in board_names():
        raise InventoryError(f"no virtual board {word!r}; there are {', '.join(board_names())}; NAME:3 starts three")
    if match[2] is None:
        yield match[1], board
    for number in range(1, int(match[2] or 0) + 1):
        yield f"{match[1]}-{number}", board


def _check_machine() -> None:
    """Raises LabError that names everything this machine lacks."""
    missing = sorted({package for tool, package in _TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise LabError(f"virtual boards need programs that are missing: apt-get install {' '.join(missing)}")
    if os.geteuid() != 0:
        raise LabError("virtual boards need network and mount namespaces, which only root may make: sudo bench lab up")
    release = tuple(int(part) for part in re.findall(r"[0-9]+", os.uname().release)[:2])
    if release < (6, 7):
        raise LabError(
            f"virtual boards need Linux 6.7, where every user namespace has programs of its own (binfmt_misc); "
            f"this is {os.uname().release}"
        )


def _make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)


def _wait_until_it_answers(board: VirtualBoard) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and board.keeper is not None:
        # Before the board has its end of the cable, a packet to it would be given up only after seconds.
        if board.init is not None:
            with (
                suppress(OSError),
                socket.create_connection((board.config.address, board.board.port), 5.0) as client,
            ):
                if client.recv(4) == b"SSH-":
                    return
        time.sleep(0.02)
    log = (board.folder / "log").read_text(errors="replace").strip()[-1500:]
    raise LabError(f"{board.name} did not start within {START_S:g} s; its log ends with: {log or 'nothing'}")


def _stop(board: VirtualBoard) -> None:
    """Kill it, wait until all of it is gone, and remove its folder and its cable."""
    _kill(board)
    deadline = time.monotonic() + 10.0
    while board.init is not None and Path(f"/proc/{board.init}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    _remove_cable(board)
    shutil.rmtree(board.folder)


def _remove_cable(board: VirtualBoard) -> None:
    """Unless a board of another lab has the number by now: then the cable of that name is its own."""
    deadline = time.monotonic() + CABLE_S
    while (claim := _claim(board.config.index)) is None:
        # Perhaps the last of the board's own processes is still on its way out.
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)
    with claim:
        subprocess.run(["ip", "link", "del", board.config.link], stderr=subprocess.DEVNULL, check=False)


def _kill(board: VirtualBoard) -> None:
    """Kill the keeper, with which everything of the board dies."""
    keeper = board.keeper
    if keeper is not None:
        os.kill(keeper, signal.SIGKILL)
        # If it is a child of this very process, no zombie stays.
        with suppress(ChildProcessError):
            os.waitpid(keeper, 0)
