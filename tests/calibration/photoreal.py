"""Small bundles of the photoreal families: their own modules with random weights, wide enough that
all of it can be quantised, and the trivial text encoder of the tiny bundle before them.

Exporting takes most of the time. So each graph is exported once a session, whatever the number of
its processes, in float16 as the command does it, and the reference graph is the same with every
float16 made float32.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from animatic.bundle import Conditioning, GraphSpec, LatentStats, SamplerSpec, Size, Tier
from animatic.store import open_bundle, sha256_file, write_bundle
from animatic.text_cache import SWITCH
from animatic_calibration.calibrate import calibrate_bundle
from animatic_calibration.sources import Limits
from animatic_export.graph import GraphPlan, export_graph
from animatic_export.ltx.config import LtxDecoderConfig, LtxDenoiserConfig
from animatic_export.ltx.denoiser import LtxDenoiser
from animatic_export.ltx.graphs import ltx_decoder_plan, ltx_denoiser_plan
from animatic_export.ltx.vae_decoder import LtxVaeDecoder
from animatic_export.taehv.decoder import TaehvDecoder
from animatic_export.taehv.graph import tiny_decoder_plan
from animatic_export.taehv.names import TaehvConfig
from animatic_export.typed import typed_plan
from animatic_export.wan.causal import CausalWanDenoiser
from animatic_export.wan.config import CausalConfig, WanConfig
from animatic_export.wan.denoiser import WanDenoiser
from animatic_export.wan.graphs import causal_plan, denoiser_plan
from animatic_export.wan.vae_decoder import WanVaeDecoder
from animatic_export.wan.vae_graph import wan_decoder_plan
from animatic_export.wan.vae_names import WanVaeConfig
from animatic_export.weights import storage_of
from tests.calibration.calibrating import LENIENT, PROMPTS
from tests.once import once
from tests.runtime.tiny_bundle import TEXT_WIDTH, write_tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Module = TypeVar("Module", bound=nn.Module)
STORAGE: Final = storage_of(torch.float32)
WAN: Final = WanConfig(
    layers=2, heads=2, head_width=32, ffn_width=128, text_width=TEXT_WIDTH, text_length=24
)
LTX_CHANNELS: Final = 32


class Family(NamedTuple):
    """What a bundle is made of.

    graphs: names in `_PLANS`. sizes: (width, height) in pixels.
    """

    graphs: tuple[str, ...]
    channels: int
    spatial: int
    temporal: int
    sizes: tuple[tuple[int, int], ...]
    frames: tuple[int, ...]
    block: int
    sampler: SamplerSpec
    text_length: int = WAN.text_length


FAMILIES: Final = {
    "wan": Family(
        graphs=("wan", "wan_vae", "taehv"),
        channels=16,
        spatial=8,
        temporal=4,
        sizes=((96, 64), (64, 48)),
        frames=(13, 9),
        block=4,
        sampler=SamplerSpec(kind="euler", sigmas=(1.0, 0.9375, 0.8333, 0.625), guidance=3.0),
    ),
    "causal": Family(
        graphs=("causal", "wan_vae"),
        channels=16,
        spatial=8,
        temporal=4,
        sizes=((96, 64), (64, 48)),
        frames=(21,),
        block=2,
        sampler=SamplerSpec(kind="renoise", sigmas=(1.0, 0.8333), context_timestep=0.0),
    ),
    "ltx": Family(
        graphs=("ltx", "ltx_vae"),
        channels=LTX_CHANNELS,
        spatial=32,
        temporal=8,
        sizes=((128, 96), (96, 64)),
        frames=(17, 9),
        block=3,
        sampler=SamplerSpec(kind="euler", sigmas=(1.0, 0.9937, 0.9094, 0.725)),
        text_length=0,
    ),
}


def calibrated_bundle(kind: str, factory: pytest.TempPathFactory) -> Path:
    """Return the bundle of a family, calibrated to int8; copy it to change it.

    It is calibrated as if clips took minutes, and but for Wan as if the graphs were gigabytes.
    """

    def make(root: Path) -> None:
        _write_bundle(kind, root, factory)
        limits = Limits(costly=0)
        if kind != "wan":
            limits = Limits(costly=0, in_memory=0, one_file=0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(SWITCH, "0")
            calibrate_bundle(root, PROMPTS, LENIENT, limits=limits)

    return once(factory, f"photoreal-{kind}-int8", make)


def _write_bundle(kind: str, root: Path, factory: pytest.TempPathFactory) -> None:
    family = FAMILIES[kind]
    write_tiny_bundle(root)
    bundle = open_bundle(root).bundle
    typed = [_exported(name, factory) for name in family.graphs]
    graphs = [bundle.graph("text_encoder")]
    for folder, spec in typed:
        shutil.copy(folder / spec.file, root)
        graphs += [_widened(root, spec), spec]
    sampler = family.sampler
    causal = sampler.context_timestep is not None
    sizes = tuple(Size(width=width, height=height) for width, height in family.sizes)
    write_bundle(
        root,
        msgspec.structs.replace(
            bundle,
            name=kind,
            geometry=msgspec.structs.replace(
                bundle.geometry,
                spatial_factor=family.spatial,
                temporal_factor=family.temporal,
                decoder_trim=family.temporal - 1,
                latent_channels=family.channels,
                sizes=sizes,
                frame_counts=family.frames,
                block_latent_frames=family.block,
            ),
            latents=LatentStats(mean=(0.1,) * family.channels, std=(0.9,) * family.channels),
            conditioning=Conditioning(text=True, keyframes=False, context=causal),
            text=msgspec.structs.replace(
                bundle.text, states_length=family.text_length, pad_to_max=False, costly=True
            ),
            sampler=sampler,
            tiers=(Tier(name="preview", size=sizes[-1]), Tier(name="final", size=sizes[0])),
            graphs=tuple(graphs),
        ),
    )


def _plan_wan() -> GraphPlan:
    return denoiser_plan(_random(WanDenoiser(WAN)), STORAGE)


def _plan_causal() -> GraphPlan:
    config = CausalConfig(denoiser=WAN, block=2, window=4)
    return causal_plan(_random(CausalWanDenoiser(config)), STORAGE)


def _plan_wan_vae() -> GraphPlan:
    config = WanVaeConfig(width=32, multiples=(1, 1, 2, 2), residuals=1)
    return wan_decoder_plan(_random(WanVaeDecoder(config)), STORAGE)


def _plan_taehv() -> GraphPlan:
    config = TaehvConfig(latent_channels=16, widths=(64, 32, 32, 32), strides=(1, 2, 2), patch=1)
    decoder = _random(TaehvDecoder(config), spread=0.7)
    return tiny_decoder_plan(decoder, STORAGE, (0.1,) * 16, (0.9,) * 16)


def _plan_ltx() -> GraphPlan:
    config = LtxDenoiserConfig(
        layers=2, heads=2, head_width=32, text_width=TEXT_WIDTH, latent_channels=LTX_CHANNELS
    )
    return ltx_denoiser_plan(_random(LtxDenoiser(config)), STORAGE)


def _plan_ltx_vae() -> GraphPlan:
    config = LtxDecoderConfig(
        latent_channels=LTX_CHANNELS, widths=(64, 32, 32, 32), layers=(1, 1, 1, 1)
    )
    return ltx_decoder_plan(_random(LtxVaeDecoder(config)), STORAGE)


_PLANS: Final[dict[str, Callable[[], GraphPlan]]] = {
    "wan": _plan_wan,
    "causal": _plan_causal,
    "wan_vae": _plan_wan_vae,
    "taehv": _plan_taehv,
    "ltx": _plan_ltx,
    "ltx_vae": _plan_ltx_vae,
}


def _random(module: Module, spread: float = 1.0) -> Module:
    """Give every weight a value that keeps what passes at its size, some channels louder."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim < 2 or parameter.shape[0] == 6:
                parameter.add_(0.1 * noise)
                continue
            fan_in = parameter[0].numel()
            loud = torch.randn(parameter.shape[0], generator=generator).mul(0.3).exp()
            scale = spread * fan_in**-0.5 * loud.view(-1, *[1] * (parameter.ndim - 1))
            parameter.copy_(noise * scale)
    return module.eval().requires_grad_(requires_grad=False)


