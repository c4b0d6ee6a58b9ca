"""Twin: a model that computes the same but has outlier channels, as large models do and small ones do not.

harder = twin(load(DEFAULT_MODEL))          # w8a8 round to nearest breaks, equalization repairs it

Some channels of every joint of a block (families.py) are produced `factor` times as large, and consumed by weights as
much smaller. Large models are like that by themselves (Dettmers et al. 2022, arXiv:2208.07339), which is what
equalization, rotation and outlier columns were invented for.
"""

import copy
import hashlib
from dataclasses import replace

import torch
from torch import Tensor

from quantizers.blocks.channels import channels_of
from quantizers.errors import ModelError
from quantizers.families import family_of
from quantizers.models import LoadedModel, blocks


def twin(loaded: LoadedModel, channels: int = 4, factor: int = 128, seed: int = 0) -> LoadedModel:
    """A copy with `channels` outliers at every joint, drawn by seed. Its fp32 logits are the model's to rounding.

    factor: a power of two, so that the scaled weights have the bits of the model's, in fp16 too where they are normal.
    """
    if factor < 2 or factor & (factor - 1):
        raise ModelError(f"the factor of outliers is {factor}: expected a power of two, such as 128")
    model = copy.deepcopy(loaded.model)
    generator = torch.Generator().manual_seed(seed)
    for block in blocks(model):
        for joint in family_of(model).joints:
            found = channels_of(block, joint, model.config)
            found.fold(1 / _factors(found.count, min(channels, found.count), factor, generator))
    words = f"outliers {channels} x {factor}, seed {seed}"
    digest = hashlib.sha256(f"{loaded.sha256} {words}".encode()).hexdigest()
    return replace(loaded, model=model, name=f"{loaded.name} ({words})", sha256=digest)


def _factors(count: int, outliers: int, factor: int, generator: torch.Generator) -> Tensor:
    factors = torch.ones(count)
    factors[torch.randperm(count, generator=generator)[:outliers]] = float(factor)
    return factors
