"""Claims about the package as a whole."""

import subprocess
import sys
from pathlib import Path

import pytest

import quantizers
from quantizers.recipes import RECIPES

README = Path(quantizers.__file__).parent / "README.md"


@pytest.mark.parametrize("module", ["quantizers", "quantizers.scheme", "quantizers.plan", "quantizers.errors"])
def test_words_and_errors_come_without_torch(module: str) -> None:
    program = f"import sys, {module}; assert not {{'torch', 'transformers', 'numpy'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_every_recipe_is_in_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in RECIPES)


def test_the_readme_example_runs(tmp_path: Path) -> None:
    example = README.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    assert example, "the README has a python example"
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.gguf").is_file()
