"""Peers: what other libraries take for the same products, on this machine. A peer runs in a process of its own.

Whole models are timed by llama.cpp alone (llamacpp_model.py). Out of scope: peers on other devices, where nothing is
installed.
"""

from harness.peers.base import Kernel, Peer
from harness.peers.ik_llama import IkLlama
from harness.peers.llamacpp import LlamaCpp
from harness.peers.onnxruntime import OnnxRuntime
from harness.peers.openvino import OpenVino
from harness.peers.torch import Torch

PEERS: dict[str, Peer] = {
    "onnxruntime": OnnxRuntime(),
    "torch": Torch(),
    "openvino": OpenVino(),
    "llamacpp": LlamaCpp(),
    "ik_llama": IkLlama(),
}
"""Name -> how it multiplies."""

__all__ = ["PEERS", "Kernel", "Peer"]
