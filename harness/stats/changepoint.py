"""Nightly series: where the level of a metric changed, by energy statistics and a permutation test.

    logs = common_mode_removed(log_times, log_golden_times)    # what the whole board shares is no news of one kernel
    changes(logs, epochs)                                      # [Change(index=31, log_ratio=0.052, p=0.001)]
    changes_across({"pi5 w4a8": logs, ...})                    # the same for many series, false ones limited for all

Values are logarithms of one number a night, so that changes are ratios. The divisive algorithm: Matteson & James,
J. Am. Stat. Assoc. 109 (2014) 334 (arXiv 1306.4933). Nights resemble their neighbours (heat, dust, ageing); a test that
takes them for independent finds a change in 71 % of series that have none (60 nights, rho 0.5). Here nights "without
change" keep the autocorrelation that was found (`fitted_rho`).
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from harness.stats.multiple import benjamini_hochberg

Values = NDArray[np.float64]

ALPHA = 0.05
FLOOR = 0.03
"""Smallest |log ratio| of two neighbouring levels that is reported; below it a nightly series shows little anyway."""
MIN_SEGMENT = 3
"""Nights: one bad night, or two, are not a new level."""
PERMUTATIONS = 999
MAX_RHO = 0.95
RHO_ERRORS = 1.5
"""In 60 nights of rho 0.5, false alarms are 7 % with 1 and 5 % with this; 5 % are found in 84 %, and with 2 in 68 %."""
LIKELY_SPLITS = 4
LIKELY_STEP = 3.0
"""In deviations. With 2 false alarms at rho 0.8 nearly triple; without such cuts half of double changes are missed."""
NORMAL_MAD = 0.6745
BATCH_CELLS = 2_000_000
"""Distances held at a time: 16 MB."""


@dataclass(frozen=True)
class Change:
    """A new level from night `index` on; `log_ratio` is that of the medians after and before."""

    index: int
    log_ratio: float
    p: float


@dataclass(frozen=True)
class _Split:
    """The best split of values[start:]: at `middle`, with the second part ending at `stop`."""

    start: int
    middle: int
    stop: int
    score: float


def common_mode_removed(logs: Sequence[float], golden: Sequence[float]) -> list[float]:
    """Logs minus those of the golden kernel in the same sessions, which keep the mean level; NaN where either is."""
    if len(logs) != len(golden):
        raise ValueError(f"expected one golden value a night, found {len(golden)} for {len(logs)}")
    reference = np.asarray(golden, dtype=np.float64)
    return [float(x) for x in np.asarray(logs, dtype=np.float64) - reference + np.nanmean(reference)]


def changes(
    logs: Sequence[float],
    epochs: Sequence[Hashable] | None = None,
    alpha: float = ALPHA,
    floor: float = FLOOR,
    min_segment: int = MIN_SEGMENT,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[Change]:
    """Changes of level, in order; nights that are NaN are passed over, and keep their place in the count.

    `epochs` labels each night (the OS, firmware, power supply): parts with another label are looked at by themselves,
    and no change is reported between them. `alpha` is the probability of finding anything in an epoch without change.
    """
    found = []
    for nights in _epochs(logs, epochs):
        values = np.asarray(logs, dtype=np.float64)[nights]
        ends, p = _segmented(values, alpha, min_segment, permutations, np.random.default_rng(seed))
        found += [replace(one, index=int(nights[one.index])) for one in _large(values, ends, p, floor)]
    return found


def changes_across(
    series: Mapping[str, Sequence[float]],
    epochs: Mapping[str, Sequence[Hashable]] | None = None,
    q: float = ALPHA,
    floor: float = FLOOR,
    min_segment: int = MIN_SEGMENT,
    seed: int = 0,
) -> dict[str, list[Change]]:
    """Changes of many series: of the series that are named at all, a share of at most `q` is named wrongly.

    A series (each epoch of it) is first asked whether there is any change; Benjamini-Hochberg over these p values says
    where to look, and how sharply. Every series is in the result.
    """
    labels = epochs or {}
    permutations = max(PERMUTATIONS, math.ceil(2 * len(series) / q))
    parts = {name: _epochs(logs, labels.get(name)) for name, logs in series.items()}
    first = [
        any_change(np.asarray(series[name])[nights], q, min_segment, permutations, seed)
        for name, of_series in parts.items()
        for nights in of_series
    ]
    adjusted = benjamini_hochberg(first)
    alpha = max((p for p, corrected in zip(first, adjusted, strict=True) if corrected <= q), default=0.0)
    return {
        name: changes(logs, labels.get(name), alpha, floor, min_segment, permutations, seed)
        for name, logs in series.items()
    }


def any_change(
    logs: Sequence[float] | Values,
    alpha: float = ALPHA,
    min_segment: int = MIN_SEGMENT,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    rho: float | None = None,
) -> float:
    """p value of "no change in this series"; 1 when it is too short for one. Exact only near and below `alpha`.

    `rho`, if the autocorrelation is known; 0 makes it the permutation test of Matteson & James.
    """
    values = np.asarray(logs, dtype=np.float64)
    split = _best_split(values, 0, len(values), min_segment)
    if split is None:
        return 1.0
    used = fitted_rho(values, _likely_cuts(values, min_segment)) if rho is None else rho
    return _p_value(values, split.score, used, alpha, min_segment, permutations, np.random.default_rng(seed))


def fitted_rho(values: Values, cuts: Sequence[int] = ()) -> float:
    """Autocorrelation of one night with the next, 0 .. MAX_RHO, about the means of the parts between `cuts`.

    A change left in would look like autocorrelation and hide itself. Corrected for the bias of short series, about
    -(1 + 3 rho) / n for each mean that was fitted (Kendall, Biometrika 41 (1954) 403), and 1.5 standard errors
    are added: cuts that were chosen to fit take autocorrelation away, and too little of it costs more than too much.
    """
    edges = sorted({0, len(values), *cuts})
    parts = [values[a:b] - values[a:b].mean() for a, b in pairwise(edges)]
    rest, count, means = np.concatenate(parts), len(values), len(parts)
    power = float(rest @ rest)
    if power == 0 or count <= 3 * means:
        return 0.0
    raw = float(rest[1:] @ rest[:-1]) / power
    rho = min(max((count * raw + means) / (count - 3 * means), 0.0), MAX_RHO)
    return min(rho + RHO_ERRORS * math.sqrt((1 - rho**2) / count), MAX_RHO)


def _epochs(logs: Sequence[float], labels: Sequence[Hashable] | None) -> list[NDArray[np.intp]]:
    """Night numbers of each stretch with one label, those without a value left out."""
    known = labels if labels is not None else [None] * len(logs)
    if len(known) != len(logs):
        raise ValueError(f"expected one epoch label a night, found {len(known)} for {len(logs)}")
    borders = [0, *(i for i in range(1, len(known)) if known[i] != known[i - 1]), len(known)]
    finite = np.isfinite(np.asarray(logs, dtype=np.float64))
    parts = [a + np.flatnonzero(finite[a:b]) for a, b in pairwise(borders)]
    return [part for part in parts if len(part)]


def _segmented(
    values: Values, alpha: float, min_segment: int, permutations: int, generator: np.random.Generator
) -> tuple[list[int], dict[int, float]]:
    """Sorted edges of all segments, 0 and the length included, and the p value of each inner one."""
    edges, p_values = [0, len(values)], dict[int, float]()
    likely = _likely_cuts(values, min_segment)
    while True:
        best = _best_of(values, edges, min_segment)
        if best is None:
            return edges, p_values
        part = values[best.start : min(edge for edge in edges if edge > best.start)]
        rho = fitted_rho(values, [*likely, *edges, best.middle, best.stop])
        p = _p_value(part, best.score, rho, alpha, min_segment, permutations, generator)
        if p > alpha:
            return edges, p_values
        p_values[best.middle] = p
        edges = sorted([*edges, best.middle])


def _likely_cuts(values: Values, min_segment: int) -> list[int]:
    """Where levels may change, before any test: the best split, and further ones whose step stands out of the noise.

    Only to fit the autocorrelation. A second change that is left in looks like it, and hides the first.
    """
    edges = [0, len(values)]
    while len(edges) <= 2 * LIKELY_SPLITS:
        split = _best_of(values, edges, min_segment)
        if split is None or (len(edges) > 2 and not _stands_out(values, split)):
            break
        edges = sorted({*edges, split.middle, split.stop})
    return edges


def _stands_out(values: Values, split: _Split) -> bool:
    """Against the differences of neighbouring nights, whose median no change of level moves."""
    differences = np.diff(values)
    noise = float(np.median(np.abs(differences - np.median(differences)))) / NORMAL_MAD
    before, after = values[split.start : split.middle], values[split.middle : split.stop]
    return abs(float(np.median(after) - np.median(before))) >= LIKELY_STEP * noise


def _best_of(values: Values, edges: list[int], min_segment: int) -> _Split | None:
    splits = [_best_split(values, a, b, min_segment) for a, b in pairwise(edges)]
    return max((split for split in splits if split), key=lambda split: split.score, default=None)


def _large(values: Values, edges: list[int], p_values: dict[int, float], floor: float) -> list[Change]:
    """Changes whose size reaches the floor; the smallest is dropped first, and its two segments become one."""
    while True:
        levels = [float(np.median(values[a:b])) for a, b in pairwise(edges)]
        steps = [after - before for before, after in pairwise(levels)]
        small = min(range(len(steps)), key=lambda i: abs(steps[i]), default=None)
        if small is None or abs(steps[small]) >= floor:
            return [Change(edge, step, p_values[edge]) for edge, step in zip(edges[1:-1], steps, strict=True)]
        edges = edges[: small + 1] + edges[small + 2 :]


def _best_split(values: Values, start: int, stop: int, min_segment: int) -> _Split | None:
    if min_segment < 2:
        raise ValueError(f"expected segments of 2 nights or more, found {min_segment}: one night has no spread")
    if stop - start < 2 * min_segment:
        return None
    scores = _scores(values[None, start:stop], min_segment)[0]
    middle, end = np.unravel_index(int(np.argmax(scores)), scores.shape)
    return _Split(start, start + int(middle), start + int(end), float(scores[middle, end]))


def _p_value(
    values: Values,
    score: float,
    rho: float,
    alpha: float,
    min_segment: int,
    permutations: int,
    generator: np.random.Generator,
) -> float:
    """Share of series without change that score as high; stops early when it can no longer be <= alpha.

    Such a series is one of the same innovations in another order: for rho 0 the permutation test.
    """
    innovations = _innovations(values, rho)
    batch = max(BATCH_CELLS // len(values) ** 2, 1)
    done = above = 0
    while done < permutations and (above + 1) / (permutations + 1) <= alpha:
        orders = generator.permuted(np.tile(innovations, (min(batch, permutations - done, 100 + done), 1)), axis=1)
        above += int((_scores(_series(orders, rho), min_segment).max(axis=(1, 2)) >= score * (1 - 1e-9)).sum())
        done += len(orders)
    return (above + 1) / (done + 1)


def _innovations(values: Values, rho: float) -> Values:
    """What each night adds to rho times the night before; the first is scaled to be like the others."""
    rest = values - values.mean()
    return np.concatenate([rest[:1] * math.sqrt(1 - rho**2), rest[1:] - rho * rest[:-1]])


def _series(innovations: Values, rho: float) -> Values:
    """The inverse, row by row."""
    scaled = innovations.copy()
    scaled[:, 0] /= math.sqrt(1 - rho**2)
    series: Values = lfilter([1.0], [1.0, -rho], scaled, axis=1)
    return series


def _scores(rows: Values, min_segment: int) -> Values:
    """Q of each (tau, kappa), for each row of values: row[:tau] against row[tau:kappa]; -inf where one is too short.

    Q = m n / (m + n) * (2 mean|x - y| - mean|x - x'| - mean|y - y'|), means over different pairs (equations 5 and 7
    of Matteson & James, alpha = 1). Shape (rows, n + 1, n + 1).
    """
    count = rows.shape[1]
    sums = np.zeros((len(rows), count + 1, count + 1))
    np.cumsum(np.cumsum(np.abs(rows[:, :, None] - rows[:, None, :]), axis=1), axis=2, out=sums[:, 1:, 1:])
    inner = np.diagonal(sums, axis1=1, axis2=2)
    first, last = inner[:, :, None], inner[:, None, :]
    m = np.arange(count + 1.0)[:, None]
    n = np.arange(count + 1.0)[None, :] - m
    allowed = (m >= min_segment) & (n >= min_segment)
    m, n = np.where(allowed, m, 2), np.where(allowed, n, 2)
    across, beyond = (sums - first) / (m * n), (last - 2 * sums + first) / (n * (n - 1))
    scores: Values = m * n / (m + n) * (2 * across - first / (m * (m - 1)) - beyond)
    return np.where(allowed, scores, -np.inf)
