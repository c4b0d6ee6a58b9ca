"""Debian packages of another architecture, without telling this machine's dpkg of it: a private configuration of apt.

Needs no root. The release is always bookworm, whatever the host runs: its kernel and headers are what we know.
"""

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from devices.virtual.full.errors import ImageError

OnStep = Callable[[str], None]

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SOURCES = f"deb [signed-by={_KEYRING}] http://deb.debian.org/debian bookworm main\n"


class Apt:
    """Lists and cache below `folder`; packages are arm64 unless named `package:amd64`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        for name in ("lists/partial", "cache/archives/partial", "parts"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").touch()
        (self._folder / "sources.list").write_text(_SOURCES)
        (self._folder / "conf").write_text(_configuration(self._folder))

    def update(self) -> None:
        self._run(["apt-get", "-qq", "-o", "APT::Update::Error-Mode=any", "update"], self._folder)

    def depends(self, package: str) -> str:
        """The `Depends` line of a package."""
        for line in self._run(["apt-cache", "show", "--no-all-versions", package], self._folder).splitlines():
            if line.startswith("Depends: "):
                return line.removeprefix("Depends: ")
        raise ImageError(f"expected the package {package} in Debian bookworm with a Depends line, found none")

    def versions(self, packages: Sequence[str]) -> dict[str, str]:
        """The version that `download` would bring of each."""
        found = {}
        for package in packages:
            text = self._run(["apt-cache", "policy", package], self._folder)
            candidate = [line.split()[1] for line in text.splitlines() if line.strip().startswith("Candidate:")]
            if len(candidate) != 1 or candidate[0] == "(none)":
                raise ImageError(f"Debian bookworm offers no package {package}")
            found[package] = candidate[0]
        return found

    def extract(self, packages: Sequence[str], folder: Path) -> None:
        """Download the packages and unpack their files, without running anything of them."""
        debs = self._folder / "debs"
        debs.mkdir(exist_ok=True)
        self._run(["apt-get", "-qq", "download", *packages], debs)
        folder.mkdir(parents=True, exist_ok=True)
        for deb in sorted(debs.glob("*.deb")):
            self._run(["dpkg-deb", "-x", str(deb), str(folder)], debs)
            deb.unlink()

    def _run(self, argv: Sequence[str], folder: Path) -> str:
        environment = {**os.environ, "APT_CONFIG": str(self._folder / "conf"), "LC_ALL": "C"}
        done = subprocess.run(
            argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise ImageError(
                f"`{' '.join(argv)}` failed with status {done.returncode}: {done.stderr.strip()[-2000:]}; "
                "is deb.debian.org reachable?"
            )
        return done.stdout


def _configuration(folder: Path) -> str:
    # The host's own parts are left out: they hold hooks for its package database. How it reaches the network is kept.
    host = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True).stdout
    network = [line for line in host.splitlines() if line.lower().startswith(("acquire::http", "acquire::https"))]
    return "\n".join(
        [
            f'Dir::Etc::parts "{folder}/parts";',
            'Dir::Etc::main "/dev/null";',
            f'Dir::Etc::sourcelist "{folder}/sources.list";',
            f'Dir::Etc::sourceparts "{folder}/parts";',
            f'Dir::State::lists "{folder}/lists";',
            f'Dir::State::status "{folder}/status";',
            f'Dir::Cache "{folder}/cache";',
            'APT::Architecture "arm64";',
            'APT::Architectures { "arm64"; "amd64"; };',
            'APT::Sandbox::User "root";',
            'Acquire::Languages "none";',
            *network,
            "",
        ]
    )
