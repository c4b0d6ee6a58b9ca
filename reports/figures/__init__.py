"""FIGURES: every figure of the report, by section."""

from collections.abc import Mapping

from reports.figures import allocation, energy, kernels, latency, pareto, prediction, roofline, sessions, sustained
from reports.figures.base import Chart

FIGURES: Mapping[str, Mapping[str, Chart]] = {
    "latency": {
        "decode": Chart(
            "Decode speed",
            "One token at a time: reading the weights is the limit. Bars are medians, whiskers 95 % intervals.",
            latency.decode,
            needs={"models": ("decode_tps",)},
        ),
        "prefill": Chart(
            "Prefill speed",
            "Many tokens at once: arithmetic is the limit.",
            latency.prefill,
            needs={"models": ("prefill_tps",)},
        ),
    },
    "sustained": {
        "sustained": Chart(
            "Decoding over time",
            "One launch a model, without a break. Each point is the median of passes that follow each other; the whole"
            " launch makes 240 points at most. There is one such launch, so there is no interval.",
            sustained.decode,
            needs={"passes": ("at_s", "ms")},
            also=("sustained", "models"),
            wide=True,
        ),
    },
    "energy": {
        "energy": Chart(
            "Energy per decoded token",
            "Thick bars: as measured (gross). Thin bars: without what the idle device takes (net). Whiskers: 95 %"
            " intervals over launches.",
            energy.decode,
            needs={"energy": ("value",)},
            also=("models",),
            wide=True,
        ),
    },
    "pareto": {
        "pareto": Chart(
            "Measured models and predicted frontier",
            "Lower left is better. Coloured marks: measured on the device. Grey circles and the dotted line: predicted"
            " from the cost and error tables, which are fitted to models measured on the device.",
            pareto.accuracy_latency,
            needs={"models": ("decode_ms", "kl_mean")},
            also=("pareto",),
            wide=True,
        ),
    },
    "allocation": {
        "bits": Chart(
            "Bits per layer",
            "The scheme that the allocation chose for every linear layer; darker or brighter means more bits.",
            allocation.bits,
            needs={"layers": ("block", "bits_per_weight")},
        ),
        "sensitivity": Chart(
            "Sensitivity per layer",
            "KL divergence when that layer alone is stored in the coarsest scheme tried.",
            allocation.sensitivity,
            needs={"layers": ("block",), "sensitivity": ("kl",)},
        ),
        "spread": Chart(
            "What each scheme costs",
            "Every mark is one layer stored in one scheme while all others stay as they are.",
            allocation.spread,
            needs={"sensitivity": ("kl",)},
            also=("layers",),
            wide=True,
        ),
    },
    "prediction": {
        "predicted-decode": Chart(
            "Decode time",
            "Dashed: measured = predicted. Band: ±5 %. Whiskers: 95 % intervals.",
            prediction.decode,
            needs={"models": ("predicted_decode_ms", "decode_ms")},
        ),
        "predicted-prefill": Chart(
            "Prefill time",
            "The same for a whole prompt.",
            prediction.prefill,
            needs={"models": ("predicted_prefill_ms", "prefill_ms")},
        ),
    },
    "kernels": {
        "roofline": Chart(
            "Roofline",
            "Each product under what the device does at best, measured in the same run. Slanted lines: reading memory"
            " and caches (dashed: in pages of the other size). Level lines: arithmetic, by instruction set. Reading is"
            " limited by the smallest level that holds the whole model.",
            roofline.roofline,
            needs={"kernels": ("n", "k", "m", "gops", "gbps"), "limits": ("value",)},
            wide=True,
        ),
        "kernel-latency": Chart(
            "Time per call",
            "One panel per number of tokens M; whiskers are 95 % intervals over launches.",
            kernels.latency,
            needs={"kernels": ("n", "k", "m", "latency_us")},
            wide=True,
        ),
        "kernel-bandwidth": Chart(
            "Weight bandwidth",
            "Bytes of stored weights read per second at the fewest tokens. Hatched: finer groups of weights.",
            kernels.bandwidth,
            needs={"kernels": ("n", "k", "m", "gbps")},
            wide=True,
        ),
        "kernel-compute": Chart(
            "Throughput",
            "Multiplications and additions per second at the most tokens.",
            kernels.compute,
            needs={"kernels": ("n", "k", "m", "gops")},
            wide=True,
        ),
    },
    "sessions": {
        "sessions": Chart(
            "Sessions, step by step",
            "A bar a session. Thick: steps around the launches, coloured by what became of them; what they said shows"
            " on hover. Thin: the launches.",
            sessions.timeline,
            needs={"sessions": ("seconds",)},
            wide=True,
        ),
    },
}
