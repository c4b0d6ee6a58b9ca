"""A made-up run of a small model (4 blocks of 7 linears), and a real browser to look at its report with."""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

SHAPES = {
    "q_proj": (256, 256),
    "k_proj": (128, 256),
    "v_proj": (128, 256),
    "o_proj": (256, 256),
    "gate_proj": (768, 256),
    "up_proj": (768, 256),
    "down_proj": (256, 768),
}
BITS = {"fp16": 16.0, "w8a8": 8.06, "w4a8g128": 4.125, "w3a8g128": 3.125, "w2a8g64": 2.25}
KL = {"w8a8": 4e-5, "w4a8g128": 4e-3, "w3a8g128": 2e-2, "w2a8g64": 0.12}
JOULES = [0.0064, 0.0037, 0.0027, 0.0029, 0.0023, np.nan]
LAYERS = [
    (f"model.layers.{block}.{'self_attn' if kind[0] in 'qkvo' else 'mlp'}.{kind}", block, kind)
    for block in range(4)
    for kind in SHAPES
]


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _models() -> pd.DataFrame:
    rows = [
        # label, kind, bits, ppl, kl, same_top, prefill, decode
        ("fp16", "baseline", 16.0, 28.41, 0.0, 1.0, 4210.0, 812.0),
        ("w8a8", "uniform", 8.06, 28.46, 0.0011, 0.978, 9120.0, 1390.0),
        ("w4a8g128", "uniform", 4.125, 30.02, 0.058, 0.861, 7840.0, 1935.0),
        ("w3a8g128", "uniform", 3.125, 37.7, 0.29, 0.70, 6050.0, 1810.0),
        ("w2a8g64", "uniform", 2.25, 214.8, 2.1, 0.31, 6990.0, 2240.0),
        ("allocated", "allocated", 4.61, 28.97, 0.021, 0.917, 8420.0, 1878.0),
    ]
    columns = ["label", "kind", "bits_per_weight", "perplexity", "kl_mean", "same_top", "prefill_tps", "decode_tps"]
    frame = pd.DataFrame(rows, columns=columns)
    spread = np.array([0.006, 0.011, 0.008, 0.03, 0.009, 0.007])
    off = np.array([0.012, -0.021, 0.034, 0.081, -0.028, 0.017])
    for metric in ("prefill_tps", "decode_tps"):
        frame[f"{metric}_low"] = frame[metric] * (1 - spread)
        frame[f"{metric}_high"] = frame[metric] * (1 + 0.7 * spread)
    frame["decode_ms"] = 1e3 / frame["decode_tps"]
    frame["prefill_ms"] = 128e3 / frame["prefill_tps"]
    return frame.assign(
        recipe=["none", "rtn", "gptq", "gptq", "gptq", "gptq"],
        bytes=frame["bits_per_weight"] * 2_621_440 / 8 + 1_050_000,
        perplexity_low=frame["perplexity"] * 0.985,
        perplexity_high=frame["perplexity"] * 1.015,
        perplexity_kept=[math.nan] * 5 + [0.97 * frame["perplexity"].iloc[5]],
        kept_rate=[math.nan] * 5 + [0.9],
        kl_low=frame["kl_mean"] * 0.9,
        kl_high=frame["kl_mean"] * 1.12,
        first_prefill_ms=1.3 * frame["prefill_ms"],
        first_decode_ms=1.2 * frame["decode_ms"],
        predicted_decode_ms=frame["decode_ms"] / (1 + off),
        predicted_prefill_ms=frame["prefill_ms"] / (1 - off),
        decode_j=JOULES,
        decode_j_low=[0.97 * joules for joules in JOULES],
        decode_j_high=[1.02 * joules for joules in JOULES],
        decode_net_j=[0.4 * joules for joules in JOULES],
        decode_w=5.2,
        boundary=["ina3221: module, without the carrier board"] * 5 + [""],
        energy_verdict=["valid", "suspect: coarse_sensor", "valid", "valid", "valid", "invalid: not_known"],
        verdict=["valid", "valid", "valid", "suspect", "valid", "valid"],
        reasons=["", "", "", "clock dropped 6 % during launch 3", "", ""],
    )


