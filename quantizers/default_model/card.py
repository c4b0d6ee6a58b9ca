"""Measures the shipped model for its card: perplexity, bits per byte, samples, loss curve.

    python -m quantizers.default_model.card --model model --loss work/loss.csv --text heldout.txt wikitext-2/test.txt

prints the figures as a Markdown table, then samples, and writes `loss.svg` into the model folder.
"""

from __future__ import annotations

import argparse
import csv
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

WIDTH, HEIGHT, MARGIN = 640, 280, 44
PROMPTS = ("And the king said unto", "A computer is", " The game was released in", "LIBERTY, n.")


@dataclass(frozen=True)
class Score:
    """How well a text is predicted: nats over the scored tokens, and the UTF-8 bytes that these tokens spell."""

    nats: float
    tokens: int
    bytes: int

    @property
    def perplexity(self) -> float:
        """Per token."""
        return math.exp(self.nats / self.tokens)

    @property
    def bits_per_byte(self) -> float:
        """Comparable across tokenizers, unlike perplexity."""
        return self.nats / math.log(2) / self.bytes


@torch.inference_mode()
def score(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, window: int = 256) -> Score:
    """Scores a text in windows that do not overlap: the first token of each is context, a short tail is dropped."""
    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"])
    rows = ids[: len(ids) // window * window].view(-1, window)
    nats = 0.0
    for batch in torch.split(rows, 16):
        logits = model(input_ids=batch, use_cache=False).logits[:, :-1].float()
        nats += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum"))
    scored = rows[:, 1:]
    return Score(nats, scored.numel(), sum(len(tokenizer.decode(row).encode()) for row in scored))


def sample(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, temperature: float) -> str:
    """The prompt and 60 tokens that follow it; greedy at temperature 0."""
    torch.manual_seed(0)
    inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    how = {"do_sample": True, "temperature": temperature, "top_p": 0.9} if temperature else {"do_sample": False}
    tokens = model.generate(**inputs, max_new_tokens=60, pad_token_id=0, **how)
    return str(tokenizer.decode(tokens[0], skip_special_tokens=True))


def loss_svg(loss: Path) -> str:
    """The loss curve of a `loss.csv` of train.py, as an SVG picture that reads on light and dark pages."""
    with loss.open(encoding="utf-8") as lines:
        points = [(int(row[0]), float(row[1])) for row in csv.reader(lines)]
    last, low, high = points[-1][0], math.floor(min(y for _, y in points)), math.ceil(max(y for _, y in points))

    def x(step: float) -> float:
        return MARGIN + step / last * (WIDTH - 2 * MARGIN)

    def y(nats: float) -> float:
        return HEIGHT - MARGIN - (nats - low) / (high - low) * (HEIGHT - 2 * MARGIN)

    line = " ".join(f"{x(step):.1f},{y(nats):.1f}" for step, nats in points)
    grid = "".join(
        f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y(n):.1f}" y2="{y(n):.1f}" stroke="#888" stroke-opacity=".3"/>'
        f'<text x="{MARGIN - 8}" y="{y(n) + 4:.1f}" text-anchor="end">{n}</text>'
        for n in range(low, high + 1)
    )
    ticks = "".join(
        f'<text x="{x(s):.1f}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{s:.0f}</text>'
        for s in (0, last / 4, last / 2, last * 3 / 4, last)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" fill="#888"><title>Training loss, nats per token, by step</title>{grid}{ticks}'
        f'<text x="{MARGIN}" y="20">training loss, nats per token</text>'
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 8}" text-anchor="end">step</text>'
        f'<polyline points="{line}" fill="none" stroke="#2a78d6" stroke-width="1.5"/></svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="texts to score")
    parser.add_argument("--loss", type=Path, help="loss.csv of the training run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    print("| text | tokens scored | perplexity | bits per byte |\n|---|---|---|---|")
    for path in arguments.text:
        result = score(model, tokenizer, path.read_text(encoding="utf-8"))
        print(f"| {path.name} | {result.tokens} | {result.perplexity:.2f} | {result.bits_per_byte:.3f} |")
    for temperature in (0.0, 0.8):
        for prompt in PROMPTS:
            print(f"\ntemperature {temperature}: {sample(model, tokenizer, prompt, temperature)!r}")
    if arguments.loss is not None:
        (arguments.model / "loss.svg").write_text(loss_svg(arguments.loss), encoding="utf-8")


if __name__ == "__main__":
    main()
