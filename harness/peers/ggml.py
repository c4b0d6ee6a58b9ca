"""ggml by its C interface: products of quantized tensors in the buffer that llama.cpp would load them into.

Several products of few tokens make a graph, so that they share the start of its threads, as in a model.
"""

import ctypes
import itertools
import math
from collections.abc import Callable, Sequence
from ctypes import CDLL, POINTER, Structure, c_bool, c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.peers.base import Matrix, Product, Weights, repeated

F32 = 0
"""GGML_TYPE_F32."""
GRAPH_TOKENS = 8
"""A graph has so many products of one token; of many tokens one takes long enough by itself."""
ROOM = 1 << 26
"""Bytes for what describes tensors and graphs, of which no more are taken than are used: 400 a tensor."""
PROBE_ROOM = 1 << 14


class _InitParams(Structure):
    _fields_ = [("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool)]


class _TypeTraits(Structure):
    """The head of ggml_type_traits, up to what turns a row into floats."""

    _fields_ = [
        ("type_name", c_char_p),
        ("blck_size", c_int64),
        ("blck_size_interleave", c_int64),
        ("type_size", c_size_t),
        ("is_quantized", c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_int64)),
    ]


_P, _I, _L, _S = c_void_p, c_int, c_int64, c_size_t
FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ggml_init": (_P, (_InitParams,)),
    "ggml_free": (None, (_P,)),
    "ggml_new_tensor_2d": (_P, (_P, _I, _L, _L)),
    "ggml_mul_mat": (_P, (_P, _P, _P)),
    "ggml_new_graph_custom": (_P, (_P, _S, c_bool)),
    "ggml_build_forward_expand": (None, (_P, _P)),
    "ggml_quantize_chunk": (_S, (_I, POINTER(c_float), _P, _L, _L, _L, POINTER(c_float))),
    "ggml_row_size": (_S, (_I, _L)),
    "ggml_backend_cpu_init": (_P, ()),
    "ggml_backend_cpu_set_n_threads": (None, (_P, _I)),
    "ggml_backend_cpu_buffer_type": (_P, ()),
    "ggml_backend_buft_name": (c_char_p, (_P,)),
    "ggml_backend_buft_alloc_buffer": (_P, (_P, _S)),
    "ggml_backend_buffer_get_base": (_P, (_P,)),
    "ggml_backend_alloc_ctx_tensors_from_buft": (_P, (_P, _P)),
    "ggml_backend_tensor_alloc": (_I, (_P, _P, _P)),
    "ggml_backend_tensor_set": (None, (_P, _P, _S, _S)),
    "ggml_backend_tensor_get": (None, (_P, _P, _S, _S)),
    "ggml_backend_graph_compute": (_I, (_P, _P)),
}
"""What is called: result and arguments, as in ggml.h, ggml-backend.h, ggml-alloc.h and ggml-cpu.h."""
EXTRA_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ggml_get_type_traits": (POINTER(_TypeTraits), (_I,)),
    "ggml_backend_get_device": (_P, (_P,)),
    "ggml_backend_dev_backend_reg": (_P, (_P,)),
    "ggml_backend_reg_get_proc_address": (_P, (_P, c_char_p)),
    "ggml_backend_dev_supports_op": (c_bool, (_P, _P)),
}
"""What only newer ones have; without it there are no buffers that repack, and no values of a type."""
_EXTRA_BUFFERS = ctypes.CFUNCTYPE(POINTER(c_void_p), c_void_p)


