"""The file of one product: onnxruntime reads it, and computes what its definition says."""

import numpy as np
import onnxruntime
import pytest

from harness.onnx_product import BITS, BLOCKS, INPUT, OUTPUT, matmul_nbits

N, M = 24, 3
INT8_STEP = 1 / 127
"""Activations are rounded to int8 within onnxruntime."""


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("block", BLOCKS)
def test_onnxruntime_computes_the_product_of_the_dequantized_weights(bits: int, block: int) -> None:
    random, k = np.random.default_rng(bits * block), 2 * block
    codes = random.integers(0, 2**bits, (N, k))
    scales = random.uniform(0.01, 0.02, (N, 2)).astype(np.float32)
    x = random.uniform(-1, 1, (M, k)).astype(np.float32)

    per_byte = 8 // bits
    shifted = codes.reshape(N, 2, -1, per_byte) << (bits * np.arange(per_byte))
    file = matmul_nbits(shifted.sum(-1).astype(np.uint8), scales, bits, M)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (found,) = session.run([OUTPUT], {INPUT: x})

    weights = (codes - 2 ** (bits - 1)) * np.repeat(scales, block, axis=1)
    bound = INT8_STEP * np.abs(weights).sum(axis=1)
    assert found.shape == (M, N)
    assert (np.abs(found - x @ weights.T) <= bound).all()
