from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from animatic_training import renders
from animatic_training.pieces import (
    HELD_OUT_FIRST,
    Shard,
    captions_of,
    draw_piece,
    held_out_shards,
    mirrored_labels,
    piece_shards,
    still_shards,
)
from animatic_training.pixels import is_there, keep_pixels, open_pixels
from animatic_training.renders import Chunk, from_disk, rendered
from animatic_training.world.attributes import CLASSES
from tests.training.toy import InTurn

if TYPE_CHECKING:
    from pathlib import Path

    from animatic_training.config import Config


def test_a_piece_is_made_from_seed_and_number_alone(config: Config) -> None:
    shard = Shard("piece", 1)
    first, second = (draw_piece(config, shard, 2) for _ in range(2))
    assert first == second
    assert draw_piece(config, shard, 3).seed != first.seed
    one, other = first.scene(), second.scene()
    assert np.array_equal(one.centre, other.centre)
    assert len(one.eye) == 25
    assert len(draw_piece(config, Shard("still", 0), 0).scene().eye) == 1


def test_pieces_begin_their_shot_as_often_as_they_should(config: Config) -> None:
    """300 draws of a share of 0.6: three standard deviations are 0.085."""
    starts = np.array([draw_piece(config, Shard("piece", 0), n).start for n in range(300)])
    assert np.mean(starts == 0) == pytest.approx(0.6, abs=0.085)
    assert 6 < starts.max() <= 8
    stills = np.array([draw_piece(config, Shard("still", 0), n).start for n in range(50)])
    assert (stills > 0).all()


def test_a_shard_has_one_size_and_shards_have_them_all(config: Config) -> None:
    sizes = [Shard("piece", n).size(config) for n in range(100)]
    assert sizes.count(config.sizes[0]) == pytest.approx(60, abs=2)
    assert {shard.size(config) for shard in held_out_shards(config)} == {config.sizes[0]}


def test_what_is_held_out_is_in_the_held_out_shards_alone(config: Config) -> None:
    assert [shard.number for shard in held_out_shards(config)] == [HELD_OUT_FIRST]
    for shard in (*piece_shards(config), *still_shards(config), *held_out_shards(config)):
        pieces = [draw_piece(config, shard, n) for n in range(shard.count(config))]
        assert {piece.attributes.held_out for piece in pieces} == {shard.held_out}


def test_a_mirror_image_swaps_left_and_right_and_nothing_else() -> None:
    names = list(CLASSES)
    swaps = {"left": "right", "pan_left": "pan_right", "truck_left": "truck_right"}
    swaps |= {b: a for a, b in swaps.items()}
    for column, (name, classes) in enumerate(CLASSES.items()):
        for index, word in enumerate(classes):
            labels = np.zeros((1, len(names)), np.int64)
            labels[0, column] = index
            mirrored = mirrored_labels(labels)
            assert classes[mirrored[0, column]] == swaps.get(word, word), name
            assert np.array_equal(mirrored_labels(mirrored), labels)


def test_captions_are_of_both_views(config: Config) -> None:
    labels = draw_piece(config, Shard("piece", 0), 0).attributes.labels()
    captions = captions_of(config, Shard("piece", 0), 0, labels)
    assert captions == captions_of(config, Shard("piece", 0), 0, labels)
    assert len(captions) == 2 * config.data.captions
    assert all(captions)


def test_shards_come_in_order_whole_and_are_kept(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(renders.CHUNK, "piece", 4)  # the last chunk of a shard is smaller
    cpu, shards = torch.device("cpu"), [Shard("piece", 0), Shard("piece", 1)]
    made = list(rendered(config, shards, cpu, InTurn(), ahead=3))
    assert [shard for shard, _ in made] == shards
    for shard, chunks in made:
        size = shard.size(config)
        assert [len(chunk.pixels) for chunk in chunks] == [4, 2]
        assert chunks[0].pixels.shape == (4, 25, size.height, size.width, 3)
        assert chunks[0].shares.shape == (4, 7, *size.grid)
    _, chunks = made[0]
    assert not is_there(tmp_path, shards[0])
    keep_pixels(tmp_path, shards[0], chunks)
    assert is_there(tmp_path, shards[0])
    kept = open_pixels(tmp_path, shards[0], cpu)
    assert torch.equal(kept.pixels, torch.cat([chunk.pixels for chunk in chunks]))
    assert torch.equal(kept.labels, torch.from_numpy(np.concatenate([c.labels for c in chunks])))
    again = list(rendered(config, shards[:1], cpu, InTurn(), drawn=frozenset(shards)))
    _, prepared = again[0]
    assert not any(len(chunk.pixels) for chunk in prepared)
    for ours, theirs in zip(from_disk(prepared, kept), chunks, strict=True):
        _assert_equal(ours, theirs)


def _assert_equal(ours: Chunk, theirs: Chunk) -> None:
    assert torch.equal(ours.pixels, theirs.pixels)
    assert torch.equal(ours.shares, theirs.shares)
    assert np.array_equal(ours.labels, theirs.labels)
    assert ours.captions == theirs.captions
