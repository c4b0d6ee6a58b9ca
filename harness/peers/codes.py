"""Codes: weights rounded to so many bits, one scale for so many of a row; symmetric, as quantizers/ does it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.peers.base import Matrix


@dataclass(frozen=True)
class Codes:
    """value = (code - 2^(bits-1)) * scale; codes are N x K, scales N x groups."""

    bits: int
    codes: NDArray[np.uint8]
    scales: Matrix

    @classmethod
    def of(cls, values: Matrix, bits: int, group: int) -> "Codes":
        """Rounded to nearest; `group` 0 is a whole row, and divides K otherwise."""
        n, k = values.shape
        grouped = values.reshape(n, -1, group or k)
        zero = 1 << (bits - 1)
        scales = np.abs(grouped).max(axis=2) / (zero - 1)
        codes = np.clip(np.rint(grouped / scales[:, :, None]), -zero, zero - 1) + zero
        return cls(bits, codes.astype(np.uint8).reshape(n, k), scales.astype(np.float32))

    @property
    def signed(self) -> NDArray[np.int8]:
        return (self.codes.astype(np.int16) - (1 << (self.bits - 1))).astype(np.int8)

    @property
    def values(self) -> Matrix:
        n, k = self.codes.shape
        grouped = self.signed.astype(np.float32).reshape(n, self.scales.shape[1], -1)
        found: Matrix = (grouped * self.scales[:, :, None]).reshape(n, k)
        return found

    def packed(self) -> NDArray[np.uint8]:
        """8 / bits codes a byte, the first lowest: N x (K * bits / 8)."""
        each = 8 // self.bits
        split = self.codes.reshape(len(self.codes), -1, each)
        found: NDArray[np.uint8] = np.bitwise_or.reduce(split << (np.arange(each, dtype=np.uint8) * self.bits), axis=2)
        return found
