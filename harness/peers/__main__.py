"""One launch of a peer: `python -m harness.peers onnxruntime --case 4:4096x4096:1 --cpus 0`.

Prints lines as the agent's `mm` does (kernels/PROTOCOL.md), of the type `peer`, one for every kernel of every case. A
case is BITS:NxK:M; all kernels of the peer that store so many bits are timed.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.peers import PEERS, Kernel, Peer, lines
from harness.peers.base import Matrix, Weights
from harness.peers.timing import Effort, Timed, time_all

ROWS = 64
"""Random ones, which weights repeat: a multiple of what any peer interleaves."""
MAX_COPIES = 256
"""Each may be a session with threads, buffers and a compiled graph."""
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
UNKNOWN_CACHE = 16 << 20
"""Assumed where the kernel does not tell the last-level cache, as by the agent."""


@dataclass(frozen=True)
class Case:
    bits: int
    n: int
    k: int
    m: int

    @classmethod
    def parse(cls, word: str) -> "Case":
        """From BITS:NxK:M; ValueError."""
        bits, shape, m = word.split(":")
        n, k = shape.split("x")
        return cls(int(bits), int(n), int(k), int(m))


def main(words: Sequence[str]) -> int:
    asked = _arguments().parse_args(words)
    # Thread i of the agent stays on the i-th CPU; those of a peer choose among as many.
    lines.settle(asked.cpus[: asked.threads])
    peer = PEERS[asked.peer]
    if missing := peer.missing():
        lines.hello("peer", "")
        lines.say("error", code="unsupported", message=f"{asked.peer}: {missing}")
        return 5
    lines.hello("peer", f"{asked.peer} {peer.version()}")
    peer.start(asked.threads)
    _time(peer, asked)
    lines.done()
    return 0


def copies(weight_bytes: int, footprint: int) -> int:
    """How often weights lie in memory so that each is read when at least `footprint` others were: 1 if that is 0.

    No more than MAX_COPIES: small weights stay in the caches, to the advantage of the peer.
    """
    return min(-(-footprint // weight_bytes) + 1, MAX_COPIES) if footprint else 1


def last_level_cache(caches: Path = CACHES) -> int:
    """Bytes of the largest cache of a CPU."""
    sizes = (path.read_text().strip() for path in caches.glob("index*/size"))
    return max((int(size.removesuffix("K")) << 10 for size in sizes), default=UNKNOWN_CACHE)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.peers")
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--case", type=Case.parse, action="append", required=True, metavar="BITS:NxK:M")
    parser.add_argument("--warm", action="store_true", help="one copy of the weights; else twice the last-level cache")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--min-ns", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpus", type=lambda text: [int(one) for one in text.split(",")], default=[])
    return parser


def _time(peer: Peer, asked: argparse.Namespace) -> None:
    random = np.random.default_rng(asked.seed)
    footprint = 0 if asked.warm else 2 * last_level_cache()
    wanted = [
        (kernel, case) for case in asked.case for kernel in peer.kernels if kernel.fits(case.bits, case.n, case.k)
    ]
    held: dict[tuple[Kernel, int, int], Weights] = {}
    products = {}
    for kernel, case in wanted:
        place = kernel, case.n, case.k
        if place not in held:
            held[place] = _load(peer, kernel, _random(random, ROWS, case.k), case.n, footprint)
        products[kernel, case] = held[place].times(_random(random, case.m, case.k))
    timed = time_all(products, Effort(asked.min_ns, asked.iterations, asked.warm), asked.seed)
    for (kernel, case), found in timed.items():
        weights = held[kernel, case.n, case.k]
        lines.say("peer", **_line(asked, kernel, case, weights, found))


def _load(peer: Peer, kernel: Kernel, rows: Matrix, n: int, footprint: int) -> Weights:
    """The least that a copy takes are its codes."""
    return peer.load(kernel, rows, n, copies(n * rows.shape[1] * kernel.bits // 8, footprint))


def _random(random: np.random.Generator, rows: int, columns: int) -> Matrix:
    return random.standard_normal((rows, columns), dtype=np.float32)


def _line(asked: argparse.Namespace, kernel: Kernel, case: Case, weights: Weights, timed: Timed) -> dict[str, Any]:
    return {
        "peer": asked.peer,
        "kernel": kernel.name,
        "bits": case.bits,
        "group": kernel.group,
        "n": case.n,
        "k": case.k,
        "m": case.m,
        "footprint_bytes": weights.bytes * weights.copies,
        "threads": asked.threads,
        "calls": timed.calls,
        "weight_bytes": weights.bytes,
        "begin_ns": timed.begin_ns,
        "end_ns": timed.end_ns,
        "ns": timed.ns,
    }


if __name__ == "__main__":
    lines.own_output()
    raise SystemExit(main(sys.argv[1:]))
