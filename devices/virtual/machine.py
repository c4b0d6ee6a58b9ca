"""Machine: one virtual board of the fast kind, a process tree in namespaces of its own with a real sshd.

    python -m devices.virtual.machine FOLDER        # runs until it is killed; SIGHUP reboots the board

Three processes: the keeper (in the host's namespaces) waits and restarts; the middle one has unshared; the last is
process 1 of the board: it sees a copy-on-write view of this machine's file system with the board's files on top, starts
sshd, and keeps the sensors moving. Aarch64 programs are run by qemu-user through a binfmt_misc of the board's own.
Each dies with the one before it, so killing the keeper removes everything, network included.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from devices.families.linux import VIRTUAL_MARK
from devices.virtual.behaviour import PERIOD_S, Behaviour, CpuTime
from devices.virtual.board import Board, build_tree, load_board

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
# clone(2)
_NEWNS, _NEWUTS, _NEWIPC = 0x20000, 0x4000000, 0x8000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
# The first 20 bytes of an aarch64 ELF file, and which of their bits count (Linux, admin-guide/binfmt-misc).
_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
SHOWN = frozenset({"bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "opt", "proc", "sbin", "sys", "usr", "var"})
"""What a board sees of the machine that it runs on: programs and their settings, nobody's files."""
SSHD_CONFIG = "/etc/virtual-board/sshd_config"
SUDO = "/usr/bin/sudo"
REBOOT_S = 1.0
_UID = 1000


@dataclass(frozen=True)
class Config:
    """Stands in FOLDER/config.json. The network is 10.77.`index`.0/30: the host is .1, the board .2."""

    name: str
    board: str
    index: int
    cpus: int
    emulator: str

    @property
    def address(self) -> str:
        return f"10.77.{self.index}.2"

    @property
    def host_address(self) -> str:
        return f"10.77.{self.index}.1"

    @property
    def link(self) -> str:
        return f"vboard{self.index}"


def write_config(config: Config, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(asdict(config)))


def read_config(folder: Path) -> Config:
    return Config(**json.loads((folder / "config.json").read_text()))


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    config = read_config(folder)
    keeper = Keeper(config, folder)
    signal.signal(signal.SIGHUP, lambda *_: keeper.reboot())
    while True:
        keeper.boot()
        keeper.wait()
        time.sleep(REBOOT_S)


class Keeper:
    """Boots the board, and again when it went down."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._config, self._folder = config, folder
        self._child = 0

    def boot(self) -> None:
        unshared, go, born = os.pipe(), os.pipe(), os.pipe()
        self._child = os.fork()
        if self._child == 0:
            _die_with_parent()
            _run_or_exit(lambda: _middle(self._config, self._folder, unshared[1], go[0], born[1]))
        for descriptor in (unshared[1], go[0], born[1]):
            os.close(descriptor)
        if os.read(unshared[0], 1):
            self._connect()
            os.write(go[1], b".")
            (self._folder / "init").write_bytes(os.read(born[0], 20))
        for descriptor in (unshared[0], go[1], born[0]):
            os.close(descriptor)

    def wait(self) -> None:
        with suppress(ChildProcessError):
            os.waitpid(self._child, 0)
        (self._folder / "init").unlink(missing_ok=True)

    def reboot(self) -> None:
        os.kill(self._child, signal.SIGKILL)

    def _connect(self) -> None:
        """Give the board its users (the same numbers as outside) and its end of a cable."""
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{self._child}/{kind}").write_text("0 0 65536")
        link, config = self._config.link, self._config
        inside = ["nsenter", "-t", str(self._child), "-n"]
        ends = ["type", "veth", "peer", "name", "eth0", "netns", str(self._child)]
        # The number is ours alone: what has this name is left of the board before it went down.
        subprocess.run(["ip", "link", "del", link], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["ip", "link", "add", link, *ends], check=True)
        subprocess.run(["ip", "addr", "add", f"{config.host_address}/30", "dev", link], check=True)
        subprocess.run(["ip", "link", "set", link, "up"], check=True)
        subprocess.run([*inside, "ip", "addr", "add", f"{config.address}/30", "dev", "eth0"], check=True)
        subprocess.run([*inside, "ip", "link", "set", "eth0", "up"], check=True)
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)


def _middle(config: Config, folder: Path, unshared: int, go: int, born: int) -> None:
    board = load_board(config.board)
    # The view of the file system is made with the rights of root outside: a user namespace may not overlay all of `/`.
    _check(_LIBC.unshare(_NEWNS), "unshare")
    root = _make_root(board, config, folder)
    _check(_LIBC.unshare(_NEWUSER | _NEWNS | _NEWUTS | _NEWPID | _NEWNET | _NEWIPC), "unshare")
    os.write(unshared, b".")
    os.read(go, 1)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    child = os.fork()
    if child == 0:
        _die_with_parent()
        _run_or_exit(lambda: _first_process(board, config, root))
    os.write(born, str(child).encode())
    os.close(born)
    os.waitpid(child, 0)


def _first_process(board: Board, config: Config, root: Path) -> None:
    socket.sethostname(config.name)
    _mount("-t", "proc", "proc", str(root / "proc"))
    _cover_proc(root.parent / "proc", root / "proc", board)
    _register_emulator(root, config.emulator)
    os.chroot(root)
    os.chdir("/")
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", SSHD_CONFIG], env=environment, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    behaviour, cpu_time = Behaviour(board, config.cpus), CpuTime()
    while True:
        behaviour.advance(*cpu_time.busy())
        _reap()
        time.sleep(PERIOD_S)


def _make_root(board: Board, config: Config, folder: Path) -> Path:
    """A view of this machine's files in which writes go to memory, with the board's files, /proc and users on top."""
    # Private: none of these mounts is seen outside.
    _mount("--make-rprivate", "/")
    memory = folder / "mount"
    memory.mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", "size=1g,mode=755", "tmpfs", str(memory))
    upper, work, root = (memory / name for name in ("upper", "work", "root"))
    for path in (upper, work, root):
        path.mkdir()
    build_tree(board, upper, config.cpus)
    if Path(SUDO).exists():
        # The stand-in for drivers' tests gives no rights; this machine's own does, to whom its lists name.
        (upper / SUDO.lstrip("/")).unlink(missing_ok=True)
    files_of_proc = upper / "proc"
    files_of_proc.rename(memory / "proc")
    _mount("-t", "overlay", "-o", f"volatile,lowerdir=/,upperdir={upper},workdir={work}", "overlay", str(root))
    _mount("--rbind", "/dev", str(root / "dev"))
    for path in (path for path in root.iterdir() if path.is_dir() and path.name not in SHOWN):
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(path))
        # What the board's own tree has there comes back on top.
        _copy(upper / path.name, path)
    (root / "tmp").chmod(0o1777)
    (root / "run/sshd").mkdir()
    (root / "run/lock").mkdir()
    (root / "run/lock").chmod(0o1777)
    (root / VIRTUAL_MARK.lstrip("/")).write_text("fast\n")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost {config.name}\n")
    _add_user(board, folder, root)
    _configure_sshd(board, folder, root)
    return root


def _copy(source: Path, target: Path) -> None:
    if source.is_dir() and any(source.iterdir()):
        subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


def _cover_proc(files: Path, proc: Path, board: Board) -> None:
    """The board's processors and memory instead of this machine's; load and uptime stay this machine's."""
    covers = {
        "cpuinfo": (files / "cpuinfo").read_text(),
        "meminfo": (files / "meminfo").read_text(),
        "sys/kernel/osrelease": f"{board.kernel}\n",
        "sys/kernel/random/boot_id": f"{uuid.uuid4()}\n",
    }
    for name, text in covers.items():
        cover = files / f"cover-{name.replace('/', '-')}"
        cover.write_text(text)
        _mount("--bind", str(cover), str(proc / name))


