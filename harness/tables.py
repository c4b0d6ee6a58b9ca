"""Tables: a run as the reports want it (their columns: reports/tables.py), computed from the store alone."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness import endurance, records
from harness.consumption import consumption, is_result
from harness.costs import CostTable, Operator, phase_ms
from harness.evidence import energy_row, provenance_row, session_rows
from harness.health import is_golden
from harness.job import Job
from harness.measurement import POWER_METRICS, Measurement
from harness.peaks import limits_of
from harness.probes.latency import is_sustained
from harness.records import DeviceRecord, ModelRecord
from harness.stats.launches import Estimate, estimate
from harness.stats.windows import mean_over_windows, perplexity
from harness.store import Run, Store, StoredMeasurement
from harness.verdict import Verdict, judge
from quantizers.scheme import Scheme

if TYPE_CHECKING:
    from pandas import DataFrame

Row = dict[str, Any]
BESIDE = POWER_METRICS | {"first_latency"}
"""Metrics that say nothing about whether the times and scores of a model can be trusted."""
WORST = ("invalid", "suspect", "valid")


def device_names(store: Store, run_id: str) -> list[str]:
    """The devices that took part in a run."""
    return [record.name for record in records.devices_of(store.measurements(run_id=run_id, probe="facts"))]


def tables(store: Store, run: Run, device: str) -> dict[str, "DataFrame"]:
    """All tables of one device of a run."""
    from pandas import DataFrame

    view = View(store, run, device)
    rows = {
        "run": [view.run_row()],
        "device": view.fact_rows(),
        "models": view.model_rows(),
        "kernels": [_kernel_row(operator) for operator in view.costs.operators.values()],
        "limits": [asdict(limit) for limit in limits_of(view.measured)],
        "layers": view.layer_rows(),
        "sensitivity": [asdict(row) for row in view.sensitivity],
        "pareto": view.pareto_rows(),
        "energy": view.energy_rows(),
        "sustained": view.sustained_rows(),
        "passes": view.pass_rows(),
        "sessions": view.session_rows(store),
        "provenance": view.provenance_rows(),
    }
    return {name: DataFrame(found) for name, found in rows.items()}


class View:
    """What one device of a run answered, sorted for the tables."""

    def __init__(self, store: Store, run: Run, device: str) -> None:
        stored = store.measurements(run_id=run.run_id)
        self.run = run
        # The last one: a device may have come back with another kernel or governor.
        self.record = [record for record in records.devices_of(stored) if record.name == device][-1]
        own = [s for s in stored if _is_reported(s.job) and _is_of(s, self.record)]
        self.measured = [s for s in (*own, *consumption(own)) if is_result(s.measurement)]
        self.costs = CostTable.of(self.measured)
        self.sensitivity = records.sensitivity_of(stored)
        self.models = [model for model in records.models_of(stored) if model.device in (None, device)]
        predictions = [record for record in records.predictions_of(stored) if record.device == device]
        self.prediction = max(predictions, key=lambda record: record.session, default=None)
        self.shapes = {name: (shape[0], shape[1]) for name, shape in run.config.get("shapes", {}).items()}

    def run_row(self) -> Row:
        config = self.run.config
        return {
            "run_id": self.run.run_id,
            "created": self.run.created,
            "device": self.record.name,
            "virtual": self.record.facts.get("virtual") or "",
            "model": config.get("model", ""),
            "recipe": config.get("recipe", ""),
            "command": self.run.command,
            "agent_sha256": self.record.agent,
            "git_commit": self.run.git_commit or "",
            "bench_version": self.run.bench_version,
        }

    def fact_rows(self) -> list[Row]:
        return [{"fact": name, "value": _as_text(value)} for name, value in self.record.facts.items()]

    @property
    def last_round(self) -> int:
        return max((model.round for model in self.models), default=0)

    def label(self, model: ModelRecord) -> str:
        """The model allocated last is `allocated`, earlier ones have their round."""
        if not model.round:
            return model.label
        return model.kind if model.round == self.last_round else f"{model.kind}, round {model.round}"

    def of_model(self, model: ModelRecord) -> list[StoredMeasurement]:
        """Its scores, and its times in the last session: there all models were timed side by side.

        Without its long launch, which is not timed beside anything.
        """
        mine = [s for s in self.measured if s.job.artifacts.get("model") == model.sha256 and not is_sustained(s.job)]
        last = max((_session(s) for s in mine), default=0)
        return [s for s in mine if s.job.probe != "llm" or _session(s) == last]

    def model_rows(self) -> list[Row]:
        """Uniform models in the order of the suite, then what was allocated, round by round."""
        return [self._model_row(model) for model in sorted(self.models, key=lambda m: m.round)]

    def layer_rows(self) -> list[Row]:
        """The plan deployed last."""
        if not self.last_round:
            return []
        kl = {(row.layer, row.scheme): row.kl for row in self.sensitivity}
        last = next(model for model in self.models if model.round == self.last_round)
        return [self._layer_row(name, scheme, kl.get((name, scheme))) for name, scheme in last.schemes.items()]

    def energy_rows(self) -> list[Row]:
        """Every power metric of every model and phase, also those that cannot be had, with the reason."""
        found = [s for s in self.measured if s.measurement.metric in POWER_METRICS]
        return [energy_row(self.label_of(s.job), s.measurement) for s in found]

    def label_of(self, job: Job) -> str:
        """Of the model that a job is about; of several that are one file the last, which was allocated."""
        labels = {model.sha256: self.label(model) for model in self.models}
        return labels.get(job.artifacts.get("model", ""), "")

    def sustained_rows(self) -> list[Row]:
        """First, burst and sustained speed of every model that had a long launch, phase by phase."""
        wanted_s = float(self.run.config.get("suite", {}).get("sustained_s", 0))
        return [row for model in self.standing for row in self._sustained(model, wanted_s)]

    def pass_rows(self) -> list[Row]:
        """The decode passes of the long launches, thinned."""
        return [
            row
            for model in self.standing
            for passes, other in _phases(self._long(model))
            if passes.subject["phase"] == "decode"
            for row in endurance.thinned(self.label(model), passes, other)
        ]

    @property
    def standing(self) -> list[ModelRecord]:
        return [model for model in self.models if model.round in (0, self.last_round)]

    def provenance_rows(self) -> list[Row]:
        return [provenance_row(s, self.record.agent, self.label_of(s.job)) for s in self.measured]

    def session_rows(self, store: Store) -> list[Row]:
        mine = [session for session in store.sessions(self.run.run_id) if session.device == self.record.name]
        return [row for session in mine for row in session_rows(session)]

    def pareto_rows(self) -> list[Row]:
        """As predicted after the last session."""
        if self.prediction is None:
            return []
        found = self.prediction
        frontier = [_point(f"frontier {i}", "frontier", totals) for i, totals in enumerate(found.frontier, 1)]
        known = [model for model in self.models if "kl" in found.predicted.get(model.label, {})]
        return frontier + [_point(self.label(m), _kind(m), found.predicted[m.label]) for m in known]

    def _model_row(self, model: ModelRecord) -> Row:
        mine = self.of_model(model)
        predicted = self.prediction.predicted.get(model.label, {}) if self.prediction else {}
        verdict, reasons = _verdict(mine)
        row: Row = {
            "label": self.label(model),
            "kind": model.kind,
            "recipe": model.recipe if model.kind != "baseline" else "",
            "bits_per_weight": model.bits_per_weight,
            "bytes": model.bytes,
            "predicted_prefill_ms": predicted.get("prefill_ms"),
            "predicted_decode_ms": predicted.get("decode_ms"),
            "verdict": verdict,
            "reasons": reasons,
        }
        return row | _scores(mine) | _times(mine) | _energy(mine)

    def _long(self, model: ModelRecord) -> list[Measurement]:
        mine = [s for s in self.measured if s.job.artifacts.get("model") == model.sha256]
        return [s.measurement for s in mine if is_sustained(s.job)]

    def _sustained(self, model: ModelRecord, wanted_s: float) -> list[Row]:
        long, label = self._long(model), self.label(model)
        first = {
            s.measurement.subject["phase"]: s.measurement
            for s in self.of_model(model)
            if s.job.probe == "llm" and s.measurement.metric == "first_latency"
        }
        broken = [endurance.failed(label, measurement.error) for measurement in long if measurement.error]
        return broken + [
            endurance.row(label, passes, other, first.get(passes.subject["phase"]), wanted_s)
            for passes, other in _phases(long)
        ]

    def _layer_row(self, name: str, scheme: str, kl: float | None) -> Row:
        shape = self.shapes[name]
        _, _, block, kind = name.split(".", 3)
        known = self.costs.knows(scheme, [shape], [1])
        return {
            "layer": name,
            "block": int(block),
            "kind": kind.rpartition(".")[2],
            "scheme": scheme,
            "bits_per_weight": Scheme.parse(scheme).bits_per_weight(shape[1]),
            "kl": kl,
            "decode_us": self.costs.latency_us(scheme, shape, 1) if known else None,
            "bytes": self.costs.weight_bytes(scheme, shape) if known else None,
        }


def _phases(long: Sequence[Measurement]) -> list[tuple[Measurement, Sequence[float]]]:
    """The passes of each phase of a long launch, with the times of the phase that it took turns with."""
    found = [measurement for measurement in long if measurement.metric == "latency" and measurement.launches]
    return [
        (one, next((other.launches[0] for other in found if other is not one), ()))
        for one in sorted(found, key=lambda measurement: str(measurement.subject["phase"]))
    ]


def _is_reported(job: Job) -> bool:
    """Neither what the host noted nor a check of the device's health."""
    return job.probe not in records.KINDS and not is_golden(job)


