"""Gather: what files and commands of a device say, all in one round trip; families and sensors read the result.

    found = gather(session, files=["/sys/class/thermal/thermal_zone*/temp"], commands={"throttled": ["vcgencmd", ...]})
    found.integer("/sys/class/thermal/thermal_zone0/temp")     # or Unavailable, with the reason that the device gave

`root` is a folder that stands in for the device's `/`: a recorded board in tests. Programs below it come first.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from shlex import join
from typing import TypeVar

from devices.errors import DeviceError
from devices.families.base import Shell

T = TypeVar("T")

MAX_FILE_BYTES = 65536
COMMAND_TIMEOUT_S = 5
"""Of one command on the device: some tools of phones hang for ever."""
MAX_WORDS = 200
"""Characters that a device may say about one thing; the longest real processor name has about 60."""
_PATTERN = re.compile(r"/[A-Za-z0-9_./*?\[\],:@+-]*")
_HEADER = re.compile(r"(?:^|\n)==> (/.*?) <==\n")
# GNU, then busybox and toybox: head: cannot open '/x' for reading: reason | head: /x: reason
_COMPLAINT = re.compile(r"head: (?:[a-z ]+')?(/.*?)'?(?: for reading)?: ([^:]+)")
_COMMAND = re.compile(r"\n== command (\w+)\n(.*?)\n== status ([0-9]+)(?=\n)", re.DOTALL)
_NOT_FOUND = 127
_TIMED_OUT = (124, 143, 137)
"""What `timeout` of GNU and toybox says, that of busybox (SIGTERM), and all three where SIGKILL was needed."""

# One `head` reads all files: forks are what such a script costs on a small board. The shell expands the patterns.
_SCRIPT = """
LC_ALL=C; export LC_ALL
R=$1
command -v head >/dev/null 2>&1 || {{ echo "head: no such program" >&2; exit {not_found}; }}
head -v -c {bytes} {files}
{commands}
exit 0
"""
# Over ssh, PATH lacks the folders where i2cget and nvpmodel lie. Some tools ignore SIGTERM, so `-k`, which busybox has
# only since 1.34; before 1.30 its `timeout` took its seconds as an option, and fails here.
_ASK = """
PATH="$PATH:/usr/sbin:/sbin"
if [ -n "$R" ]; then PATH="$R/usr/bin:$R/usr/sbin:$PATH"; fi
export PATH
for t in "timeout -k 1 {seconds}" "timeout {seconds}" ""; do $t true >/dev/null 2>&1 && break; done
ask() {{
  n=$1; shift
  o=$($t "$@" 2>&1 </dev/null); s=$?
  printf '\\n== command %s\\n%s\\n== status %s\\n' "$n" "$o" "$s"
}}
"""


class Unavailable(Exception):
    """The reason why something is not known."""


@dataclass(frozen=True)
class Output:
    """What a command printed on both streams, and its status."""

    text: str
    status: int


@dataclass(frozen=True)
class Gathered:
    """Files by path, without `root`; `reasons` has those that could not be read. All of it is untrusted text."""

    files: Mapping[str, str]
    reasons: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, Output] = field(default_factory=dict)

    def text(self, path: str) -> str:
        """Content without blanks and NUL at its ends; raises Unavailable."""
        if path in self.files:
            return self.files[path].strip(" \n\t\0")
        raise Unavailable(printable(f"{path}: {self.reasons.get(path, 'no such file')}"))

    def line(self, path: str) -> str:
        """The first line, safe to show."""
        return printable(self.text(path).partition("\n")[0])

    def integer(self, path: str) -> int:
        text = self.text(path)
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise Unavailable(f"{path}: expected an integer, found {printable(text)[:40]!r}")
        return int(text)

    def number(self, path: str) -> float:
        """The number that a file begins with, such as the uptime in `12.50 20.00`."""
        word = printable(next(iter(self.text(path).split()), ""))
        if not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", word):
            raise Unavailable(f"{path}: expected a number, found {word[:40]!r}")
        return float(word)

    def matching(self, pattern: str) -> list[str]:
        """Paths of that pattern that could be read, 2 before 10. A `*` does not cross a `/`."""
        depth = pattern.count("/")
        found = [path for path in self.files if path.count("/") == depth and fnmatchcase(path, pattern)]
        return sorted(found, key=_natural_order)

    def integers(self, pattern: str) -> dict[str, int]:
        """The integers in the files of a pattern, by path; files that hold anything else are left out."""
        values = {}
        for path in self.matching(pattern):
            try:
                values[path] = self.integer(path)
            except Unavailable:
                continue
        return values

    def command(self, name: str) -> str:
        """What a command printed; raises Unavailable if it is missing, hung or failed."""
        output = self.commands.get(name)
        if output is None:
            raise Unavailable(f"{name} was not asked")
        reasons = {_NOT_FOUND: "no such program"}
        reasons |= dict.fromkeys(_TIMED_OUT, f"no answer within {COMMAND_TIMEOUT_S} s")
        if output.status:
            reason = reasons.get(output.status) or output.text.strip() or "it printed nothing"
            raise Unavailable(printable(f"{name}: status {output.status}: {reason}"))
        return output.text


class Notes:
    """Collects what is known and why the rest is not: `notes.get("kernel", lambda: found.line(path))`."""

    def __init__(self) -> None:
        self.unavailable: dict[str, str] = {}

    def get(self, name: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except Unavailable as reason:
            self.unavailable[name] = str(reason)
            return None


def gather(
    shell: Shell,
    files: Iterable[str],
    commands: Mapping[str, Sequence[str]] | None = None,
    root: str = "",
) -> Gathered:
    """Read the files that the patterns match and run the commands; raises DeviceError if the device has no shell.

    Patterns are absolute and may hold `*`, `?` and `[]`; what they match, the device's shell decides.
    """
    asked = list(files)
    if bad := [pattern for pattern in asked if not _PATTERN.fullmatch(pattern)]:
        raise ValueError(f"expected absolute paths without blanks and quotes, found {bad}")
    questions = [f"ask {name} {join(argv)}" for name, argv in (commands or {}).items()]
    script = _SCRIPT.format(
        not_found=_NOT_FOUND,
        bytes=MAX_FILE_BYTES,
        files=" ".join(f'"$R"{pattern}' for pattern in asked) or "/dev/null",
        commands="\n".join([_ASK.format(seconds=COMMAND_TIMEOUT_S), *questions]) if questions else "",
    )
    answer = shell.run(["sh", "-c", script, "sh", root.rstrip("/")])
    if answer.returncode != 0:
        printed = printable((answer.stderr or answer.stdout).strip()[:500])
        raise DeviceError(f"expected a POSIX shell with `head`, found status {answer.returncode}: {printed}")
    return parse_gathered(answer.stdout, answer.stderr, root.rstrip("/"))


def parse_gathered(stdout: str, stderr: str, root: str = "") -> Gathered:
    """From what the script printed. The text is whatever the device chose to say."""
    commands = {name: Output(text, int(status[:3])) for name, text, status in _COMMAND.findall(stdout)}
    listing = stdout.partition("\n== command ")[0]
    _, *parts = _HEADER.split(listing)
    contents = {path.removeprefix(root): text for path, text in zip(parts[::2], parts[1::2], strict=True)}
    complaints = (_COMPLAINT.fullmatch(line) for line in stderr.splitlines())
    reasons = {match[1].removeprefix(root): match[2].strip() for match in complaints if match}
    return Gathered({path: text for path, text in contents.items() if path not in reasons}, reasons, commands)


def printable(text: str) -> str:
    """Without control characters: a device must not be able to steer the terminal that shows what it said."""
    return "".join(c for c in text if c.isprintable()).strip()[:MAX_WORDS]


def natural(word: str) -> int | None:
    """A natural number of at most 12 digits, or None."""
    return int(word) if re.fullmatch(r"[0-9]{1,12}", word) else None


def _natural_order(path: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]{1,9})", path)]
