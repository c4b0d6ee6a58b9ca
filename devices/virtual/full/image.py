"""Image: what a virtual board boots from, made once from Debian's packages and our sources.

home/full/<key>/
  Image  initrd  <board>.dtb  host_key.pub  client_key  manifest.json
  snapshots/     made by machine.py

The key is a hash of all versions and sources. A finished image of our sources and this QEMU is taken as it is, without
asking the network whether Debian has newer packages: delete its folder to have it made anew.
"""

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from devices.virtual.full import cpio
from devices.virtual.full.apt import Apt
from devices.virtual.full.boards import BOARDS
from devices.virtual.full.device_tree import QEMU, make_device_tree
from devices.virtual.full.errors import ImageError, ToolsMissing
from devices.virtual.process import locked

OnStep = Callable[[str], None]

# Program that the host must have -> package that brings it.
HOST_TOOLS = {
    QEMU: "qemu-system-arm",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "aarch64-linux-gnu-strip": "binutils-aarch64-linux-gnu",
    "dtc": "device-tree-compiler",
    "make": "make",
    "xz": "xz-utils",
    "tar": "tar",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
}
USER_PACKAGES = (
    "busybox-static", "dropbear-bin", "openssh-sftp-server",
    "libc6", "zlib1g", "libcrypt1", "libgmp10", "libtomcrypt1", "libtommath1",
)  # fmt: skip
LIBRARIES = ("libc.so.6", "libz.so.1", "libcrypt.so.1", "libgmp.so.10", "libtomcrypt.so.1", "libtommath.so.1")
# Debian's own modules, in the order of loading; i2c-stub and ina3221 are not built by Debian, so we do.
MODULES_BEFORE = (
    "net/core/failover", "drivers/net/net_failover", "drivers/virtio/virtio_mmio", "drivers/net/virtio_net",
    "drivers/i2c/i2c-dev", "drivers/cpufreq/cpufreq-dt", "drivers/cpufreq/cpufreq_userspace",
    "drivers/cpufreq/cpufreq_powersave", "net/sched/sch_netem",
)  # fmt: skip
OUR_MODULES = ("vboard-clock", "i2c-stub", "vboard-chips", "ina3221")
MODULES_AFTER = ("drivers/hwmon/lm75",)
KERNEL_SOURCES = ("drivers/hwmon/ina3221.c", "drivers/i2c/i2c-stub.c")

# Plain i2c-stub has no node in the device tree and takes any free bus number; with both, the drivers find labels,
# shunts and thermal zones as on the real board, at 1-0040. Each pair: text of Debian's source, found once, and ours.
I2C_STUB_CHANGES = (
    ("#include <linux/slab.h>\n", "#include <linux/slab.h>\n#include <linux/of.h>\n"),
    (
        "static unsigned short chip_addr[MAX_CHIPS];\n",
        "static int bus_nr = -1;\nmodule_param(bus_nr, int, S_IRUGO);\nstatic unsigned short chip_addr[MAX_CHIPS];\n",
    ),
    (
        "\tret = i2c_add_adapter(&stub_adapter);\n",
        '\tstub_adapter.dev.of_node = of_find_compatible_node(NULL, NULL, "vboard,i2c-stub");\n'
        "\tstub_adapter.nr = bus_nr;\n"
        "\tret = bus_nr < 0 ? i2c_add_adapter(&stub_adapter) : i2c_add_numbered_adapter(&stub_adapter);\n",
    ),
)

_HERE = Path(__file__).parent
_SOURCES = ("boards.py", "cpio.py", "device_tree.py", "image.py")
_MAKING = "making-"
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nbench:x:1000:1000:bench:/home/bench:/bin/sh\n"
_OS_RELEASE = b'PRETTY_NAME="Virtual board (Debian 12 kernel, busybox)"\nID=vboard\n'