def _is_of(stored: StoredMeasurement, record: DeviceRecord) -> bool:
    return dict(stored.job.device) == dict(record.identity)


def _scores(mine: Iterable[StoredMeasurement]) -> Row:
    row: Row = dict.fromkeys(
        (
            "perplexity",
            "perplexity_low",
            "perplexity_high",
            "kl_mean",
            "kl_low",
            "kl_high",
            "same_top",
            "perplexity_kept",
            "kept_rate",
        )
    )
    texts: dict[str, tuple[float, ...]] = {}
    for s in mine:
        if s.job.probe == "accuracy" and s.measurement.launches:
            row |= _score(s.measurement)
            texts[s.measurement.metric] = tuple(s.measurement.launches[0])
    return row | _kept(texts)


def _kept(texts: Mapping[str, Sequence[float]]) -> Row:
    """Of a model that drops tokens: the perplexity that is published of such, and what it is of."""
    if not {"logprob", "kept"} <= texts.keys() or not any(texts["kept"]):
        return {}
    chosen = [value for value, kept in zip(texts["logprob"], texts["kept"], strict=True) if kept]
    return {"perplexity_kept": math.exp(-sum(chosen) / len(chosen)), "kept_rate": len(chosen) / len(texts["kept"])}


def _score(measurement: Measurement) -> Row:
    values, rows = measurement.launches[0], measurement.subject["window"] - 1
    if measurement.metric == "logprob":
        return _interval("perplexity", "perplexity", perplexity(values, rows))
    if measurement.metric == "kl":
        return _interval("kl_mean", "kl", mean_over_windows(values, rows))
    if measurement.metric == "kept":
        return {}
    return {"same_top": mean_over_windows(values, rows).value}


