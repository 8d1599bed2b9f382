"""UniPC of order 2 for rectified flows: the solver of models that were not distilled.

Zhao et al., "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion
Models", 2023: the data-prediction form with B(h) = e^h - 1 ("bh2"). Between two noise levels it
extrapolates the clean latents that the model saw at the last two, and when the model has seen the
next level, it corrects the step that led there, which costs no further run of the model. Its first
and its last step are of order 1. diffusers' UniPCMultistepScheduler with flow_prediction,
predict_x0 and lower_order_final does the same, with coefficients in single precision.

    λ(σ) = log((1 - σ) / σ)     h = λ' - λ     B = e^-h - 1     D = (m_-1 - m) / r
    base        σ'/σ x - (1 - σ') B m                           m: clean latents, seen at σ
    predictor   base - (1 - σ') B D/2                           m_-1: seen at the level before,
    corrector   base - (1 - σ') B (ρ D + ρ' (m' - m))           λ + r h;  m': seen at σ'
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from animatic.schedules import NEARLY_ONE

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Latents = npt.NDArray[np.float32]
    Exact = npt.NDArray[np.float64]

__all__ = ["UniPC"]


class UniPC:
    """The way of one block: what the model saw at the last two levels, and where the step began.

    sigmas: descending, in (0, 1], without the final 0; only the first may lie above NEARLY_ONE,
        from which it is held, as λ(1) would be infinite and nothing could be extrapolated from it.
    """

    def __init__(self, sigmas: tuple[float, ...]) -> None:
        self._sigmas = (min(sigmas[0], NEARLY_ONE), *sigmas[1:], 0.0)
        self._step = 0
        self._seen: list[Exact] = []
        self._came_from: Exact | None = None

    def step(
        self,
        x: Latents,
        velocity: Latents,
        fresh: Callable[[], Latents],  # noqa: ARG002, this rule draws none
    ) -> Latents:
        """Correct the last step by what the model saw at its end, and take the next."""
        sigma, following = self._sigmas[self._step : self._step + 2]
        start = x.astype(np.float64)
        clean = start - sigma * velocity.astype(np.float64)
        if not following:
            return clean.astype(np.float32)
        if self._came_from is not None:
            start = self._corrected(self._came_from, clean)
        self._seen = [clean, *self._seen[:1]]
        self._came_from = start
        self._step += 1
        return self._predicted(start).astype(np.float32)

    def _predicted(self, start: Exact) -> Exact:
        sigma, following = self._sigmas[self._step - 1 : self._step + 1]
        clean, *before = self._seen
        grown = _growth(sigma, following)
        reached = following / sigma * start - (1 - following) * grown * clean
        if before:
            ratio = _log_ratio(sigma, self._sigmas[self._step - 2]) / _log_ratio(sigma, following)
            reached -= (1 - following) * grown * 0.5 * (before[0] - clean) / ratio
        return reached

    def _corrected(self, start: Exact, now: Exact) -> Exact:
        sigma, following = self._sigmas[self._step - 1 : self._step + 1]
        clean, *before = self._seen
        grown = _growth(sigma, following)
        change = 0.5 * (now - clean)
        if before:
            h = _log_ratio(sigma, following)
            ratio = _log_ratio(sigma, self._sigmas[self._step - 2]) / h
            # ρ + ρ' = b1 and r ρ + ρ' = b2: exact for what changes linearly, and quadratically.
            first = grown / -h - 1
            b1, b2 = first / grown, (first / -h - 0.5) * 2 / grown
            rho = (b1 - b2) / (1 - ratio)
            change = rho * (before[0] - clean) / ratio + (b1 - rho) * (now - clean)
        return following / sigma * start - (1 - following) * grown * (clean + change)


def _log_ratio(sigma: float, other: float) -> float:
    """How far it is from one noise level to another: λ(other) - λ(sigma)."""
    return math.log((1 - other) / other) - math.log((1 - sigma) / sigma)


def _growth(sigma: float, following: float) -> float:
    """B = e^-h - 1 of the step from one level to the next."""
    return math.expm1(-_log_ratio(sigma, following))