@dataclass(frozen=True)
class Image:
    """A finished image. `host_key` is the public key of every machine started from it: `ssh-ed25519 AAAA...`."""

    home: Path
    key: str

    @property
    def folder(self) -> Path:
        return self.home / "full" / self.key

    @property
    def kernel(self) -> Path:
        return self.folder / "Image"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd"

    @property
    def client_key(self) -> Path:
        return self.folder / "client_key"

    @property
    def host_key(self) -> str:
        return (self.folder / "host_key.pub").read_text().strip()

    def device_tree(self, board: str) -> Path:
        return self.folder / f"{board}.dtb"

    @property
    def versions(self) -> dict[str, str]:
        """Version of every Debian package in it, and of QEMU."""
        return dict(json.loads((self.folder / "manifest.json").read_text())["versions"])


def prepare(home: Path, on_step: OnStep = lambda step: None) -> Image:
    """The image below `home`; made if there is none. Raises ToolsMissing or ImageError."""
    check_host_tools()
    sources, qemu = sources_sha256(), qemu_version()
    found = _finished(home, sources, qemu)
    if found is not None:
        return found
    with locked(home / "full" / "prepare.lock"):
        found = _finished(home, sources, qemu)  # another process may have made it while we waited
        for left in (home / "full").glob(f"{_MAKING}*"):  # by a process that was killed: nobody else is making one now
            shutil.rmtree(left)
        return found or _make(home, sources, qemu, on_step)


def check_host_tools() -> None:
    """Raises ToolsMissing with one command for all that is missing."""
    if os.uname().machine != "x86_64":
        raise ToolsMissing(f"full virtual boards are built on x86_64 hosts only, this is {os.uname().machine}")
    missing = sorted({package for tool, package in HOST_TOOLS.items() if shutil.which(tool) is None})
    if not Path("/usr/share/keyrings/debian-archive-keyring.gpg").is_file():
        missing.append("debian-archive-keyring")
    if missing:
        raise ToolsMissing(
            "full virtual boards need programs that this machine lacks; install them with: "
            f"apt-get install --no-install-recommends {' '.join(missing)}"
        )


def qemu_version() -> str:
    """`QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`."""
    return _run([QEMU, "--version"], _HERE).splitlines()[0]


