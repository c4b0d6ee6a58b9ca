"""Sizes: what a config says of a model's shape, under the same names in every family.

sizes = Sizes.of(loaded.config)
sizes.heads // sizes.kv_heads       query heads that share a key-value head
"""

from dataclasses import dataclass
from typing import Any

UNNAMED_CONTEXT = 2048
"""Positions that BLOOM was trained for; not every config of it says so (`seq_length`), and ALiBi itself has no end."""


@dataclass(frozen=True)
class Sizes:
    """channels: of the hidden state, C. hidden: of the feed-forward network, F."""

    vocabulary: int
    context: int
    channels: int
    blocks: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int

    @classmethod
    def of(cls, config: Any) -> "Sizes":
        """Of a transformers config of a family that we know."""
        channels, heads = config.hidden_size, config.num_attention_heads
        return cls(
            vocabulary=config.vocab_size,
            context=_first(config, "max_position_embeddings", "seq_length") or UNNAMED_CONTEXT,
            channels=channels,
            blocks=config.num_hidden_layers,
            hidden=_first(config, "intermediate_size", "ffn_dim") or 4 * channels,
            heads=heads,
            kv_heads=_first(config, "num_key_value_heads") or heads,
            head_dim=_first(config, "head_dim") or channels // heads,
        )


def norm_epsilon(config: Any) -> float:
    """What norms add to the mean square; 1e-5 where a config does not say (OPT has torch's default)."""
    return float(_first(config, "rms_norm_eps", "layer_norm_epsilon") or 1e-5)


def _first(config: Any, *names: str) -> Any:
    return next((found for name in names if (found := getattr(config, name, None)) is not None), None)
