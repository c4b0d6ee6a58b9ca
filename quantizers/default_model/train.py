"""Trains the shipped model: corpus -> tokenizer -> LLaMA-architecture language model -> Hugging Face folder in fp16.

    python -m quantizers.default_model.train --corpus corpus --work work --out model --steps 3600

Progress goes to `work/loss.csv`; `work/checkpoint.pt` lets an interrupted run go on with the same command. The
learning rate is warmup-stable-decay (Hu et al. 2024, MiniCPM), so a resumed run may ask for another number of steps as
long as the decay has not begun. Hidden matrices are trained with Muon (Jordan et al. 2024), the rest with AdamW.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from quantizers.default_model.tokens import draw_batch, token_streams


@dataclass(frozen=True)
class Recipe:
    """What defines a training run. Lengths in tokens, rates per step; the defaults made the shipped weights."""

    vocabulary: int = 2048
    hidden: int = 256
    intermediate: int = 512
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    window: int = 256
    batch: int = 32  # windows per step
    steps: int = 3600
    warmup: int = 100
    decay: float = 0.25  # last share of the steps, learning rate linearly to zero
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    clip: float = 1.0
    seed: int = 1


@dataclass
class State:
    """What a checkpoint holds: the network in fp32, its optimizers, the updates done."""

    model: LlamaForCausalLM
    optimizers: list[torch.optim.Optimizer]
    step: int = 0

    def save(self, path: Path) -> None:
        """Replaces an older checkpoint in one move."""
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        part = path.with_suffix(".part")
        torch.save({"step": self.step, "model": self.model.state_dict(), "optimizers": optimizers}, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Restores a checkpoint of the same recipe."""
        saved = torch.load(path, weights_only=True)
        self.step = int(saved["step"])
        self.model.load_state_dict(saved["model"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)


def new_model(recipe: Recipe) -> LlamaForCausalLM:
    """The untrained network in fp32, weights drawn from the recipe's seed."""
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=recipe.vocabulary,
            hidden_size=recipe.hidden,
            intermediate_size=recipe.intermediate,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.kv_heads,
            max_position_embeddings=2 * recipe.window,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            attn_implementation="eager",  # 20 % faster than the fused CPU attention at 256 tokens
        )
    )


def new_state(recipe: Recipe) -> State:
    """Muon for the matrices inside the layers, AdamW without weight decay for the tied embedding and the norms."""
    model = new_model(recipe).train()
    hidden = [p for name, p in model.named_parameters() if "layers" in name and p.ndim == 2]
    others = [p for name, p in model.named_parameters() if "layers" not in name or p.ndim != 2]
    rate = recipe.learning_rate
    muon = torch.optim.Muon(hidden, lr=rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
    return State(model, [muon, torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0)])


def learning_rate(step: int, recipe: Recipe) -> float:
    """Warmup-stable-decay: linear up, constant, linear down to zero over the last `decay` share of the steps."""
    remaining = (recipe.steps - step) / max(1.0, recipe.decay * recipe.steps)
    return recipe.learning_rate * min(1.0, (step + 1) / recipe.warmup, remaining)


def train_step(state: State, network: Callable[..., Any], tokens: torch.Tensor, recipe: Recipe) -> float:
    """One update on windows [batch, window]; returns the mean cross-entropy in nats per token.

    `network` is the model or its compiled form. Matrix products run in bfloat16, weights and updates are fp32.
    """
    with torch.autocast("cpu", torch.bfloat16):
        loss = network(input_ids=tokens, labels=tokens, use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip)
    for optimizer in state.optimizers:
        optimizer.param_groups[0]["lr"] = learning_rate(state.step, recipe)
        optimizer.step()
        optimizer.zero_grad()
    state.step += 1
    return float(loss.detach())


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes the Hugging Face folder: fp16 safetensors, configuration, tokenizer."""
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(out)
    tokenizer.save_pretrained(out)


def resume(state: State, work: Path) -> None:
    """Goes on from the checkpoint in `work`, if any; log lines of updates that are done again are dropped."""
    log = work / "loss.csv"
    if (work / "checkpoint.pt").exists():
        state.load(work / "checkpoint.pt")
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else []
    log.write_text("".join(line for line in lines if int(line.split(",")[0]) <= state.step), encoding="utf-8")


def train(corpus: Path, work: Path, out: Path, recipe: Recipe, compiled: bool = False, every: int = 20) -> None:
    """Trains to `recipe.steps` updates and writes the model folder `out`.

    Every `every` updates a line `step, loss in nats/token, learning rate, tokens/s` is added to `work/loss.csv`;
    every fifth time checkpoint and model are written.
    """
    work.mkdir(parents=True, exist_ok=True)
    tokenizer, streams = token_streams(corpus, work, recipe.vocabulary)
    state = new_state(recipe)
    resume(state, work)
    network = torch.compile(state.model) if compiled else state.model
    while state.step < recipe.steps:
        begin, losses = time.monotonic(), []
        for _ in range(min(every, recipe.steps - state.step)):
            tokens = draw_batch(streams, recipe.batch, recipe.window, (recipe.seed, state.step))
            losses.append(train_step(state, network, tokens, recipe))
        mean = sum(losses) / len(losses)
        speed = len(losses) * recipe.batch * recipe.window / (time.monotonic() - begin)
        with (work / "loss.csv").open("a", newline="", encoding="utf-8") as log:
            rate = learning_rate(state.step - 1, recipe)
            csv.writer(log).writerow([state.step, f"{mean:.4f}", f"{rate:.6f}", f"{speed:.0f}"])
        print(f"step {state.step}/{recipe.steps}  loss {mean:.4f} nats/token  {speed:.0f} tokens/s", flush=True)
        if state.step % (5 * every) == 0 or state.step == recipe.steps:
            state.save(work / "checkpoint.pt")
            save_model(state.model, tokenizer, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder that corpus.py wrote")
    parser.add_argument("--work", type=Path, required=True, help="folder for tokens, checkpoint and loss.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained model")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="1.6 times faster, needs a C++ compiler")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = Recipe(steps=arguments.steps)
    train(arguments.corpus, arguments.work, arguments.out, recipe, arguments.compile)


if __name__ == "__main__":
    main()