def sources_sha256() -> str:
    """Hash of everything in this folder that an image is made from."""
    digest = hashlib.sha256()
    files = [*map(_HERE.joinpath, _SOURCES), *(_HERE / "guest").iterdir(), *(_HERE / "modules").iterdir()]
    for path in sorted(path for path in files if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_HERE)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _finished(home: Path, sources: str, qemu: str) -> Image | None:
    """The newest image of these sources and this QEMU."""
    manifests = sorted((home / "full").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in manifests:
        manifest = json.loads(path.read_text())
        if manifest.get("sources") == sources and manifest["versions"].get(QEMU) == qemu:
            return Image(home, path.parent.name)
    return None


def _make(home: Path, sources: str, qemu: str, on_step: OnStep) -> Image:
    with tempfile.TemporaryDirectory(dir=home / "full", prefix=_MAKING) as name:
        work = Path(name)
        on_step("reading Debian's package lists")
        apt = Apt(work / "apt")
        apt.update()
        kernel = _kernel_release(apt)
        kernel_packages, source_package = _kernel_packages(kernel)
        versions = {QEMU: qemu, **apt.versions([*USER_PACKAGES, *kernel_packages, source_package])}
        manifest = json.dumps({"sources": sources, "versions": versions}, indent=1, sort_keys=True)
        image = Image(home, hashlib.sha256(manifest.encode()).hexdigest()[:16])

        on_step(f"downloading Linux {kernel}, its headers and sources, busybox and dropbear (207 MB)")
        root = work / "root"
        apt.extract([*USER_PACKAGES, *kernel_packages, source_package], root)
        on_step("building the modules")
        modules = _build_modules(root, kernel, work / "modules")
        on_step("packing the board's files")
        ready = work / "ready"
        (ready / "snapshots").mkdir(parents=True)
        host_key, authorized = _make_keys(ready)
        files = _initrd(root, kernel, modules, host_key, authorized)
        (ready / "initrd").write_bytes(gzip.compress(cpio.pack(files), mtime=0))
        shutil.copy(root / "boot" / f"vmlinuz-{kernel}", ready / "Image")
        for board in BOARDS.values():
            make_device_tree(board, ready)
        (ready / "manifest.json").write_text(manifest)
        shutil.rmtree(image.folder, ignore_errors=True)  # it was not finished, else it would have been found
        ready.replace(image.folder)
    return image


def _kernel_release(apt: Apt) -> str:
    """`6.1.0-50-arm64`, which the package of the current kernel depends on."""
    match = re.match(r"linux-image-([0-9][^ ,]*-arm64)\b", apt.depends("linux-image-arm64"))
    if match is None:
        raise ImageError("expected linux-image-arm64 to depend on linux-image-<release>-arm64")
    return match[1]


def _kernel_packages(kernel: str) -> tuple[tuple[str, ...], str]:
    """What is needed to run it and to build modules for it, and the package of its sources."""
    series = ".".join(kernel.split(".")[:2])
    common = kernel.removesuffix("-arm64") + "-common"
    headers = (f"linux-headers-{kernel}", f"linux-headers-{common}", f"linux-kbuild-{series}:amd64")
    return (f"linux-image-{kernel}", *headers), f"linux-source-{series}"


def _build_modules(root: Path, kernel: str, folder: Path) -> dict[str, bytes]:
    """Our modules and the two drivers that Debian leaves out, stripped: name -> content."""
    shutil.copytree(_HERE / "modules", folder)
    _take_kernel_sources(root, folder)
    headers = root / "usr/src" / f"linux-headers-{kernel}"
    makefile = headers / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src", str(root / "usr/src")))
    cross = "aarch64-linux-gnu-"
    tools = ("ARCH=arm64", f"CROSS_COMPILE={cross}", f"CC={cross}gcc")
    _run(["make", "-C", str(headers), f"M={folder}", *tools, "modules"], folder)
    for module in OUR_MODULES:
        _run([f"{cross}strip", "--strip-debug", f"{module}.ko"], folder)
    return {module: (folder / f"{module}.ko").read_bytes() for module in OUR_MODULES}


def _take_kernel_sources(root: Path, folder: Path) -> None:
    archive = next((root / "usr/src").glob("linux-source-*.tar.xz"))
    top = archive.name.removesuffix(".tar.xz")
    names = [f"{top}/{path}" for path in KERNEL_SOURCES]
    # --occurrence: it may stop reading after the last of them, early in a long archive.
    _run(["tar", "-xJf", str(archive), "--strip-components=3", "--occurrence=1", *names], folder)
    stub = folder / "i2c-stub.c"
    text = stub.read_text()
    for old, new in I2C_STUB_CHANGES:
        if text.count(old) != 1:
            raise ImageError(f"expected {old.strip()!r} once in Debian's i2c-stub.c, found it {text.count(old)} times")
        text = text.replace(old, new)
    stub.write_text(text)


def _make_keys(ready: Path) -> tuple[bytes, bytes]:
    """Keys of the machine and of who may log in; returns the first for dropbear, the second for authorized_keys."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    host, client = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    pem = client.private_bytes(s.Encoding.PEM, s.PrivateFormat.OpenSSH, s.NoEncryption())
    (ready / "client_key").touch(mode=0o600)
    (ready / "client_key").write_bytes(pem)
    public = host.public_key().public_bytes(s.Encoding.OpenSSH, s.PublicFormat.OpenSSH)
    (ready / "host_key.pub").write_bytes(public + b"\n")
    secret = host.private_bytes_raw() + host.public_key().public_bytes_raw()
    return _ssh_string(b"ssh-ed25519") + _ssh_string(secret), client.public_key().public_bytes(
        s.Encoding.OpenSSH, s.PublicFormat.OpenSSH
    )


def _ssh_string(data: bytes) -> bytes:
    """RFC 4251, section 5. dropbear keeps a key as two of them: its type, and secret and public half together."""
    return len(data).to_bytes(4, "big") + data


def _initrd(
    root: Path, kernel: str, modules: Mapping[str, bytes], host_key: bytes, authorized: bytes
) -> Iterator[cpio.Entry]:
    for name in ("bin", "sbin", "usr", "usr/bin", "usr/sbin", "usr/lib", "lib", "lib/aarch64-linux-gnu", "lib/modules"):
        yield cpio.folder(name)
    for name in ("dev", "proc", "sys", "run", "home", "etc", "etc/dropbear", "var", "var/log"):
        yield cpio.folder(name)
    for name in ("root", "root/.ssh"):
        yield cpio.folder(name, 0o700)
    yield cpio.folder("tmp", 0o1777)
    yield cpio.console("dev/console")

    yield cpio.file("bin/busybox", (root / "bin/busybox").read_bytes(), 0o755)
    yield cpio.link("bin/sh", "busybox")
    yield cpio.link("init", "bin/busybox")
    yield cpio.file("usr/sbin/dropbear", (root / "usr/sbin/dropbear").read_bytes(), 0o755)
    yield cpio.file("usr/lib/sftp-server", (root / "usr/lib/openssh/sftp-server").read_bytes(), 0o755)
    loader = "ld-linux-aarch64.so.1"
    yield cpio.file(f"lib/{loader}", _library(root, loader), 0o755)
    for name in LIBRARIES:
        yield cpio.file(f"lib/aarch64-linux-gnu/{name}", _library(root, name), 0o755)

    order = [*MODULES_BEFORE, *OUR_MODULES, *MODULES_AFTER]
    for path in order:
        debian = root / "lib/modules" / kernel / "kernel" / f"{path}.ko"
        yield cpio.file(f"lib/modules/{Path(path).name}.ko", modules.get(path) or debian.read_bytes())
    yield cpio.file("lib/modules/order", "".join(f"{Path(path).name}\n" for path in order).encode())

    chips = [rail.address for board in BOARDS.values() for rail in board.rails]
    chips += [zone.address for board in BOARDS.values() for zone in board.zones]
    yield cpio.file("etc/chips", ",".join(map(str, sorted(set(chips)))).encode())
    yield cpio.file("etc/passwd", _PASSWD)
    yield cpio.file("etc/group", b"root:x:0:\ntty:x:5:\nbench:x:1000:\n")
    yield cpio.file("etc/shells", b"/bin/sh\n")
    yield cpio.file("etc/hostname", b"vboard\n")
    yield cpio.file("etc/os-release", _OS_RELEASE)
    yield cpio.file("etc/dropbear/host_key", host_key, 0o600)
    yield cpio.file("root/.ssh/authorized_keys", authorized + b"\n", 0o600)
    yield cpio.file("etc/inittab", (_HERE / "guest/inittab").read_bytes())
    for name in ("rc", "console"):
        yield cpio.file(f"etc/{name}", (_HERE / "guest" / name).read_bytes(), 0o755)


def _library(root: Path, name: str) -> bytes:
    """A shared library by the name that programs ask for; links in packages are relative to their folder."""
    found = sorted(path for path in root.rglob(name) if path.resolve().is_file())
    if not found:
        raise ImageError(f"expected {name} in the packages {', '.join(USER_PACKAGES)}, found none")
    return found[0].read_bytes()


def _run(argv: list[str], folder: Path) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        printed = (done.stderr or done.stdout).strip()[-3000:]
        raise ImageError(f"`{' '.join(argv)[:300]}` failed with status {done.returncode}: {printed}")
    return done.stdout
