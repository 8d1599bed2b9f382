"""Published tensors to ours, in both namings, and what is said of those that do not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch

from animatic_export.errors import CheckpointError
from animatic_export.ltx.decoder_weights import load_decoder_weights, read_latent_stats
from animatic_export.ltx.denoiser_weights import PREFIX, canonical, load_denoiser_weights
from tests.export.ltx.published import decoder_shape, denoiser_shape, reference, single_file


class Lazy(Mapping[str, torch.Tensor]):
    """Tensors of which is counted how often each is read."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors = tensors
        self.read: Counter[str] = Counter()

    def __getitem__(self, name: str) -> torch.Tensor:
        self.read[name] += 1
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_our_original_names_are_those_that_diffusers_reads(transformer: Any, vae: Any) -> None:
    diffusers = reference("diffusers.loaders.single_file_utils")
    tensors = single_file(transformer, vae)
    found = diffusers.convert_ltx_transformer_checkpoint_to_diffusers(dict(tensors))
    assert same(found, transformer.state_dict())
    found = diffusers.convert_ltx_vae_checkpoint_to_diffusers(dict(tensors))
    state = vae.state_dict()
    # Its encoder is too small for diffusers to see that the file is of 0.9.5 or later.
    kept = {name: found[name] for name in state if not name.startswith("encoder.")}
    assert same(kept, {name: state[name] for name in kept})


def test_both_namings_give_the_same(transformer: Any, vae: Any) -> None:
    tensors = single_file(transformer, vae)
    shape, decoder = denoiser_shape(transformer), decoder_shape(vae)
    assert same(
        load_denoiser_weights(tensors, shape),
        load_denoiser_weights(transformer.state_dict(), shape),
    )
    assert same(
        load_decoder_weights(tensors, decoder), load_decoder_weights(vae.state_dict(), decoder)
    )
    stats = read_latent_stats(tensors, decoder)
    assert stats == read_latent_stats(vae.state_dict(), decoder)
    assert stats == (tuple(vae.latents_mean.tolist()), tuple(vae.latents_std.tolist()))


def test_a_module_has_one_name_in_both_namings(transformer: Any, vae: Any) -> None:
    original = [name for name in single_file(transformer, vae) if name.startswith(PREFIX)]
    names = transformer.state_dict().keys()
    assert {canonical(name.removeprefix(PREFIX)) for name in original} == names
    assert {canonical(name) for name in names} == names


def test_every_tensor_is_read_once_and_widened(transformer: Any, vae: Any) -> None:
    tensors = {name: t.bfloat16() for name, t in single_file(transformer, vae).items()}
    lazy = Lazy(tensors)
    weights = load_denoiser_weights(lazy, denoiser_shape(transformer))
    assert lazy.read == Counter(name for name in tensors if name.startswith("model."))
    lazy.read.clear()
    weights |= load_decoder_weights(lazy, decoder_shape(vae))
    assert lazy.read == Counter(name for name in tensors if name.startswith("vae.decoder."))
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("transformer_blocks.1.attn2.to_v.bias", "transformer"),
        ("model.diffusion_model.transformer_blocks.0.attn1.q_norm.weight", "single"),
        ("model.diffusion_model.adaln_single.linear.weight", "single"),
        ("decoder.up_blocks.1.upsamplers.0.conv.conv.weight", "vae"),
        ("decoder.timestep_scale_multiplier", "vae"),
        ("vae.decoder.up_blocks.4.res_blocks.0.scale_shift_table", "single"),
        ("vae.decoder.last_time_embedder.timestep_embedder.linear_2.bias", "single"),
        ("latents_std", "vae"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    transformer: Any, vae: Any, name: str, published: str
) -> None:
    whole: dict[str, torch.Tensor] = {
        "transformer": transformer.state_dict(),
        "vae": vae.state_dict(),
        "single": single_file(transformer, vae),
    }[published]

    def load(tensors: dict[str, torch.Tensor]) -> None:
        if "decoder." in name or "latents" in name:
            load_decoder_weights(tensors, decoder_shape(vae))
            read_latent_stats(tensors, decoder_shape(vae))
        else:
            load_denoiser_weights(tensors, denoiser_shape(transformer))

    load(whole)
    missing = {key: value for key, value in whole.items() if key != name}
    with pytest.raises(CheckpointError, match=f"has no tensor {name}, which"):
        load(missing)
    found = list(whole[name].shape)
    with pytest.raises(CheckpointError) as caught:
        load({**whole, name: torch.zeros(*found, 1)})
    assert f"The tensor {name} is {[*found, 1]} and an LTX-Video" in str(caught.value)
    assert f"has {found}: " in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["model.diffusion_model.proj_out.weight_scale", "vae.decoder.up_blocks.7.norm3.norm.weight"],
)
def test_a_tensor_that_is_left_over_is_named(transformer: Any, vae: Any, name: str) -> None:
    tensors = {**single_file(transformer, vae), name: torch.zeros(1)}
    load: Callable[[], object] = (
        (lambda: load_decoder_weights(tensors, decoder_shape(vae)))
        if name.startswith("vae.")
        else (lambda: load_denoiser_weights(tensors, denoiser_shape(transformer)))
    )
    with pytest.raises(CheckpointError, match=f"has a tensor {name}, which"):
        load()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8])
def test_quantised_weights_are_refused(transformer: Any, vae: Any, dtype: torch.dtype) -> None:
    kind = str(dtype).removeprefix("torch.")
    name = "transformer_blocks.1.attn2.to_v.weight"
    tensors = {**transformer.state_dict(), name: transformer.state_dict()[name].to(dtype)}
    with pytest.raises(CheckpointError, match=f"{name} is {kind}: give .* float32, not quantised"):
        load_denoiser_weights(tensors, denoiser_shape(transformer))
    name = "decoder.conv_in.conv.weight"
    tensors = {**vae.state_dict(), name: vae.state_dict()[name].to(dtype)}
    with pytest.raises(CheckpointError, match=f"{name} is {kind}: give .* float32, not quantised"):
        load_decoder_weights(tensors, decoder_shape(vae))


def test_another_models_file_is_refused(transformer: Any, vae: Any) -> None:
    with pytest.raises(CheckpointError, match=r"holds no LTX-Video transformer: give an LTX-Video"):
        load_denoiser_weights(vae.state_dict(), denoiser_shape(transformer))
    with pytest.raises(CheckpointError, match=r"has no tensor decoder\.timestep_scale_multiplier"):
        load_decoder_weights(transformer.state_dict(), decoder_shape(vae))


def test_another_scale_of_the_timestep_is_refused(vae: Any) -> None:
    name = "decoder.timestep_scale_multiplier"
    tensors = {**vae.state_dict(), name: torch.tensor(916.0)}
    with pytest.raises(CheckpointError, match="multiplies its timestep by 916 and not by 1000"):
        load_decoder_weights(tensors, decoder_shape(vae))
