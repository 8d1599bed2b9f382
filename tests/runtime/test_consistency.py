"""Every way in which the values of a bundle can contradict each other, at both of its doors."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from animatic.bundle import (
    Adapter,
    AxisRange,
    Conditioning,
    FileRef,
    LatentStats,
    SamplerSpec,
    Schedule,
    Size,
    StatePair,
    TensorSpec,
    Tier,
    decode_bundle,
    encode_bundle,
)
from animatic.errors import BundleSchemaError
from animatic.schedules import NEARLY_ONE
from tests.runtime.fake_model import (
    DENOISER,
    LOOK_AHEAD,
    TEXT_ENCODER,
    VAE_DECODER,
    ZEROS,
    an_engine,
    fake_bundle,
    tensor,
)
from tests.runtime.windowed_model import VAE_ENCODER, WINDOWED

replace = msgspec.structs.replace


def unipc(sigmas: tuple[float, ...]) -> SamplerSpec:
    return SamplerSpec(kind="unipc", sigmas=sigmas)


def latents_of(frames: int) -> tuple[TensorSpec, ...]:
    return (tensor("latents", "float32", "batch", 2, frames, "rows", "columns"),)


def contradictory() -> list[tuple[dict[str, Any], str]]:
    bundle = fake_bundle()
    geometry, text, sampler = bundle.geometry, bundle.text, bundle.sampler
    graphs = bundle.graphs
    latents, provenance = bundle.latents, bundle.provenance
    context = Conditioning(text=True, keyframes=False, context=True)
    keys = Conditioning(text=True, keyframes=True, context=False)
    tier = Tier(name="preview", size=geometry.sizes[0])
    adapter = Adapter(file="lora.safetensors", sha256=ZEROS, strength=1.0)
    two = Schedule(sigmas=(1.0, 0.5))
    kept = tensor("state_0", "float32", "batch"), tensor("next_state_0", "float32", "batch")
    stateful = replace(
        DENOISER,
        inputs=(*DENOISER.inputs, kept[0]),
        outputs=(*DENOISER.outputs, kept[1]),
        states=VAE_DECODER.states,
    )
    tiny = replace(VAE_DECODER, role="tiny_decoder")
    out_of_order = AxisRange(axis="t", minimum=2, optimum=1, maximum=4)
    return [
        ({"schema_version": 3}, "schema_version is not 2"),
        ({"geometry": replace(geometry, spatial_factor=0)}, "not between 1"),
        ({"geometry": replace(geometry, temporal_factor=-4)}, "not between 1"),
        ({"geometry": replace(geometry, block_latent_frames=0)}, "not between 1"),
        ({"geometry": replace(geometry, sizes=())}, "offers no size"),
        ({"geometry": replace(geometry, frame_counts=())}, "no frame count"),
        ({"geometry": replace(geometry, sizes=(Size(width=18, height=8),))}, "18x8 is not a mul"),
        ({"geometry": replace(geometry, sizes=(Size(width=0, height=8),))}, "pixels"),
        ({"geometry": replace(geometry, frame_counts=(8,))}, r"8 is not 1 \+ k \* 4"),
        ({"geometry": replace(geometry, frame_counts=(-3,))}, "a frame count is not between"),
        (
            {"geometry": replace(geometry, frame_counts=(9, 13))},
            "a clip of 13 frames is longer than one block, 9, and without context",
        ),
        (
            {"geometry": replace(geometry, frame_counts=(21, 13)), "conditioning": context},
            "a clip of 13 frames is not 9 and some blocks of 12 more",
        ),
        ({"geometry": replace(geometry, decoder_trim=0)}, "decoder_trim"),
        ({"geometry": replace(geometry, native_fps="0/1")}, "native_fps"),
        ({"latents": LatentStats(mean=(0.0,), std=(1.0, 1.0))}, "each of 2 channels"),
        ({"latents": LatentStats(mean=(0.0, 0.0), std=(1.0, 0.0))}, "above 0"),
        ({"latents": LatentStats(mean=(float("nan"), 0.0), std=(1.0, 1.0))}, "not finite"),
        ({"sampler": replace(sampler, sigmas=())}, "sigmas are not all"),
        ({"sampler": replace(sampler, sigmas=(1.0, 0.0))}, "sigmas are not all"),
        ({"sampler": replace(sampler, sigmas=(1.0, float("nan")))}, "sigmas are not all"),
        ({"sampler": replace(sampler, sigmas=(0.5, 0.5))}, "do not descend"),
        ({"sampler": replace(sampler, timestep_scale=0.0)}, "timestep scale"),
        ({"sampler": replace(sampler, timesteps=(1000.0, 500.0))}, "one timestep for each sigma"),
        (
            {"sampler": replace(sampler, timesteps=(1000.0, 937.5, float("nan"), 500.0))},
            "timesteps are not all finite",
        ),
        (
            {"sampler": replace(sampler, schedules=(replace(two, timesteps=(1.0, -1.0)),))},
            "timesteps are not all finite numbers from 0 on",
        ),
        ({"sampler": replace(sampler, schedules=(two, two))}, "the same number of steps"),
        (
            {"sampler": replace(sampler, schedules=(Schedule(sigmas=sampler.sigmas),))},
            "the same number of steps",
        ),
        (
            {"sampler": replace(sampler, schedules=(Schedule(sigmas=(0.5, 1.0)),))},
            "do not descend",
        ),
        ({"sampler": replace(sampler, schedules=(Schedule(sigmas=()),))}, "sigmas are not all"),
        ({"sampler": replace(sampler, guidance=0.5)}, "guidance is not a finite number from 1"),
        ({"sampler": replace(sampler, guidance=float("nan"))}, "guidance is not a finite"),
        ({"sampler": replace(sampler, guidance=float("inf"))}, "guidance is not a finite"),
        (
            {
                "sampler": replace(sampler, guidance=5.0),
                "graphs": (TEXT_ENCODER, stateful, VAE_DECODER),
            },
            "keeps a state, which the two runs of guidance",
        ),
        ({"sampler": replace(sampler, context_timestep=0.0)}, "the model takes no context"),
        (
            {"sampler": replace(sampler, context_timestep=-1.0), "conditioning": context},
            "context timestep is not a finite",
        ),
        (
            {"sampler": replace(sampler, context_timestep=0.0), "conditioning": context},
            "the denoiser keeps no state to hold a block in",
        ),
        ({"sampler": unipc((0.9, 0.5))}, "of the sigmas of unipc the first, and it alone, must"),
        ({"sampler": unipc((1.0, 0.999999, 0.5))}, "of the sigmas of unipc the first"),
        (
            {"sampler": replace(unipc((1.0, 0.5)), schedules=(Schedule(sigmas=(0.5,)),))},
            "of the sigmas of unipc the first",
        ),
        (
            {"graphs": (*graphs[:2], LOOK_AHEAD), "conditioning": context},
            "the vae_decoder looks ahead, and the blocks",
        ),
        (
            {
                "graphs": (*graphs, replace(LOOK_AHEAD, role="tiny_decoder")),
                "conditioning": context,
            },
            "the tiny_decoder looks ahead",
        ),
        (
            {
                "graphs": (
                    *graphs,
                    replace(VAE_DECODER, precision="fp16", inputs=latents_of(2), states=()),
                )
            },
            r"the vae_decoder takes latents of the shape \['batch', 2, 2, .*neither 1 nor dynamic",
        ),
        ({"latents": replace(latents, decode_noise=1.5)}, "decode_noise is not a share"),
        ({"latents": replace(latents, decode_noise=float("nan"))}, "decode_noise is not a share"),
        ({"text": replace(text, states_length=-1)}, "states_length is not between 0"),
        ({"text": replace(text, states_length=7)}, "states_length is below max_tokens"),
        ({"tiers": (tier, tier)}, "two tiers have the same name"),
        ({"tiers": (replace(tier, name=""),)}, "one has none"),
        (
            {"tiers": (replace(tier, size=Size(width=32, height=8)),)},
            "tier 'preview' has the size 32x8, which is not one of the model's",
        ),
        ({"tiers": (replace(tier, steps=3),)}, "no schedule of the 3 steps of the tier 'preview'"),
        ({"tiers": (replace(tier, decoder="tiny_decoder"),)}, "a tiny_decoder, which is not there"),
        ({"graphs": (*graphs[:2], tiny)}, "no vae_decoder, for which that stands in"),
        (
            {"provenance": replace(provenance, adapters=(replace(adapter, sha256="f"),))},
            "sha256 of 'lora.safetensors'",
        ),
        (
            {"provenance": replace(provenance, adapters=(replace(adapter, strength=1e999),))},
            "strength of an adapter",
        ),
        (
            {"geometry": replace(geometry, context_latent_frames=-1)},
            "context_latent_frames is not between 0 and those of a block, 3",
        ),
        (
            {"geometry": replace(geometry, context_latent_frames=4), "conditioning": context},
            "context_latent_frames is not between 0 and those of a block, 3",
        ),
        (
            {"geometry": replace(geometry, context_latent_frames=2)},
            "has context_latent_frames, and the model takes no context",
        ),
        (
            {"geometry": replace(geometry, context_latent_frames=2), "conditioning": context},
            "to the denoiser, which has no input positions",
        ),
        ({"conditioning": keys}, "has no input positions"),
        (
            {
                "conditioning": keys,
                "graphs": (
                    TEXT_ENCODER,
                    replace(
                        WINDOWED,
                        **{f: getattr(stateful, f) for f in ("outputs", "states")},
                        inputs=(*WINDOWED.inputs, kept[0]),
                    ),
                    VAE_DECODER,
                    VAE_ENCODER,
                ),
            },
            "to the denoiser, which keeps a state",
        ),
        (
            {"conditioning": keys, "graphs": (TEXT_ENCODER, WINDOWED, VAE_DECODER)},
            "takes key frames, and has no vae_encoder",
        ),
        (
            {
                "graphs": (
                    *graphs,
                    replace(
                        VAE_ENCODER,
                        inputs=(*VAE_ENCODER.inputs, kept[0]),
                        outputs=(*VAE_ENCODER.outputs, kept[1]),
                        states=VAE_DECODER.states,
                    ),
                )
            },
            "the vae_encoder keeps a state",
        ),
        ({"text": replace(text, max_tokens=0)}, "max_tokens"),
        ({"text": replace(text, tokenizer=FileRef(file="t", sha256="ABC"))}, "sha256 of 't'"),
        ({"scores": {"fid": float("inf")}}, "score"),
        ({"graphs": (*graphs, graphs[0])}, "same role and precision"),
        ({"engines": (replace(an_engine(), precision="fp8"),)}, "a fp8 denoiser graph, which"),
        ({"engines": (replace(an_engine(), fingerprint="f"),)}, "fingerprint of 'engines/"),
        ({"engines": (replace(an_engine(), profile=(out_of_order,)),)}, "range of the axis 't'"),
        ({"graphs": (replace(graphs[0], sha256="0" * 63),)}, "sha256"),
        ({"graphs": (replace(graphs[0], inputs=(tensor("x", "float64", 1),)),)}, "dtype 'float64'"),
        ({"graphs": (replace(graphs[0], inputs=(tensor("x", "uint8", 0),)),)}, "axis of 'x'"),
        ({"graphs": (replace(graphs[0], inputs=(tensor("x", "uint8", ""),)),)}, "axis of 'x'"),
        ({"graphs": (replace(graphs[0], inputs=graphs[0].inputs * 2),)}, "a tensor twice"),
        (
            {"graphs": (replace(graphs[0], states=(StatePair(input="s", output="n"),)),)},
            "the state 's'",
        ),
        (
            {
                "graphs": (
                    replace(
                        graphs[0], states=(StatePair(input="input_ids", output="text_states"),)
                    ),
                )
            },
            "another dtype",
        ),
    ]


@pytest.mark.parametrize(("changes", "problem"), contradictory())
def test_contradictions_are_refused_at_both_doors(changes: dict[str, Any], problem: str) -> None:
    wrong = fake_bundle(**changes)
    with pytest.raises(BundleSchemaError, match=f"contradicts itself: .*{problem}.*; export"):
        encode_bundle(wrong)
    with pytest.raises(BundleSchemaError, match=r"; (export|reinstall|update)"):
        decode_bundle(msgspec.json.encode(wrong))


@pytest.mark.parametrize("sigmas", [(1.0,), (1.0, 0.5), (NEARLY_ONE, 0.99, 0.5)])
def test_levels_from_which_unipc_can_set_out(sigmas: tuple[float, ...]) -> None:
    sound = fake_bundle(sampler=unipc(sigmas))
    assert decode_bundle(encode_bundle(sound)) == sound
