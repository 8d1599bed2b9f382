from __future__ import annotations

import torch

from animatic_training.subject_mask import cell_weights, subject_share


def test_a_cell_is_as_much_subject_as_its_pixels_over_its_frames() -> None:
    mask = torch.zeros(1, 9, 32, 48, dtype=torch.uint8)
    mask[0, 0, :16, 16:32] = 1  # all of the cell at row 0, column 1
    mask[0, 1:3, 16:24, :16] = 2  # half of the cell at row 1, column 0, in two frames of four
    share = subject_share(mask)
    assert share.shape == (1, 3, 2, 3)
    assert share.dtype == torch.float16
    wanted = torch.zeros(1, 3, 2, 3)
    wanted[0, 0, 0, 1] = 1
    wanted[0, 1, 1, 0] = 0.25
    assert torch.equal(share.float(), wanted)


def test_a_still_has_one_latent_frame() -> None:
    mask = torch.ones(2, 1, 16, 32, dtype=torch.uint8)
    assert torch.equal(subject_share(mask), torch.ones(2, 1, 1, 2).half())


def test_the_subject_counts_more_and_given_frames_nothing() -> None:
    shares = torch.zeros(2, 3, 1, 2)
    shares[0, 1, 0, 0] = 1
    shares[:, 0] = 1  # given: whatever it shows
    made = torch.tensor([[False, True, True]]).expand(2, -1)
    weights = cell_weights(shares, made, 4.0)
    assert not weights[:, 0].any()
    assert weights[0, 1, 0, 0] / weights[0, 1, 0, 1] == 5
    told = made[..., None, None].expand_as(shares)
    torch.testing.assert_close(weights[told].mean(), torch.tensor(1.0))
    assert torch.equal(cell_weights(shares, made, 0.0), told.float())
