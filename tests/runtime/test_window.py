"""Windows for every geometry, length and kind of shot; test_given_clips has the pipeline's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from animatic.window import MAX_STILLS, Layout, encoded_lengths, place_of, window_lengths
from tests.runtime.fake_model import fake_bundle
from tests.runtime.windowed_model import GEOMETRY, windowed_bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    Draw = Callable[[st.SearchStrategy[Any]], Any]

replace = msgspec.structs.replace


@st.composite
def layouts(draw: Draw) -> Layout:
    block, factor = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    geometry = replace(
        GEOMETRY,
        block_latent_frames=block,
        temporal_factor=factor,
        decoder_trim=factor - 1,
        context_latent_frames=draw(st.integers(0, block)),
    )
    continues, leads = draw(st.booleans()), draw(st.booleans())
    blocks = draw(st.integers(1, 6))
    latent_frames = blocks * block
    frames = latent_frames * factor - (0 if continues else factor - 1)
    return Layout(
        geometry,
        latent_frames,
        continues=continues,
        leads=leads,
        loops=not (continues or leads) and blocks > 1 and draw(st.booleans()),
        images=tuple(sorted(draw(st.sets(st.integers(0, frames - 1), max_size=5)))),
    )


@given(layouts())
def test_any_window(layout: Layout) -> None:
    context, size = layout.geometry.context_latent_frames, layout.block
    images: list[int] = []
    for block in range(layout.blocks):
        window = layout.window(block)
        begins = block == 0 and not layout.continues
        around = window.before + window.fixed + window.made + window.after
        assert window.fixed + window.made == size
        assert around <= size + context
        assert (around == size + context) == (not begins or context == 0 or layout.backwards)
        positions = window.positions
        assert positions.dtype == np.float32
        assert positions[:around].tolist() == list(range(not begins, around + (not begins)))
        stills = positions[around:]
        assert len(stills) == len(window.stills)
        own = positions[window.before : window.before + size]
        if len(stills):
            assert own[0] - 0.5 < stills.min() <= stills.max() < own[-1] + 0.5
        times = window.timesteps(7.0)[0]
        assert (times == 7).sum() == window.made
        assert (times == 0).sum() == len(positions) - window.made
        images += [0] * window.fixed + list(window.stills)
    assert images == list(layout.images)


@given(layouts())
def test_a_still_stands_among_its_neighbours(layout: Layout) -> None:
    """In a shot that begins, in its first block, at (f + 1.5) / 4 for latent frames of 4."""
    if layout.continues:
        return
    factor = layout.geometry.temporal_factor
    window = layout.window(0)
    stills = window.positions[len(window.positions) - len(window.stills) :]
    for frame, position in zip(window.stills, stills, strict=True):
        assert position == np.float32((frame + (factor - 1) / 2) / factor)


@given(layouts())
def test_only_the_last_block_sees_what_comes_after(layout: Layout) -> None:
    after = [layout.window(block).after for block in range(layout.blocks)]
    if layout.backwards:
        assert set(after) == {layout.geometry.context_latent_frames}
    else:
        assert after == [0] * (layout.blocks - 1) + [layout.after]


@pytest.mark.parametrize("begins", [True, False])
def test_every_frame_has_a_place(*, begins: bool) -> None:
    places = [place_of(frame, GEOMETRY, begins=begins) for frame in range(13)]
    whole = [(latent, place) for latent in range(4) for place in range(4)]
    assert places == (whole[3:] if begins else whole[:13])


def test_a_layout_of_no_whole_blocks_is_a_bug() -> None:
    with pytest.raises(ValueError, match="6 latent frames are not a multiple of 4"):
        _ = Layout(GEOMETRY, 6).blocks


def test_how_much_a_denoiser_sees_at_once() -> None:
    """The usual number first; an engine must take all from the least to the most."""
    assert window_lengths(fake_bundle()) == [3, 2]
    lengths = window_lengths(windowed_bundle())
    assert lengths == [6, 4, 4, 2, 4 + 2 + MAX_STILLS]
    assert encoded_lengths(GEOMETRY) == [3, 1]
