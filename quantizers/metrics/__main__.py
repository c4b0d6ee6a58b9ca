"""python -m quantizers.metrics [SCHEME ...]: correlations on the shipped model, 16 windows of 128 tokens."""

import sys

from quantizers.blocks.base import Work
from quantizers.calibrate import default_text, tokens_of, windows
from quantizers.families import family_of
from quantizers.metrics.correlation import correlations
from quantizers.models import DEFAULT_MODEL, load
from quantizers.plan import Plan
from quantizers.scheme import Scheme


def main(words: list[str]) -> None:
    loaded = load(DEFAULT_MODEL)
    text = windows(tokens_of(loaded, default_text("calibration")), window=128, count=16)
    for scheme in map(Scheme.parse, words or ["w3a8g128"]):
        work = Work(loaded.model, family_of(loaded.model), Plan(scheme), text)
        for name, rho in sorted(correlations(work, scheme).items(), key=lambda pair: -pair[1]):
            print(f"{scheme} {name:13} {rho:5.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
