"""What can go wrong when instructions are counted.

VirtualBoardError
└── CountingError   a program is missing on this machine (the message names its package), or one failed
"""

import shutil

from devices.errors import VirtualBoardError


class CountingError(VirtualBoardError):
    pass


def find_tool(name: str, package: str) -> str:
    """The path of a program of this machine; raises CountingError that names its Debian package."""
    found = shutil.which(name)
    if found is None:
        raise CountingError(f"counting instructions needs {name}: apt-get install {package}")
    return found