def _times(mine: Iterable[StoredMeasurement]) -> Row:
    row: Row = {}
    for phase in ("prefill", "decode"):
        columns = (f"{phase}_ms", f"{phase}_tps", f"{phase}_tps_low", f"{phase}_tps_high", f"first_{phase}_ms")
        row |= dict.fromkeys(columns)
    for s in mine:
        if s.job.probe != "llm":
            continue
        if s.measurement.metric == "first_latency":
            row[f"first_{s.measurement.subject['phase']}_ms"] = phase_ms(s.measurement).value
        if s.measurement.metric == "latency":
            phase, tokens = s.measurement.subject["phase"], s.measurement.subject["tokens"]
            time = phase_ms(s.measurement)
            speed = time.per(tokens if phase == "prefill" else 1, 1e-3)
            row |= {f"{phase}_ms": time.value} | _interval(f"{phase}_tps", f"{phase}_tps", speed)
    return row


def _energy(mine: Iterable[StoredMeasurement]) -> Row:
    """Of decoding: joules a token as measured and without idle power, mean power, and where the sensor sits."""
    columns = ("decode_j", "decode_j_low", "decode_j_high", "decode_net_j", "decode_w", "boundary", "energy_verdict")
    row: Row = dict.fromkeys(columns)
    decode = [s.measurement for s in mine if s.measurement.subject.get("phase") == "decode"]
    powered = [measurement for measurement in decode if measurement.metric in POWER_METRICS]
    if powered:
        row["energy_verdict"] = ": ".join(filter(None, _worst([judge(measurement) for measurement in powered])))
    for measurement in powered:
        if not measurement.launches:
            continue
        if measurement.metric == "energy":
            row |= _interval("decode_j", "decode_j", estimate(measurement.launches))
            row["boundary"] = f"{measurement.context['sensor']}: {measurement.context['boundary']}"
        if measurement.metric in ("net_energy", "power"):
            column = "decode_net_j" if measurement.metric == "net_energy" else "decode_w"
            row[column] = estimate(measurement.launches).value
    return row


