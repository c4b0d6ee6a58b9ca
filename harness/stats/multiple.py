"""Many tests at once: p values adjusted so that a rate of error holds for all of them together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Adjusted p values: those <= q have a false discovery rate of at most q, where tests are independent.

    Benjamini & Hochberg, J. R. Stat. Soc. B 57 (1995) 289. ValueError for a p value outside [0, 1].
    """
    ordered, order = _ascending(p)
    scaled = ordered * len(ordered) / np.arange(1, len(ordered) + 1)
    return _restored(np.minimum.accumulate(scaled[::-1])[::-1], order)


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values: with those <= alpha, one or more are false with a probability of at most alpha.

    Holds under any dependence of the tests. Holm, Scand. J. Stat. 6 (1979) 65. ValueError as above.
    """
    ordered, order = _ascending(p)
    return _restored(np.maximum.accumulate(ordered * np.arange(len(ordered), 0, -1)), order)


def _ascending(p: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    values = np.asarray(p, dtype=np.float64)
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"expected p values from 0 to 1, found {list(p)}")
    order = np.argsort(values, kind="stable")
    return values[order], order


def _restored(ordered: NDArray[np.float64], order: NDArray[np.intp]) -> list[float]:
    values = np.empty_like(ordered)
    values[order] = np.minimum(ordered, 1)
    return [float(value) for value in values]
