"""The built-in bundle's weights without the package `onnx`, held against the way that has it."""

from __future__ import annotations

import pytest
import torch

from animatic.store import open_bundle
from animatic_export.blockout import from_bundle
from animatic_export.stored_weights import SHARED, StoredWeights
from animatic_training import bundle_weights
from animatic_training.beginning import bundle_weights as vae_weights
from animatic_training.text import ALIKE, CaptionEncoder, read_text_encoder


@pytest.mark.parametrize("role", ["denoiser", "vae_decoder", "text_encoder"])
def test_every_weight_is_what_the_exporter_reads(role: str) -> None:
    opened = open_bundle(verify=False)
    (graph,) = (g for g in opened.bundle.graphs if g.role == role and not g.made_from)
    path = opened.path(graph.file)
    ours, theirs = bundle_weights.read_bundle_weights(path), StoredWeights.open(path)
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], torch.from_numpy(theirs[name])) for name in theirs)


def test_equal_weights_are_stored_under_one_name() -> None:
    assert bundle_weights.SHARED == SHARED


def test_the_text_encoder_is_the_bundles() -> None:
    opened = open_bundle(verify=False)
    ours, theirs = read_text_encoder(opened), from_bundle.read_text_encoder(opened)
    for name, weight in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight)


@torch.no_grad()
def test_a_batch_of_captions_is_encoded_as_each_of_them_alone() -> None:
    encoder = CaptionEncoder(32, torch.device("cpu"))
    captions = [" ".join(["a red truck and"] * (1 + n % 5) + [f"{n}"]) for n in range(ALIKE + 9)]
    states, mask = encoder(captions)
    assert states.shape[:2] == mask.shape == (len(captions), 23)
    for row, caption in enumerate(captions):
        own, _ = encoder([caption])
        torch.testing.assert_close(states[row, mask[row]], own[0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_captions_are_encoded_as_the_runtime_encodes_them() -> None:
    encoder = CaptionEncoder(16, torch.device("cpu"))
    states, mask = encoder(["a red truck", "a blue horse gallops left through a desert"])
    assert mask.sum(1).tolist() == [5, 11]
    assert states.shape == (2, 11, 384)
    alone, _ = encoder(["a red truck"])
    # 1e-4: padding is masked, but sums are taken over another length.
    torch.testing.assert_close(states[:1, :5], alone, rtol=1e-4, atol=1e-4)
    assert encoder.tokens([""]).tolist() == [[101, 102] + 14 * [0]]


def test_a_vae_may_begin_with_the_bundles() -> None:
    assert "decoder.layers.0.conv.weight" in vae_weights()