class Ggml:
    """The library at these paths, in the order in which they depend on each other."""

    def __init__(self, paths: Sequence[Path]) -> None:
        libraries = [CDLL(str(path), mode=ctypes.RTLD_GLOBAL) for path in paths]
        found = ((name, _find(libraries, name, *kind)) for name, kind in (FUNCTIONS | EXTRA_FUNCTIONS).items())
        self._functions = {name: function for name, function in found if function is not None}
        if absent := FUNCTIONS.keys() - self._functions.keys():
            raise RuntimeError(f"expected a ggml in {', '.join(map(str, paths))}: it lacks {', '.join(sorted(absent))}")
        self.backend = self.call("ggml_backend_cpu_init")
        # Two for all: older ones have no more than 64.
        self._held, self.products = self.context(ROOM), self.context(ROOM)

    def call(self, name: str, *arguments: Any) -> Any:
        return self._functions[name](*arguments)

    def knows(self, name: str) -> bool:
        return name in self._functions

    def context(self, room: int) -> Any:
        """For tensors whose memory is elsewhere."""
        return self.call("ggml_init", _InitParams(room, None, True))

    def set_threads(self, threads: int) -> None:
        self.call("ggml_backend_cpu_set_n_threads", self.backend, threads)

    @cached_property
    def repacking(self) -> list[Any]:
        """Buffer types that keep weights in another order, best first."""
        if not self.knows("ggml_backend_reg_get_proc_address"):
            return []
        device = self.call("ggml_backend_get_device", self.backend)
        registry = self.call("ggml_backend_dev_backend_reg", device)
        address = self.call("ggml_backend_reg_get_proc_address", registry, b"ggml_backend_dev_get_extra_bufts")
        found = _EXTRA_BUFFERS(address)(device) if address else ()
        return [one for one in _until_null(found)]

    def quantize(self, kind: int, rows: Matrix) -> NDArray[np.uint8]:
        """Rows x bytes of a row. Rows that are stored interleaved stay so."""
        count, columns = rows.shape
        made = np.empty((count, self.call("ggml_row_size", kind, columns)), dtype=np.uint8)
        # Some types want to know which weights matter; all alike is a fair word.
        importance = np.ones(columns, dtype=np.float32)
        self.call("ggml_quantize_chunk", kind, _floats(rows), made.ctypes.data, 0, count, columns, _floats(importance))
        return made

    def load(self, kind: int, rows: Matrix, n: int, copies: int) -> Weights:
        """N x K weights of a type (GGML_TYPE_*), which repeat `rows`; N is a multiple of their count."""
        made = self.quantize(kind, rows)
        content, k = repeated(made, n), rows.shape[1]
        buffer_type = self._buffer_type(kind, n, k)
        tensors = self._tensors(kind, n, k, copies, buffer_type)
        for tensor in tensors:
            self.call("ggml_backend_tensor_set", tensor, content.ctypes.data, 0, content.nbytes)
        name = self.call("ggml_backend_buft_name", buffer_type).decode()
        return GgmlWeights(content.nbytes, self, tensors, Stored(kind, made, n, k, name))

    def values(self, kind: int, made: NDArray[np.uint8], columns: int) -> Matrix:
        """What quantized rows mean."""
        to_float = self.call("ggml_get_type_traits", kind).contents.to_float
        found = np.empty((len(made), columns), dtype=np.float32)
        to_float(made.ctypes.data, found.ctypes.data, found.size)
        return found

    def _buffer_type(self, kind: int, n: int, k: int) -> Any:
        """Asked as llama.cpp does when it loads a model: where a tensor would lie that can be multiplied there."""
        plain = self.call("ggml_backend_cpu_buffer_type")
        return next((one for one in self.repacking if self._supported(kind, n, k, one)), plain)

    def _tensors(self, kind: int, n: int, k: int, copies: int, buffer_type: Any) -> list[Any]:
        """Those that are in the context already have their memory."""
        tensors = [self.call("ggml_new_tensor_2d", self._held, kind, k, n) for _ in range(copies)]
        self.call("ggml_backend_alloc_ctx_tensors_from_buft", self._held, buffer_type)
        return tensors

    def _supported(self, kind: int, n: int, k: int, buffer_type: Any) -> bool:
        context = self.context(PROBE_ROOM)
        tensor = self.call("ggml_new_tensor_2d", context, kind, k, n)
        self.call("ggml_backend_alloc_ctx_tensors_from_buft", context, buffer_type)
        x = self.call("ggml_new_tensor_2d", context, F32, k, 1)
        product = self.call("ggml_mul_mat", context, tensor, x)
        device = self.call("ggml_backend_get_device", self.backend)
        found = bool(self.call("ggml_backend_dev_supports_op", device, product))
        self.call("ggml_free", context)
        return found


@dataclass(frozen=True)
class Stored:
    """Weights of a type: some rows, as quantized, which are repeated; `buffer` is where they lie."""

    kind: int
    made: NDArray[np.uint8]
    n: int
    k: int
    buffer: str


