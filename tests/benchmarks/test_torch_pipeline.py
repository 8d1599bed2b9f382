"""What the graphs are measured beside makes the same clip."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.torch_pipeline import torch_pipeline

from animatic import Pipeline, Shot
from animatic.store import open_bundle

SHOT = Shot("a red truck drives left through a desert at sunset", seed=3)


@pytest.mark.slow
def test_the_weights_in_torch_make_the_clip_of_the_graphs() -> None:
    with torch_pipeline(open_bundle(), "cpu", compiled=False) as beside:
        ours = beside.clip(SHOT).astype(int)
    with Pipeline.open(device="cpu") as pipeline:
        theirs = pipeline.clip(SHOT)
    assert ours.shape == theirs.shape
    assert theirs.std() > 10
    assert np.abs(ours - theirs).max() <= 2
    assert np.abs(ours - theirs).mean() < 0.01
