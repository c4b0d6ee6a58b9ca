"""A whole model by llama.cpp, in a process of its own.

python -m harness.peers.llamacpp_model quantize model-fp16.gguf q4_0.gguf --threads 2
python -m harness.peers.llamacpp_model time q4_0.gguf --prefill 128 --decode 64 --threads 1 --cpus 0

`quantize` reads our fp16 file, which differs from llama.cpp's own by having no tokenizer, and lets llama.cpp choose the
types: Q4_0 with an output of Q6_K. `time` is one launch; it does what `agent llm` does, and prints the same lines.
Everything that is not named here is llama.cpp's default: weights repacked, flash attention as it decides, a cache of
fp16.
"""

import argparse
import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.peers import lines
from harness.peers.llamacpp import LlamaCpp
from harness.peers.timing import now_ns

TOKENIZER = b"tokenizer.ggml.model", b"none"
"""What our files lack: llama.cpp insists on being told."""
SEED = 1


@dataclass
class Spans:
    """Begin and end of every pass of a phase; the first is not counted."""

    phase: str
    tokens: int
    spans: list[tuple[int, int]] = field(default_factory=list)

    def line(self) -> dict[str, Any]:
        (first_begin, first_end), *counted = self.spans
        return {
            "phase": self.phase,
            "tokens": self.tokens,
            "begin_ns": counted[0][0],
            "end_ns": counted[-1][1],
            "first_ns": first_end - first_begin,
            "ns": [end - begin for begin, end in counted],
        }


class LlamaModel:
    """A loaded model with room for so many positions; RuntimeError when llama.cpp refuses it."""

    def __init__(self, path: Path, prefill: int, decode: int, threads: int) -> None:
        import llama_cpp

        self._lib: Any = llama_cpp
        self._model = llama_cpp.llama_model_load_from_file(bytes(path), llama_cpp.llama_model_default_params())
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = prefill + decode
        params.n_batch = params.n_ubatch = prefill
        params.n_threads = params.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            raise RuntimeError(f"llama.cpp cannot start {path} with {prefill + decode} positions")
        self.vocabulary = int(llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model)))

    def forget(self) -> None:
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)

    def next(self, tokens: Sequence[int]) -> int:
        """The most probable token after these, which follow what came before."""
        array = (self._lib.llama_token * len(tokens))(*tokens)
        if status := self._lib.llama_decode(self._context, self._lib.llama_batch_get_one(array, len(tokens))):
            raise RuntimeError(f"llama_decode: status {status}")
        logits = self._lib.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(logits, shape=(self.vocabulary,)).argmax())


def main(words: Sequence[str]) -> int:
    asked = _arguments().parse_args(words)
    done: int = asked.do(asked)
    return done


def quantize(asked: argparse.Namespace) -> int:
    """Status 0, or 1 when llama.cpp could not: it says why on standard error."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, asked.threads
    # The array ends with an empty key.
    overrides = (llama_cpp.llama_model_kv_override * 2)()
    overrides[0].tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR
    overrides[0].key, overrides[0].value.val_str = TOKENIZER
    params.kv_overrides = ctypes.cast(overrides, type(params.kv_overrides))
    return 1 if llama_cpp.llama_model_quantize(bytes(asked.model), bytes(asked.out), params) else 0


def time(asked: argparse.Namespace) -> int:
    """Print the lines of `agent llm`."""
    lines.settle(asked.cpus[: asked.threads])
    peer = LlamaCpp()
    if missing := peer.missing():
        lines.hello("llm", "")
        lines.say("error", code="unsupported", message=f"llamacpp: {missing}")
        return 5
    lines.hello("llm", f"llamacpp {peer.version()}")
    model = LlamaModel(asked.model, asked.prefill, asked.decode, asked.threads)
    prompt = np.random.default_rng(SEED).integers(model.vocabulary, size=asked.prefill).tolist()
    prefills, decodes = Spans("prefill", asked.prefill), Spans("decode", asked.decode)
    for _ in range(asked.iterations + 1):
        _pass(model, prompt, prefills, decodes)
    for phase in (prefills, decodes):
        lines.say("llm", threads=asked.threads, **phase.line())
    lines.done()
    return 0


def _pass(model: LlamaModel, prompt: Sequence[int], prefills: Spans, decodes: Spans) -> None:
    """The choice of the first token belongs to the prefill."""
    model.forget()
    begin = now_ns()
    token = model.next(prompt)
    prefilled = now_ns()
    for _ in range(decodes.tokens):
        token = model.next([token])
    prefills.spans.append((begin, prefilled))
    decodes.spans.append((prefilled, now_ns()))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.peers.llamacpp_model")
    commands = parser.add_subparsers(required=True)
    quantizing, timing = commands.add_parser("quantize"), commands.add_parser("time")
    for command in (quantizing, timing):
        command.add_argument("model", type=Path)
        command.add_argument("--threads", type=int, default=1)
    quantizing.add_argument("out", type=Path)
    quantizing.set_defaults(do=quantize)
    for name in ("--prefill", "--decode", "--iterations"):
        timing.add_argument(name, type=int, required=True)
    timing.add_argument("--cpus", type=lambda text: [int(one) for one in text.split(",")], default=[])
    timing.set_defaults(do=time)
    return parser


if __name__ == "__main__":
    lines.own_output()
    raise SystemExit(main(sys.argv[1:]))
