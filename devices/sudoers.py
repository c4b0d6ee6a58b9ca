"""Sudoers: what the bench may do as root on a device, as a list of exact commands and nothing else.

bench ALL=(root) NOPASSWD: /usr/bin/tee /sys/devices/system/cpu/cpufreq/policy0/scaling_governor
"""

import re
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from devices.check import Check, note
from devices.errors import DeviceError
from devices.families.base import Family
from devices.families.gather import printable
from devices.session import Session

NAME = "sudoers-edge-quant-bench"
# sudo skips files in that folder whose names hold a dot or end in ~.
INSTALLED = "/etc/sudoers.d/edge-quant-bench"
TITLE = "allow-list"
_HEADING = "# edge-quant-bench: exact commands that steady the clocks for a measurement; see devices/README.md\n"
# A name in capitals would be an alias, %name a group, `Defaults` a keyword.
_USER = re.compile(r"[a-z_][A-Za-z0-9_.-]{0,31}")
# What sudoers(5) gives a meaning to and no command of ours needs is refused: wildcards, quotes, ^regular expressions$,
# !negation, #comments, and the backslash, which sudo reads differently with and without wildcards.
_WORD = re.compile(r"[A-Za-z0-9_/.,:=@%+ -]+")
_ESCAPED = re.compile(r"([,:= ])")
_VISUDO = 'PATH="$PATH:/usr/sbin:/sbin"; command -v visudo >/dev/null || exit 127; exec visudo -cf "$1"'


def sudoers_text(user: str, privileges: Sequence[Sequence[str]]) -> str:
    """The file that lets `user` run these commands, each with exactly these arguments; raises ValueError."""
    if not _USER.fullmatch(user):
        raise ValueError(f"expected the name of a user that sudoers can hold, found {user!r}")
    rights = dict.fromkeys(_command(argv) for argv in privileges)
    return _HEADING + "".join(f"{user} ALL=(root) NOPASSWD: {right}\n" for right in rights)


def _command(argv: Sequence[str]) -> str:
    for word in argv:
        if not _WORD.fullmatch(word):
            raise ValueError(f"{word!r} cannot stand in a sudoers file: expected letters, digits and _/.,:=@%+- only")
    if not argv or not argv[0].startswith("/") or argv[0].endswith("/") or "/../" in argv[0]:
        raise ValueError(f"expected the absolute path of a program, found {list(argv[:1])}")
    # Without arguments in the file, any would be allowed; "" allows none.
    program, *arguments = (_ESCAPED.sub(r"\\\1", word) for word in argv)
    return " ".join([program, *(arguments or ['""'])])


def install(session: Session, family: Family) -> Check:
    """Write the allow-list into the bench's folder on the device, and install it if we may; raises DeviceError.

    Where we may not, the check fails, and its fix is the one command that a person has to run there.
    """
    if session.run(["id", "-u"]).check().stdout.strip() == "0":
        return Check(TITLE, True, "we are root there and need none")
    privileges = family.privileges(session)
    if not privileges:
        return note(TITLE, "unavailable: nothing on this device needs root")
    path = _write(session, privileges)
    command = ["install", "-m", "440", "-o", "root", "-g", "root", path, INSTALLED]
    done = session.run(["sudo", "-n", *command])
    found = f"{len(privileges)} commands in {path}"
    if done.returncode == 0:
        return Check(TITLE, True, f"{found}, installed as {INSTALLED}")
    reason = printable(done.stderr.strip()) or "sudo refused"
    return Check(TITLE, False, f"{found}, not installed: {reason}", f"on the device, run: sudo {shlex.join(command)}")


def _write(session: Session, privileges: Sequence[Sequence[str]]) -> str:
    """The path of the file on the device, whose syntax its own visudo has accepted where it has one."""
    user = session.run(["id", "-un"]).check().stdout.strip()
    try:
        text = sudoers_text(user, privileges)
    except ValueError as error:
        raise DeviceError(f"no allow-list can be written: {printable(str(error))}; report this device") from error
    path = f"{session.root}/{NAME}"
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder, NAME)
        local.write_text(text)
        local.chmod(0o440)
        session.put(local, path)
    checked = session.run(["sh", "-c", _VISUDO, "sh", path])
    if checked.returncode not in (0, 127):
        reason = printable(checked.stdout + checked.stderr)
        raise DeviceError(f"visudo of {session.device.name} refuses {path}: {reason}; nothing was installed")
    return path
