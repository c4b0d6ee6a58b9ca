"""From operators to models: T_total = a + b * sum(T_op), fitted on deployments that were measured.

`a` is what the operator table does not see (attention, norms, the output head); `b` corrects what operators cost in
company (caches shared with other layers, threads that wait). Residuals are relative, as errors are judged in percent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Deployment:
    """One measured model: the sum of its operators' costs and the measured total, in one unit."""

    label: str
    operators: float
    measured: float


@dataclass(frozen=True)
class Fit:
    """Intercept, slope (never negative) and the relative error of the prediction for every deployment fitted."""

    a: float
    b: float
    residuals: tuple[tuple[str, float], ...]

    def predict(self, operators: float) -> float:
        return self.a + self.b * operators

    @property
    def worst(self) -> float:
        return max((abs(residual) for _, residual in self.residuals), default=0.0)


def fit(deployments: Sequence[Deployment]) -> Fit:
    """Least squares on relative errors with b >= 0; with one deployment b = 1 and only `a` is learnt.

    Raises ValueError without deployments or with a total that is not positive.
    """
    if not deployments or any(not d.measured > 0 for d in deployments):
        raise ValueError("a fit needs at least one deployment, each with a measured total above 0")
    a, b = _coefficients(deployments)
    residuals = tuple((d.label, (a + b * d.operators) / d.measured - 1.0) for d in deployments)
    return Fit(a, b, residuals)


def _coefficients(deployments: Sequence[Deployment]) -> tuple[float, float]:
    operators = np.array([d.operators for d in deployments])
    measured = np.array([d.measured for d in deployments])
    if np.ptp(operators) <= 1e-9 * max(abs(float(operators.max())), 1e-300):
        return float(np.mean(measured - operators)), 1.0
    design = np.stack([np.ones_like(operators), operators], axis=1) / measured[:, None]
    (a, b), *_ = np.linalg.lstsq(design, np.ones_like(measured), rcond=None)
    if b >= 0:
        return float(a), float(b)
    weights = 1.0 / measured**2
    return float(np.sum(weights * measured) / np.sum(weights)), 0.0
