"""What can go wrong in quantizers.

QuantizerError
├── SchemeError             a word that is no scheme
├── PlanError               a plan that cannot be read, or names layers that the model lacks
├── RecipeError             no recipe of that name
├── FormatError             a model, token or reference file that breaks kernels/FORMAT.md
└── ModelError              a model that cannot be used
    ├── InvalidModelError       missing, incomplete or damaged
    └── UnsupportedModelError   sound, but the agent cannot run it
"""

import difflib
from collections.abc import Iterable


class QuantizerError(ValueError):
    """Message: what was expected, what was found, what to do next."""


class SchemeError(QuantizerError):
    """A word that is no scheme; the message says what one looks like."""


class PlanError(QuantizerError):
    """A plan that cannot be read or does not fit the model; the message names the entry."""


class RecipeError(QuantizerError):
    """No recipe of that name; the message lists the nearest."""


class FormatError(QuantizerError):
    """A file that breaks kernels/FORMAT.md; the message names the tensor or key."""


class ModelError(QuantizerError):
    """A model that cannot be used."""


class InvalidModelError(ModelError):
    """A model that is missing, incomplete or damaged."""


class UnsupportedModelError(ModelError):
    """A sound model that the agent cannot run."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The known words that a misspelt one may have meant, or all of them when none is near."""
    words = sorted(known)
    return ", ".join(difflib.get_close_matches(word, words, n=3, cutoff=0.5) or words[:12])