def _kernels() -> pd.DataFrame:
    cost = {
        "fp16": (9.0, 14.0),
        "w8a8": (11.0, 46.0),
        "w4a8g128": (13.0, 38.0),
        "w3a8g128": (7.5, 29.0),
        "w2a8g64": (8.5, 34.0),
    }
    rows = []
    for scheme, (gbps, gops) in cost.items():
        for n, k in sorted(set(SHAPES.values())):
            for m in (1, 16, 128):
                us = max(n * k * BITS[scheme] / 8 / gbps, 2 * m * n * k / gops) / 1e3 + 0.4
                rows.append(
                    {
                        "scheme": scheme, "variant": "fp16_neon" if scheme == "fp16" else "a8_dotprod",
                        "n": n, "k": k, "m": m,
                        "latency_us": us, "low_us": us * 0.98, "high_us": us * 1.03, "launches": 5, "iterations": 200,
                        "gops": 2e-3 * m * n * k / us, "gbps": 1e-3 * n * k * BITS[scheme] / 8 / us,
                        "footprint_bytes": 2_621_440 * BITS[scheme] / 8,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def _limits() -> pd.DataFrame:
    rows = [
        # what, isa, loop, level, pages, set_bytes, huge_share, value
        ("read", "neon", "4 streams", "memory", "base", 64 << 20, 0.0, 14.2),
        ("read", "neon", "4 streams, prefetch 512", "memory", "huge", 64 << 20, 1.0, 15.9),
        ("read", "neon", "2 streams", "L3", "huge", 1 << 20, 1.0, 22.0),
        ("read", "neon", "1 stream", "L2", "huge", 1 << 18, 1.0, 41.0),
        ("read", "neon", "1 stream", "L1", "huge", 1 << 15, 1.0, 76.0),
        ("int8", "neon", "smull sadalp", "registers", "", 0, np.nan, 38.0),
        ("int8", "neon", "smlal", "registers", "", 0, np.nan, 76.0),
        ("int8", "dotprod", "sdot", "registers", "", 0, np.nan, 153.0),
        ("fp32", "neon", "fmla", "registers", "", 0, np.nan, 38.0),
    ]
    columns = ["what", "isa", "loop", "level", "pages", "set_bytes", "huge_share", "value"]
    return pd.DataFrame(rows, columns=columns).assign(threads=1, launches=3, pieces=120)


def _sensitivity() -> pd.DataFrame:
    random = np.random.default_rng(1)
    rows = []
    for layer, block, kind in LAYERS:
        weight = {"down_proj": 3.0, "v_proj": 2.0, "o_proj": 1.5}.get(kind, 0.6) * (2.0 if block in (0, 3) else 1.0)
        weight *= random.lognormal(0, 0.3)
        for scheme, kl in KL.items():
            rows.append({"layer": layer, "scheme": scheme, "kl": kl * weight / 28, "mse": kl * weight * 0.4})
    return pd.DataFrame(rows)


def _layers(sensitivity: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for layer, block, kind in LAYERS:
        own = sensitivity[sensitivity["layer"] == layer].set_index("scheme")["kl"]
        scheme = "w8a8" if own["w4a8g128"] > 3.5e-4 else "w4a8g128" if own["w2a8g64"] > 3e-3 else "w2a8g64"
        n, k = SHAPES[kind]
        rows.append(
            {
                "layer": layer, "block": block, "kind": kind, "scheme": scheme, "bits_per_weight": BITS[scheme],
                "kl": own[scheme], "decode_us": n * k * BITS[scheme] / 8 / 11e3 + 0.4,
                "bytes": n * k * BITS[scheme] / 8,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _pareto(models: pd.DataFrame) -> pd.DataFrame:
    ms = np.linspace(0.455, 0.74, 12)
    kl = np.exp(np.interp(ms, [0.455, 0.524, 0.6, 0.74], np.log([1.1, 0.0176, 0.0045, 0.0008])))
    frontier = pd.DataFrame(
        {
            "label": [f"point {i + 1}" for i in range(12)],
            "kind": "frontier",
            "predicted_decode_ms": ms,
            "predicted_kl": kl,
            "bytes": np.linspace(1.8e6, 3.7e6, 12),
        }
    )
    deployed = models[models["kind"] != "baseline"]
    points = deployed[["label", "kind", "predicted_decode_ms", "bytes"]].assign(predicted_kl=deployed["kl_mean"] * 0.84)
    return pd.concat([frontier, points], ignore_index=True)


def _energy(models: pd.DataFrame) -> pd.DataFrame:
    """Of two phases: the last model's spans were too short, but for a whole pass."""
    rows: list[dict[str, Any]] = []
    common = {"sensor": "ina3221", "boundary": "module, without the carrier board", "resolution_w": 0.04}
    why = "n/a: too few samples: 1 in the shortest span, expected 10 or more; measure longer"
    for label, joules in zip(models["label"], JOULES, strict=True):
        reasons = "coarse_sensor" if label == "w8a8" else ""
        for phase, share in (("prefill", 0.3), ("decode", 1.0)):
            gross, lacking = joules * share, bool(np.isnan(joules))
            for metric, unit, value in (("energy", "J/token", gross), ("net_energy", "J/token", 0.4 * gross)):
                rows.append(
                    {
                        "label": label, "phase": phase, "metric": metric, "unit": unit,
                        "value": np.nan if lacking else value, "low": 0.97 * value, "high": 1.02 * value,
                        "uncertainty": 0.02 * value, "launches": 0 if lacking else 5, "samples": 0 if lacking else 1200,
                        "idle_w": 3.1, "notes": "",
                        "verdict": "invalid" if lacking else "suspect" if reasons else "valid",
                        "reasons": "not_known" if lacking else reasons, "error": why if lacking else "", **common,
                    }
                )  # fmt: skip
    whole = rows[-1] | {"phase": "both", "metric": "energy", "unit": "J/pass", "value": 0.41, "low": 0.4, "high": 0.42}
    rows.append(whole | {"verdict": "valid", "reasons": "", "error": "", "launches": 5, "samples": 900})
    return pd.DataFrame(rows)


def _sustained(models: pd.DataFrame) -> pd.DataFrame:
    """Ten minutes of each model; w8a8 is held back after two."""
    rows = []
    for model in models.itertuples():
        for phase, ms in (("prefill", model.prefill_ms), ("decode", model.decode_ms)):
            slower = 1.5 if model.label == "w8a8" else 1.0
            rows.append(
                {
                    "label": model.label, "phase": phase, "first_ms": 1.2 * ms, "burst_ms": ms,
                    "sustained_ms": slower * ms, "ratio": 1 / slower,
                    "throttled_after_s": 118.0 if slower > 1 else np.nan, "kind": "slowdown" if slower > 1 else "flat",
                    "iterations": 9000, "seconds": 600.2, "verdict": "valid", "reasons": "",
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _passes(models: pd.DataFrame) -> pd.DataFrame:
    at = np.linspace(2.5, 600, 240)
    noise = np.random.default_rng(2).normal(1, 0.01, len(at))
    return pd.concat(
        pd.DataFrame(
            {
                "label": model.label, "phase": "decode", "at_s": at,
                "ms": model.decode_ms * noise * np.where((at > 118) & (model.label == "w8a8"), 1.5, 1.0),
            }
        )
        for model in models.itertuples()
    )  # fmt: skip


def _sessions() -> pd.DataFrame:
    """Two sessions; the board let nobody set its governor."""
    steps = [
        ("lease", 0.01, "done", {"fence": 1}), ("doctor", 0.2, "failed", {"failing": {"load": "4 on 2 cores"}}),
        ("tune", 0.04, "unavailable", {"reason": "not wanted"}),
        ("cool", 3.1, "done", {"celsius": 49.5, "reference_c": None}), ("golden_before", 1.1, "done", {"ns": 217617.0}),
        ("golden_after", 1.2, "done", {"ns": 219617.0}), ("restore", 0.01, "done", {}),
    ]  # fmt: skip
    rows = []
    for minute in (12, 15):
        seconds = 0.0
        for name, took, outcome, said in steps:
            seconds += took + (40.0 if name == "golden_after" else 0.0)
            ended = f"2026-05-04T10:{minute:02d}:{seconds:06.3f}+00:00"
            rows.append(
                {
                    "session": f"20260504-10{minute}00-ab", "step": name, "ended": ended, "seconds": took,
                    "outcome": outcome, "said": json.dumps(said),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _provenance(models: pd.DataFrame, kernels: pd.DataFrame) -> pd.DataFrame:
    subjects: list[tuple[str, str, str, dict[str, Any]]] = [
        ("mm", "latency", "ns", {"scheme": r.scheme, "n": r.n, "k": r.k, "m": r.m}) for r in kernels.itertuples()
    ]
    for label in models["label"]:
        subjects += [("llm", "decode", "ns", {"model": label, "phase": "decode", "tokens": 64})]
        subjects += [("accuracy", "logprob", "nats", {"model": label, "window": 256})]
    frame = pd.DataFrame(
        [
            {
                "job_key": _sha(f"{probe}{subject}"), "probe": probe, "metric": metric, "unit": unit,
                "subject": json.dumps(subject), "launches": 5, "iterations": 1000,
                "artifacts": json.dumps({"agent": _sha("agent"), "model": _sha(str(subject))}),
                "command": f"agent {probe} --launches 5", "agent_sha256": _sha("agent"),
                "epoch": "915b949b59ca", "sessions": "20260504-101200-ab", "tuned": "governor: performance",
                "cpus": "[0, 1]", "mhz": "2400 → 2400", "celsius": "48.1 → 51.2", "throttled": "", "reasons": "",
                "started": f"2026-05-04T10:{i // 60:02d}:{i % 60:02d}Z", "verdict": "valid", "error": "",
            }
            for i, (probe, metric, unit, subject) in enumerate(subjects)
        ]
    )  # fmt: skip
    frame.loc[7, ["launches", "iterations"]] = np.nan
    frame.loc[7, ["verdict", "error"]] = ["invalid", "the connection was lost after 3 attempts"]
    frame.loc[9, ["verdict", "reasons", "throttled"]] = ["suspect", "clock dropped 6 % during launch 3", "arm_capped"]
    return frame


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    """Every table of a report, freshly made: tests may change them."""
    models, kernels, sensitivity = _models(), _kernels(), _sensitivity()
    facts = {
        "cpu": "Cortex-A76", "cores": "4", "clock": "2.4 GHz, governor performance",
        "isa": "neon, dotprod, fp16", "last-level cache": "2.1 MB", "memory": "8.6 GB", "kernel": "6.12.25-v8+",
        "libc": "static musl", "temperature": "48 °C",
    }  # fmt: skip
    return {
        "run": pd.DataFrame(
            [
                {
                    "run_id": "20260504-1012-7f3a", "created": "2026-05-04T10:12:31Z", "device": "pi5-a",
                    "virtual": "", "model": "wren-3m", "recipe": "gptq",
                    "command": "bench --device pi5-a --recipe gptq --budget decode_ms=0.55",
                    "agent_sha256": _sha("agent"), "git_commit": _sha("commit")[:40], "bench_version": "0.1.0",
                }
            ]
        ),
        "device": pd.DataFrame({"fact": list(facts), "value": list(facts.values())}),
        "models": models,
        "kernels": kernels,
        "limits": _limits(),
        "layers": _layers(sensitivity),
        "sensitivity": sensitivity,
        "pareto": _pareto(models),
        "energy": _energy(models),
        "sustained": _sustained(models),
        "passes": _passes(models),
        "sessions": _sessions(),
        "provenance": _provenance(models, kernels),
    }  # fmt: skip


class Browser:
    """Headless Chromium with a window of chosen size and theme, and a record of what the page said and asked for."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver = driver
        self._page = folder / "page.html"

    def open(self, html: str, width: int = 1280, theme: str = "light") -> None:
        """Show a page (until its script says it is ready) in a window 900 pixels high."""
        self.show(html, width, theme)
        self.wait("return document.documentElement.dataset.ready")

    def show(self, html: str, width: int = 1280, theme: str = "light") -> None:
        """The same for a page without a script."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        self.console(), self.requests()
        self._page.write_text(html, encoding="utf-8")
        self.driver.get(self._page.as_uri())

    def wait(self, script: str) -> None:
        """Wait until a script returns something true."""
        end = time.monotonic() + 180
        while not self.run(script):
            assert time.monotonic() < end, f"not true after 180 s: {script}; console: {self.console()}"
            time.sleep(0.05)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def console(self) -> list[str]:
        """What the console said since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """What the page requested since the last call, without itself, its data, and the browser's own new-tab page."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if url != self._page.as_uri() and not url.startswith(("data:", "chrome:"))]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests; without one they fail and say what to install."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.fail("the report is tested in a real browser: apt-get install chromium chromium-driver")
    from selenium import webdriver

    folder = tmp_path_factory.mktemp("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    # No sandbox: containers run the tests as root. The other switches keep the browser itself off the network.
    for switch in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync",
                   "disable-dev-shm-usage", "disable-background-networking", "disable-component-update",
                   f"user-data-dir={folder / 'profile'}"):  # fmt: skip
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield Browser(driver, folder)
    driver.quit()
