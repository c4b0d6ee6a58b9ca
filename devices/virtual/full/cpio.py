"""A cpio archive of the kind that Linux unpacks as its first file system ("newc", the kernel's initramfs format).

Source: Documentation/driver-api/early-userspace/buffer-format.rst. Everything belongs to root, times are 0: the same
content gives the same bytes.
"""

import stat
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A file, or a folder or symbolic link by its `mode`; the content of a link is where it points."""

    path: str
    content: bytes
    mode: int


def folder(path: str, permissions: int = 0o755) -> Entry:
    return Entry(path, b"", stat.S_IFDIR | permissions)


def file(path: str, content: bytes, permissions: int = 0o644) -> Entry:
    return Entry(path, content, stat.S_IFREG | permissions)


def link(path: str, target: str) -> Entry:
    return Entry(path, target.encode(), stat.S_IFLNK | 0o777)


def console(path: str) -> Entry:
    return Entry(path, b"", stat.S_IFCHR | 0o600)


def pack(entries: Iterable[Entry]) -> bytes:
    """The archive; folders must come before what lies in them."""
    archive = bytearray()
    for number, entry in enumerate([*entries, Entry("TRAILER!!!", b"", 0)], start=1):
        name = entry.path.encode() + b"\0"
        device = (5, 1) if stat.S_ISCHR(entry.mode) else (0, 0)  # /dev/console, the only one we need
        fields = (number, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, *device, len(name), 0)
        archive += b"070701" + b"".join(b"%08x" % field for field in fields)
        archive += name + bytes(-len(archive + name) % 4)
        archive += entry.content + bytes(-len(entry.content) % 4)
    return bytes(archive)