def _exported(name: str, factory: pytest.TempPathFactory) -> tuple[Path, GraphSpec]:
    def make(folder: Path) -> None:
        folder.mkdir()
        spec = export_graph(typed_plan(_PLANS[name](), "fp16", "b" * 64), folder).spec
        (folder / "spec.json").write_bytes(msgspec.json.encode(spec))

    folder = once(factory, f"photoreal-graph-{name}", make)
    return folder, msgspec.json.decode((folder / "spec.json").read_bytes(), type=GraphSpec)


def _widened(root: Path, spec: GraphSpec) -> GraphSpec:
    """Write the graph in float32 beside and say what it is."""
    model = onnx.load(root / spec.file)
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    for tensor in model.graph.initializer:
        if tensor.data_type == half:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name in {"to", "dtype"} and attribute.i == half:
                attribute.i = single
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = single
    file = f"{spec.role}.onnx"
    onnx.save(model, root / file)
    return msgspec.structs.replace(
        spec,
        file=file,
        sha256=sha256_file(root / file),
        precision="fp32",
        made_from="",
        inputs=tuple(msgspec.structs.replace(t, dtype=_wide(t.dtype)) for t in spec.inputs),
        outputs=tuple(msgspec.structs.replace(t, dtype=_wide(t.dtype)) for t in spec.outputs),
    )


def _wide(dtype: str) -> str:
    return "float32" if dtype == "float16" else dtype
