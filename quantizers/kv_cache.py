"""The device's cache of keys and values: rounded to fp16, as the agent keeps them (`--kv fp16`)."""

from torch import Tensor


def kept(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Keys (after rotation) and values [B, kv heads, T, D] as they are read back, fp32."""
    return key.half().float(), value.half().float()
