"""Numbers as text: units, and no more digits than the interval earns."""

import math

ABSENT = "\N{EN DASH}"
"""Stands where nothing was measured."""

_MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
_SPACE = "\N{NO-BREAK SPACE}"


def significant(value: float, digits: int = 3) -> str:
    """`value` to `digits` significant digits, thousands separated; very small values in powers of ten."""
    if math.isnan(value):
        return ABSENT
    if value != 0 and abs(value) < 1e-3:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}{TIMES}10{_superscript(int(exponent))}".replace("-", _MINUS)
    return _fixed(value, _decimals(value, digits))


def interval(value: float, low: float, high: float) -> tuple[str, str]:
    """(`183.4`, `± 1.7`) or (`183.4`, `+2.1 -0.9`): half-widths to 2 digits, the value to the same place.

    The second text is empty where there is no interval. Sides that differ by less than 20 % are one `±`.
    """
    if math.isnan(value) or math.isnan(low) or math.isnan(high) or high <= low:
        return significant(value, 4), ""
    up, down = max(high - value, 0.0), max(value - low, 0.0)
    wide = max(up, down)
    if 0 < wide < 1e-3 or (0 < abs(value) < 1e-3):
        return significant(value), f"± {significant(wide, 2)}"
    decimals = _decimals(wide, 2)
    if min(up, down) > 0.8 * wide:
        return _fixed(value, decimals), f"± {_fixed(wide, decimals)}"
    return _fixed(value, decimals), f"+{_fixed(up, decimals)} {_MINUS}{_fixed(down, decimals)}"


def shared_text(value: float, low: float, high: float) -> tuple[str, str]:
    """(`41.56`, `+12 -8`): the interval is over texts, the same for all models: the value keeps 4 digits to compare."""
    return significant(value, 4), interval(value, low, high)[1]


def count(value: float) -> str:
    """A whole number, thousands separated."""
    return ABSENT if math.isnan(value) else f"{value:,.0f}"


def milliseconds(value: float) -> str:
    """Ms as µs, ms or s."""
    if math.isnan(value):
        return ABSENT
    if abs(value) < 1:
        return f"{significant(1e3 * value)}{_SPACE}µs"
    if abs(value) < 1e3:
        return f"{significant(value)}{_SPACE}ms"
    return f"{significant(value / 1e3)}{_SPACE}s"


def size(n_bytes: float) -> str:
    """Bytes as B, kB, MB or GB (powers of ten)."""
    if math.isnan(n_bytes):
        return ABSENT
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(n_bytes) >= factor:
            return f"{significant(n_bytes / factor)}{_SPACE}{unit}"
    return f"{n_bytes:.0f}{_SPACE}B"


def percent(share: float, signed: bool = False) -> str:
    """0.0213 as `2.1 %`."""
    if math.isnan(share):
        return ABSENT
    text = f"{100 * share:+.1f}" if signed else f"{100 * share:.1f}"
    return f"{text.replace('-', _MINUS)}{_SPACE}%"


def _decimals(value: float, digits: int) -> int:
    if value == 0 or math.isinf(value):
        return 0
    return min(max(digits - 1 - math.floor(math.log10(abs(value))), 0), 6)


def _fixed(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}".replace("-", _MINUS)


def _superscript(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
