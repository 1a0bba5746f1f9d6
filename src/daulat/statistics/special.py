"""Distribution functions, typed: scipy.special, imported when the first of them is needed.

`scipy.stats` has the same functions and takes three times as long to import. Not here: what the figures mean.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
_NODES = 200
_TAIL = 1e-15


@cache
def _scipy() -> ModuleType:
    return import_module("scipy.special")


@cache
def _legendre() -> tuple[FloatArray, FloatArray]:
    """Nodes and weights on [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return np.asarray(nodes, np.float64), np.asarray(weights, np.float64)


def normal_cdf(x: float) -> float:
    """P(Z <= x) of a standard normal Z."""
    return float(_scipy().ndtr(x))


def normal_quantile(p: float) -> float:
    """The x with P(Z <= x) = p; infinite at 0 and 1."""
    return float(_scipy().ndtri(p))


def t_cdf(x: float, freedom: float) -> float:
    """P(T <= x) of Student's t with `freedom` degrees of freedom (any real number > 0)."""
    return float(_scipy().stdtr(freedom, x))


def t_quantile(p: float, freedom: float) -> float:
    """The x with P(T <= x) = p of Student's t."""
    return float(_scipy().stdtrit(freedom, p))


def t_noncentral_cdf(x: float, freedom: float, shift: float) -> float:
    """P(T <= x) of the noncentral t with noncentrality `shift`; freedom >= 1.

    By its definition, T = (Z + shift) / R with R = sqrt(chi2 / freedom): the mean over R of P(Z <= x R -
    shift), by Gauss-Legendre. scipy's own `nctdtr` (1.17) gives NaN with one degree of freedom, and 0 far out
    in thousands.
    """
    scipy, half = _scipy(), freedom / 2
    low = float(np.sqrt(scipy.gammaincinv(half, _TAIL) / half))
    high = float(np.sqrt(scipy.gammainccinv(half, _TAIL) / half))
    nodes, weights = _legendre()
    roots = low + (high - low) * (nodes + 1) / 2
    logs = (freedom - 1) * np.log(roots) - half * roots**2 + half * np.log(half)
    density = 2 * np.exp(logs - scipy.gammaln(half))
    below = scipy.ndtr(x * roots - shift)
    return float(np.clip(weights @ (density * below) * (high - low) / 2, 0.0, 1.0))


def beta_quantile(p: float, a: float, b: float) -> float:
    """The x with P(X <= x) = p of Beta(a, b)."""
    return float(_scipy().betaincinv(a, b, p))


def binomial_cdf(counts: NDArray[np.int64], n: int, p: float) -> FloatArray:
    """P(X <= k) of Binomial(n, p) for each k of `counts` (0 <= k <= n)."""
    return np.asarray(_scipy().bdtr(counts.astype(np.float64), n, p), dtype=np.float64)
