"""What all meters between the wall and a power supply have in common."""

import time
from collections.abc import Callable

from devices.families.gather import Unavailable
from devices.power.base import Rail, Rails, Sample

WALL = "wall"
_BOUNDARY = "wall, with the losses of the power supply"
_NOTES = ("renews its value about once a second and is right to about 1 %: for windows of minutes",)


def wall_rails(watts: Callable[[], float]) -> Rails:
    """One rail, if a first reading succeeds."""
    try:
        watts()
    except Unavailable as reason:
        return Rails(unavailable=str(reason))
    return Rails((Rail(WALL, "input", _BOUNDARY),), (WALL,), _BOUNDARY, 1.0, _NOTES)


def wall_sample(watts: Callable[[], float]) -> Sample:
    """`seconds` is this machine's clock, in the middle of the request."""
    begun = time.monotonic()
    try:
        read, unavailable = {WALL: watts()}, {}
    except Unavailable as reason:
        read, unavailable = {}, {WALL: str(reason)}
    return Sample((begun + time.monotonic()) / 2, read, unavailable=unavailable)
