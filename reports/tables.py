"""The tables a report is made of: every column with its unit and meaning, and the check that they are there.

All tables are optional and any value may be missing; a table that has rows must have its columns.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

NUMBER, TEXT = "number", "text"
_INTERVAL = "95 % bound over process launches"

COLUMNS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "run": {
        "run_id": (TEXT, "identifier of the run in the result database"),
        "created": (TEXT, "start of the run, ISO 8601"),
        "device": (TEXT, "name of the device in the inventory"),
        "virtual": (TEXT, "kind of virtual board, empty for a real device"),
        "model": (TEXT, "name of the model"),
        "recipe": (TEXT, "recipe that made the quantized weights"),
        "command": (TEXT, "command line that reproduces the run"),
        "agent_sha256": (TEXT, "sha256 of the binary that ran on the device"),
        "git_commit": (TEXT, "commit of the benchmark"),
        "bench_version": (TEXT, "version of the benchmark"),
    },
    "device": {
        "fact": (TEXT, "name of a fact the device reported"),
        "value": (TEXT, "its value"),
    },
    "models": {
        "label": (TEXT, "name of the row: a scheme or `allocated`"),
        "kind": (TEXT, "`baseline`, `uniform` or `allocated`"),
        "recipe": (TEXT, "recipe that made the weights"),
        "bits_per_weight": (NUMBER, "stored bits per weight of the quantized layers, scales included"),
        "bytes": (NUMBER, "size of the model file in bytes"),
        "perplexity": (NUMBER, "perplexity per token on the device"),
        "perplexity_low": (NUMBER, "95 % bound over evaluation windows"),
        "perplexity_high": (NUMBER, "95 % bound over evaluation windows"),
        "kl_mean": (NUMBER, "mean KL divergence to the baseline, nats per token"),
        "kl_low": (NUMBER, "95 % bound over evaluation windows"),
        "kl_high": (NUMBER, "95 % bound over evaluation windows"),
        "same_top": (NUMBER, "share of tokens (0-1) with the same most likely next token as the baseline"),
        "perplexity_kept": (NUMBER, "perplexity of tokens predicted from kept ones, of a model that drops tokens"),
        "kept_rate": (NUMBER, "share of tokens (0-1) that no block dropped"),
        "prefill_tps": (NUMBER, "prefill speed, tokens/s"),
        "prefill_tps_low": (NUMBER, _INTERVAL),
        "prefill_tps_high": (NUMBER, _INTERVAL),
        "decode_tps": (NUMBER, "decode speed, tokens/s"),
        "decode_tps_low": (NUMBER, _INTERVAL),
        "decode_tps_high": (NUMBER, _INTERVAL),
        "prefill_ms": (NUMBER, "measured time of the whole prefill, ms"),
        "decode_ms": (NUMBER, "measured time per decoded token, ms"),
        "first_prefill_ms": (NUMBER, "the same in the first pass of a fresh process, ms; median over launches"),
        "first_decode_ms": (NUMBER, "time per token in the first pass of a fresh process, ms; median over launches"),
        "predicted_prefill_ms": (NUMBER, "prefill time that the cost table predicts, ms"),
        "predicted_decode_ms": (NUMBER, "time per token that the cost table predicts, ms"),
        "decode_j": (NUMBER, "energy per decoded token as the sensor gives it, J"),
        "decode_j_low": (NUMBER, _INTERVAL),
        "decode_j_high": (NUMBER, _INTERVAL),
        "decode_net_j": (NUMBER, "the same without what the idle device takes, J"),
        "decode_w": (NUMBER, "mean power while decoding, W"),
        "boundary": (TEXT, "sensor, and what its power includes"),
        "energy_verdict": (TEXT, "verdict of the energies, with its reasons; empty if none was measured"),
        "verdict": (TEXT, "`valid`, `suspect` or `invalid`"),
        "reasons": (TEXT, "why the verdict is not `valid`"),
    },
    "kernels": {
        "scheme": (TEXT, "scheme of the operator"),
        "variant": (TEXT, "kernel that ran, such as its ISA"),
        "n": (NUMBER, "output features"),
        "k": (NUMBER, "input features"),
        "m": (NUMBER, "tokens at once"),
        "latency_us": (NUMBER, "median latency of one call, µs"),
        "low_us": (NUMBER, _INTERVAL),
        "high_us": (NUMBER, _INTERVAL),
        "launches": (NUMBER, "process launches"),
        "iterations": (NUMBER, "timed calls per launch"),
        "gops": (NUMBER, "effective throughput, 10^9 operations/s (2·M·N·K per call)"),
        "gbps": (NUMBER, "effective weight bandwidth, 10^9 bytes/s"),
        "footprint_bytes": (NUMBER, "bytes that its weights were taken from in turns; more than a cache: from memory"),
    },
    "limits": {
        "what": (TEXT, "`read`, or operations: `int8`, `fp32`"),
        "isa": (TEXT, "instruction set"),
        "loop": (TEXT, "instructions of the loop, or the pattern that read fastest"),
        "level": (TEXT, "`memory`, a cache such as `L2`, or `registers`"),
        "pages": (TEXT, "pages that were read: `huge` or `base`"),
        "set_bytes": (NUMBER, "bytes read around and around; half of a cache"),
        "huge_share": (NUMBER, "share (0-1) of the set that the kernel kept in huge pages"),
        "threads": (NUMBER, "threads"),
        "value": (NUMBER, "of the fastest piece, 10^9 bytes/s or 10^9 operations/s (two a multiply-accumulate)"),
        "launches": (NUMBER, "process launches"),
        "pieces": (NUMBER, "timed pieces in all launches"),
    },
    "layers": {
        "layer": (TEXT, "module name of the linear layer"),
        "block": (NUMBER, "index of its transformer block"),
        "kind": (TEXT, "which linear of the block, such as `q_proj`"),
        "scheme": (TEXT, "scheme that the allocation chose"),
        "bits_per_weight": (NUMBER, "stored bits per weight, scales included"),
        "kl": (NUMBER, "KL divergence when only this layer has this scheme, nats per token"),
        "decode_us": (NUMBER, "measured decode cost of the layer with this scheme, µs"),
        "bytes": (NUMBER, "stored bytes of the layer"),
    },
    "sensitivity": {
        "layer": (TEXT, "module name of the linear layer"),
        "scheme": (TEXT, "scheme that this layer alone was given"),
        "kl": (NUMBER, "KL divergence to the baseline, nats per token"),
        "mse": (NUMBER, "input-weighted mean squared error of the layer's output"),
    },
    "pareto": {
        "label": (TEXT, "name of the point"),
        "kind": (TEXT, "`frontier`, `uniform` or `allocated`"),
        "predicted_decode_ms": (NUMBER, "predicted time per decoded token, ms"),
        "predicted_kl": (NUMBER, "predicted KL divergence, nats per token"),
        "bytes": (NUMBER, "predicted bytes"),
    },
    "energy": {
        "label": (TEXT, "model"),
        "phase": (
            TEXT,
            "`prefill`, `decode`, or `both`: a whole pass, for sensors too slow to tell them apart",
        ),
        "metric": (TEXT, "`energy`, `net_energy` (without idle power), `power`, `peak_power` or `edp`"),
        "unit": (TEXT, "its unit"),
        "value": (NUMBER, "median over process launches"),
        "low": (NUMBER, _INTERVAL),
        "high": (NUMBER, _INTERVAL),
        "uncertainty": (NUMBER, "standard uncertainty of the mean: launches, sensor and sampling together"),
        "launches": (NUMBER, "process launches"),
        "samples": (NUMBER, "samples of the sensor inside the timed spans"),
        "idle_w": (NUMBER, "idle power around it, W"),
        "sensor": (TEXT, "what measured it"),
        "boundary": (TEXT, "what its power includes"),
        "resolution_w": (NUMBER, "smallest step of the sensor, W"),
        "notes": (TEXT, "what to know before using the number"),
        "verdict": (TEXT, "`valid`, `suspect` or `invalid`"),
        "reasons": (TEXT, "why the verdict is not `valid`"),
        "error": (TEXT, "why there is no number"),
    },
    "sustained": {
        "label": (TEXT, "model"),
        "phase": (TEXT, "`prefill` or `decode`; times are of a whole prefill or of one decoded token"),
        "first_ms": (NUMBER, "first inference: the first pass of a fresh process, median over launches, ms"),
        "burst_ms": (NUMBER, "the fastest stretch of one long launch, ms"),
        "sustained_ms": (NUMBER, "the last stretch of it, ms"),
        "ratio": (NUMBER, "sustained over burst speed"),
        "throttled_after_s": (NUMBER, "from when on it was slower than its burst, s; absent if it never was"),
        "kind": (TEXT, "`flat`, `warmup`, `slowdown`, `no_steady_state` or `too_short`"),
        "iterations": (NUMBER, "passes"),
        "seconds": (NUMBER, "how long they took together with those of the other phase, s"),
        "verdict": (TEXT, "`valid`, `suspect` or `invalid`; heat is no doubt here, it is what is asked"),
        "reasons": (TEXT, "why the verdict is not `valid`"),
    },
    "passes": {
        "label": (TEXT, "model"),
        "phase": (TEXT, "`decode`"),
        "at_s": (NUMBER, "end of a group of passes, since the long launch began to time, s"),
        "ms": (NUMBER, "median of the group, ms per token"),
    },
    "sessions": {
        "session": (TEXT, "identifier of the session: a device held, tuned and measured without a break"),
        "step": (TEXT, "what was done, in order"),
        "ended": (TEXT, "when, ISO 8601"),
        "seconds": (NUMBER, "how long it took, s"),
        "outcome": (TEXT, "`done`, `unavailable` or `failed`"),
        "said": (TEXT, "what was found or set (JSON)"),
    },
    "provenance": {
        "job_key": (TEXT, "content key of the job"),
        "probe": (TEXT, "probe that measured"),
        "metric": (TEXT, "what was measured"),
        "unit": (TEXT, "unit of the raw values"),
        "subject": (TEXT, "what it was measured on (JSON)"),
        "launches": (NUMBER, "process launches"),
        "iterations": (NUMBER, "raw values in all launches"),
        "artifacts": (TEXT, "name → sha256 of every file used (JSON)"),
        "command": (TEXT, "command that ran on the device"),
        "agent_sha256": (TEXT, "sha256 of the binary that ran"),
        "epoch": (TEXT, "changes with the system, firmware or configuration of the device"),
        "sessions": (TEXT, "the sessions that it was measured in"),
        "tuned": (TEXT, "what was set for the measurement"),
        "cpus": (TEXT, "CPUs that it ran on, and those asked for if others"),
        "mhz": (TEXT, "counted clock before and after a launch, MHz"),
        "celsius": (TEXT, "hottest zone before and after a launch, °C"),
        "throttled": (TEXT, "signs that clocks were held back"),
        "started": (TEXT, "when, ISO 8601"),
        "verdict": (TEXT, "`valid`, `suspect` or `invalid`"),
        "reasons": (TEXT, "why the verdict is not `valid`"),
        "error": (TEXT, "why there is no number"),
    },
}


class TableError(ValueError):
    """A table that cannot be reported; the message names the table and the column."""


Columns = Mapping[str, Mapping[str, tuple[str, str]]]
"""Table -> column -> (NUMBER or TEXT, meaning)."""


def read(tables: Mapping[str, pd.DataFrame], columns: Columns = COLUMNS) -> dict[str, pd.DataFrame]:
    """All documented tables with exactly their columns: numbers as finite float64 or NaN, text as str ("" if absent).

    A missing table comes back empty and unknown columns are dropped. Raises TableError for an unknown table or a
    missing column.
    """
    unknown = sorted(set(tables) - set(columns))
    if unknown:
        raise TableError(f"unknown table {unknown[0]!r}: expected {', '.join(columns)}")
    return {name: _read(name, tables.get(name), columns[name]) for name in columns}


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as column -> value."""
    return [{str(column): value for column, value in row.items()} for row in frame.to_dict("records")]


def _read(name: str, frame: pd.DataFrame | None, columns: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    if frame is None or frame.empty:
        return pd.DataFrame({column: pd.Series(dtype=_dtype(kind)) for column, (kind, _) in columns.items()})
    for column in columns:
        if column not in frame.columns:
            found = ", ".join(map(str, frame.columns))
            raise TableError(f"table {name!r} has no column {column!r} ({columns[column][1]}); found: {found}")
    return pd.DataFrame(
        {
            column: [_number(x) if kind is NUMBER else text(x) for x in frame[column]]
            for column, (kind, _) in columns.items()
        }
    ).astype({column: _dtype(kind) for column, (kind, _) in columns.items()})


def _dtype(kind: str) -> str:
    return "float64" if kind is NUMBER else "object"


def _number(value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # anything may stand in a cell; what is no number is NaN
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def text(value: object) -> str:
    """Any value as text that can be written as UTF-8; "" for what is absent."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return ""
    # A lone surrogate cannot be written as UTF-8.
    return str(value).encode(errors="replace").decode()