def _register_emulator(root: Path, emulator: str) -> None:
    """In the binfmt_misc of this user namespace (Linux 6.7): nothing outside changes. F: opened now, from outside."""
    folder = root / "proc/sys/fs/binfmt_misc"
    _mount("-t", "binfmt_misc", "binfmt_misc", str(folder))
    (folder / "register").write_text(f":qemu-aarch64:M::{_MAGIC}:{_MASK}:{emulator}:OPF")


def _add_user(board: Board, folder: Path, root: Path) -> None:
    home = Path(home_of(board))
    for name, line in (
        ("passwd", f"{board.user}:x:{_UID}:{_UID}::{home}:/bin/sh"),
        ("group", f"{board.user}:x:{_UID}:"),
        ("shadow", f"{board.user}:*:19000:0:99999:7:::"),
    ):
        path = root / "etc" / name
        others = [
            old for old in path.read_text().splitlines() if old.split(":")[2:3] != [str(_UID)] or name == "shadow"
        ]
        path.write_text("\n".join([*others, line, ""]))
    (root / str(home).lstrip("/")).mkdir(parents=True, exist_ok=True)
    # On disk, so that it outlives a reboot as on a board.
    kept = folder / "home"
    kept.mkdir(exist_ok=True)
    os.chown(kept, _UID, _UID)
    _mount("--bind", str(kept), str(root / str(home).lstrip("/")))


def home_of(board: Board) -> str:
    """Termux has the home of its one user inside the application."""
    return "/data/data/com.termux/files/home" if board.user.startswith("u0_") else f"/home/{board.user}"


def _configure_sshd(board: Board, folder: Path, root: Path) -> None:
    etc = root / SSHD_CONFIG.lstrip("/")
    etc.parent.mkdir()
    for name, mode in (("host_key", 0o600), ("authorized_keys", 0o644)):
        (etc.parent / name).write_bytes((folder / name).read_bytes())
        (etc.parent / name).chmod(mode)
    lab = Path(SSHD_CONFIG).parent
    etc.write_text(
        f"Port {board.port}\nListenAddress 0.0.0.0\nHostKey {lab}/host_key\nAuthorizedKeysFile {lab}/authorized_keys\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPrintMotd no\nUseDNS no\n"
        "MaxStartups 64\nMaxSessions 64\nPermitRootLogin no\nSubsystem sftp internal-sftp\n"
        f"SetEnv QEMU_CPU={board.qemu_cpu} QEMU_UNAME={board.kernel}\n"
    )


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _reap() -> None:
    """Process 1 inherits the orphans."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _die_with_parent() -> None:
    _check(_LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _run_or_exit(work: Callable[[], None]) -> None:
    """After a fork: whatever happens, this process does not go on as its parent."""
    try:
        work()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
