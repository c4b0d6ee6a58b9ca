"""Synthetic: calibration text that the model writes itself, so that no data is needed.

As OHQ (Huang et al. 2023, arXiv:2309.01945) has it for language models: it distils images from batch norms, for which
text drawn from the model stands in.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from quantizers.blocks.base import Block, Work
from quantizers.calibrate import synthetic
from quantizers.sizes import Sizes


class Synthetic(Block):
    """count windows of text, no longer than the model's context; what was given to calibrate on is not looked at."""

    block: Literal["synthetic"] = "synthetic"
    window: Annotated[int, Field(ge=2)] = 128
    count: Annotated[int, Field(ge=1)] = 16
    temperature: Annotated[float, Field(gt=0)] = 1.0

    needs: ClassVar[frozenset[str]] = frozenset({"model"})
    writes_text: ClassVar[bool] = True

    def start(self, work: Work) -> None:
        window = min(self.window, Sizes.of(work.config).context)
        work.calibration = synthetic(work.model, window, self.count, work.seed, self.temperature)