class GgmlWeights:
    def __init__(self, size: int, ggml: Ggml, tensors: list[Any], stored: Stored) -> None:
        self.bytes, self.stored = size, stored
        self._ggml, self._tensors = ggml, tensors
        self.copies = len(tensors)

    def values(self) -> Matrix | None:
        if not self._ggml.knows("ggml_get_type_traits"):
            return None
        values = self._ggml.values(self.stored.kind, self.stored.made, self.stored.k)
        return np.resize(values, (self.stored.n, self.stored.k))

    def times(self, x: Matrix) -> Product:
        return GgmlProduct(self._ggml, self._tensors, x, self.stored.n)


class GgmlProduct:
    """Graphs of independent products, all into the same memory, which take turns."""

    def __init__(self, ggml: Ggml, weights: list[Any], x: Matrix, n: int) -> None:
        self._ggml, self._shape, self._next = ggml, (len(x), n), 0
        self.per_call = max(GRAPH_TOKENS // len(x), 1)
        given = self._given(x)
        made = [self._products(turn, given) for turn in in_turns(weights, self.per_call)]
        self._y = made[-1][-1]
        self._place([one for turn in made for one in turn], 4 * len(x) * n)
        self._graphs = [self._graph(turn) for turn in made]

    def __call__(self) -> None:
        if self._ggml.call("ggml_backend_graph_compute", self._ggml.backend, self._graphs[self._next]):
            raise RuntimeError("ggml could not compute the graph")
        self._next = (self._next + 1) % len(self._graphs)

    def output(self) -> Matrix:
        found = np.empty(self._shape, dtype=np.float32)
        self._ggml.call("ggml_backend_tensor_get", self._y, found.ctypes.data, 0, found.nbytes)
        return found

    def _products(self, weights: Sequence[Any], given: Any) -> list[Any]:
        return [self._ggml.call("ggml_mul_mat", self._ggml.products, one, given) for one in weights]

    def _given(self, x: Matrix) -> Any:
        given = self._ggml.call("ggml_new_tensor_2d", self._ggml.products, F32, x.shape[1], len(x))
        self._place([given], x.nbytes)
        self._ggml.call("ggml_backend_tensor_set", given, np.ascontiguousarray(x).ctypes.data, 0, x.nbytes)
        return given

    def _place(self, tensors: Sequence[Any], size: int) -> None:
        """All at the same place."""
        buffer_type = self._ggml.call("ggml_backend_cpu_buffer_type")
        buffer = self._ggml.call("ggml_backend_buft_alloc_buffer", buffer_type, size)
        base = self._ggml.call("ggml_backend_buffer_get_base", buffer)
        for one in tensors:
            self._ggml.call("ggml_backend_tensor_alloc", buffer, one, base)

    def _graph(self, products: Sequence[Any]) -> Any:
        # Twice the products, since their inputs count as well.
        graph = self._ggml.call("ggml_new_graph_custom", self._ggml.products, 2 * len(products) + 8, False)
        for one in products:
            self._ggml.call("ggml_build_forward_expand", graph, one)
        return graph


def in_turns(copies: Sequence[Any], count: int) -> list[list[Any]]:
    """Groups of `count` that, one after the other and again and again, take each copy when all others were."""
    groups = len(copies) // math.gcd(len(copies), count)
    taken = list(itertools.islice(itertools.cycle(copies), groups * count))
    return [taken[i : i + count] for i in range(0, len(taken), count)]


def _find(libraries: Sequence[CDLL], name: str, result: Any, arguments: tuple[Any, ...]) -> Callable[..., Any] | None:
    for library in libraries:
        if hasattr(library, name):
            function: Callable[..., Any] = getattr(library, name)
            function.restype, function.argtypes = result, arguments  # type: ignore[attr-defined]
            return function
    return None


def _floats(array: Matrix) -> Any:
    return np.ascontiguousarray(array).ctypes.data_as(POINTER(c_float))


def _until_null(pointers: Any) -> list[Any]:
    found: list[Any] = []
    while pointers and pointers[len(found)]:
        found.append(pointers[len(found)])
    return found