def _interval(column: str, stem: str, estimate: Estimate) -> Row:
    """The value, and its bounds where there is an interval."""
    bounds = (None, None) if estimate.interval == "none" else (estimate.low, estimate.high)
    return {column: estimate.value, f"{stem}_low": bounds[0], f"{stem}_high": bounds[1]}


def _verdict(mine: Iterable[StoredMeasurement]) -> tuple[str, str]:
    """The worst verdict of a model's measurements, and all reasons."""
    verdicts = [judge(s.measurement) for s in mine if s.measurement.metric not in BESIDE]
    return _worst(verdicts) if verdicts else ("invalid", "not measured")


def _worst(verdicts: Sequence[Verdict]) -> tuple[str, str]:
    reasons = sorted({reason for verdict in verdicts for reason in verdict.reasons})
    return min((verdict.status for verdict in verdicts), key=WORST.index), ", ".join(reasons)


def _kernel_row(operator: Operator) -> Row:
    time, ns = operator.latency_us, operator.latency_us.value * 1e3
    return {
        "scheme": operator.scheme,
        "variant": operator.variant,
        "n": operator.n,
        "k": operator.k,
        "m": operator.m,
        "latency_us": time.value,
        "low_us": time.low,
        "high_us": time.high,
        "launches": time.launches,
        "iterations": time.iterations // time.launches,
        "gops": 2 * operator.n * operator.k * operator.m / ns,
        "gbps": operator.weight_bytes / ns,
        "footprint_bytes": operator.footprint_bytes,
    }


def _point(label: str, kind: str, totals: Mapping[str, float]) -> Row:
    return {
        "label": label,
        "kind": kind,
        "predicted_decode_ms": totals["decode_ms"],
        "predicted_kl": totals["kl"],
        "bytes": totals["bytes"],
    }


def _kind(model: ModelRecord) -> str:
    return "allocated" if model.round else "uniform"


def _session(stored: StoredMeasurement) -> int:
    return int(stored.job.params.get("session", 0))


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
