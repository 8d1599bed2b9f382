from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, NoReturn

import msgspec
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from onnx import helper
from safetensors.torch import save_file
from torch import Tensor, nn

from animatic import Pipeline, Shot
from animatic.bundle import GraphSpec, TensorSpec
from animatic.errors import TargetError
from animatic.store import open_bundle, write_bundle
from animatic.targets import find_target
from animatic_export.blockout.checkpoint import read_checkpoint
from animatic_export.blockout.clip_release import MAX_TOKENS
from animatic_export.blockout.denoiser import Denoiser
from animatic_export.blockout.minilm import load_minilm, minilm_folder
from animatic_export.blockout.vae import VideoVae
from animatic_export.cli import command, swap_in
from animatic_export.errors import CheckpointError, ParityError
from animatic_export.graph import OPSET, GraphPlan, _parity
from animatic_export.steps import wanted_precisions
from tests.export.toy import DENOISER, VAE

if TYPE_CHECKING:
    from pathlib import Path

    from animatic.store import OpenBundle

SIGMAS = [1.0, 0.75, 0.5]
CLIP = {"width": 48, "height": 32, "frames": 9, "fps": 8}
METADATA = {
    "format": "blockout-1",
    "vae": msgspec.json.encode(VAE).decode(),
    "denoiser": msgspec.json.encode(DENOISER).decode(),
    "clip": json.dumps(CLIP),
    "sigmas": json.dumps(SIGMAS),
    "scores": json.dumps({"student_all": 0.5}),
}


def write_checkpoint(path: Path) -> tuple[VideoVae, Denoiser]:
    """A tiny untrained Blockout; the zero-initialised layers are given weights, so all counts."""
    torch.manual_seed(0)
    vae, denoiser = VideoVae(VAE), Denoiser(DENOISER)
    for parameter in [*vae.parameters(), *denoiser.parameters()]:
        parameter.data += 0.05 * torch.randn_like(parameter)
    tensors = {f"vae.{n}": t.half() for n, t in vae.state_dict().items()}
    tensors |= {f"denoiser.{n}": t.half() for n, t in denoiser.state_dict().items()}
    save_file(tensors, path, METADATA)
    vae.load_state_dict({n: t.half().float() for n, t in vae.state_dict().items()})
    denoiser.load_state_dict({n: t.half().float() for n, t in denoiser.state_dict().items()})
    return vae.eval(), denoiser.eval()


def export(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "There is no checkpoint"), (b"\x08\0\0\0\0\0\0\0{}", "truncated or not")],
)
def test_a_bad_checkpoint_is_refused_and_nothing_is_left(
    tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    checkpoint = tmp_path / "c.safetensors"
    if content is not None:
        checkpoint.write_bytes(content[:6])
    result = export("blockout", "--checkpoint", str(checkpoint), "--out", str(tmp_path / "b"))
    assert result.exit_code == 1
    assert sentence in result.output
    assert [p.name for p in tmp_path.iterdir() if p != checkpoint] == []


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.safetensors"
    save_file({"x": torch.zeros(1)}, checkpoint, {"format": "pt"})
    result = export("blockout", "--checkpoint", str(checkpoint), "--out", str(tmp_path / "b"))
    assert result.exit_code == 1
    assert "not a Blockout checkpoint" in result.output


def test_the_built_in_model_is_exported_without_a_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    assert export("blockout", "--out", str(out)).exit_code == 0
    mine, shipped = open_bundle(out), open_bundle(verify=False)  # verified: every file is there
    assert mine.bundle == shipped.bundle
    assert "already" in export("blockout", "--out", str(out)).output
    write_bundle(out, msgspec.structs.replace(mine.bundle, graphs=mine.bundle.graphs[::-1]))
    assert "--force" in export("blockout", "--out", str(out)).output


def test_an_unknown_target_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    result = export("blockout", "--target", "rtx-41", "--out", str(tmp_path / "mine"))
    assert isinstance(result.exception, TargetError)
    assert "rtx-40" in str(result.exception)
    assert not (tmp_path / "mine").exists()


def test_what_is_asked_for_or_what_each_target_computes_in_best() -> None:
    targets = tuple(find_target(name) for name in ("rtx-40", "jetson-agx-orin", "cpu"))
    assert wanted_precisions("bf16", targets) == ["bf16"]
    assert wanted_precisions(None, targets) == ["fp16", "int8"]
    assert wanted_precisions(None, ()) == []


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "precious").touch()
    result = export(
        "blockout", "--checkpoint", str(tmp_path / "c"), "--out", str(tmp_path / "b"), "--force"
    )
    assert result.exit_code == 1
    assert (tmp_path / "b" / "precious").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"vae": None}, "lacks 'vae'"),
        ({"sigmas": None}, "lacks 'sigmas'"),
        ({"clip": "{}"}, "is malformed (Object missing required field `width`)"),
        ({"scores": "nothing"}, "is malformed"),
        ({"denoiser": "["}, "is malformed"),
    ],
)
def test_a_checkpoint_that_lacks_metadata_is_refused(
    tmp_path: Path, change: dict[str, str | None], sentence: str
) -> None:
    checkpoint = tmp_path / "c.safetensors"
    metadata = METADATA | change
    save_file({"x": torch.zeros(1)}, checkpoint, {n: text for n, text in metadata.items() if text})
    with pytest.raises(CheckpointError, match=re.escape(sentence)):
        read_checkpoint(checkpoint)


def make_folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "bundle.json").write_text(content)
    return path


def test_a_new_bundle_takes_the_place_of_the_old(tmp_path: Path) -> None:
    out = make_folder(tmp_path / "b", "old")
    swap_in(make_folder(tmp_path / "made", "new"), out)
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    assert (out / "bundle.json").read_text() == "new"


@pytest.mark.parametrize("broken", [0, 1])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_swap_that_breaks_off_leaves_the_old_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, broken: int
) -> None:
    out, made = make_folder(tmp_path / "b", "old"), make_folder(tmp_path / "made", "new")
    rename, renames = type(out).rename, iter(range(9))

    def failing(self: Path, target: Path) -> Path:
        if next(renames) == broken:
            raise error
        return rename(self, target)

    monkeypatch.setattr("pathlib.Path.rename", failing)
    with pytest.raises(type(error)):
        swap_in(made, out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "made"]
    assert (out / "bundle.json").read_text() == "old"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device"), "is full: make room"),
        (FileNotFoundError(2, "No such file", "tokenizer.json"), "broke off"),
    ],
)
def test_a_file_that_fails_during_the_export_is_not_called_unwritable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, sentence: str
) -> None:
    def failing(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr("animatic_export.blockout.recipe.export_blockout", failing)
    result = export("blockout", "--checkpoint", "c", "--out", str(tmp_path / "b"))
    assert result.exit_code == 1
    assert sentence in result.output
    assert "cannot be written" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_an_out_beneath_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = export("blockout", "--checkpoint", "c", "--out", str(tmp_path / "file" / "b"))
    assert result.exit_code == 1
    assert "cannot be written" in result.output


def test_a_module_that_takes_a_size_for_fixed_is_found_out(tmp_path: Path) -> None:
    """Right for the example it was traced with, wrong for another length."""
    plan = GraphPlan(
        role="denoiser",
        module=_Mean(),
        examples=((torch.ones(2, 4),), (torch.ones(1, 3),)),
        inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", "tokens")),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("batch",)),),
        precision="fp32",
        shrink=lambda model: model,
        tolerance=1e-4,
    )
    path = tmp_path / "sum.onnx"
    onnx.save(_sum_over_four(), path)
    spec = GraphSpec(
        role="denoiser",
        file=path.name,
        sha256="0" * 64,
        precision="fp32",
        inputs=plan.inputs,
        outputs=plan.outputs,
    )
    with pytest.raises(ParityError, match=r"off by 2\.50e-01 in y at \(1, 3\)"):
        _parity(plan, path, spec)
    traced_only = dataclasses.replace(plan, examples=plan.examples[:1])
    assert _parity(traced_only, path, spec) < 1e-6


class _Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def _sum_over_four() -> onnx.ModelProto:
    """The mean of four, whatever the length."""
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
            helper.make_node("Div", ["sum", "four"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", floats, ["batch", "tokens"])],
        [helper.make_tensor_value_info("y", floats, ["batch"])],
        [
            helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1]),
            helper.make_tensor("four", floats, [], [4.0]),
        ],
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10)


@pytest.mark.slow
def test_an_exported_bundle_makes_the_clip_that_torch_makes(tmp_path: Path) -> None:
    checkpoint, out = tmp_path / "c.safetensors", tmp_path / "bundle"
    vae, denoiser = write_checkpoint(checkpoint)
    result = export("blockout", "--checkpoint", str(checkpoint), "--out", str(out))
    assert result.exit_code == 0, result.output
    opened = open_bundle(out)
    assert opened.bundle.provenance.source == "c.safetensors"
    assert opened.bundle.scores["student_all"] == 0.5
    assert opened.bundle.scores["gflop_per_clip"] > 0
    assert not opened.bundle.conditioning.keyframes  # the student never saw a given frame
    assert opened.bundle.text.max_tokens == MAX_TOKENS
    assert sorted(p.name for p in out.iterdir()) == [
        "bundle.json",
        "denoiser.onnx",
        "licences",
        "text_encoder.onnx",
        "tokenizer.json",
        "vae_decoder.onnx",
    ]

    shot = Shot("a red truck drives left", seed=5)
    with Pipeline.open(out) as pipeline:
        made = pipeline.clip(shot)
        wanted = torch_clip(pipeline, vae, denoiser, shot)
    assert made.shape == wanted.shape == (9, 32, 48, 3)
    assert made.std() > 1
    assert np.abs(made.astype(int) - wanted.astype(int)).max() <= 1

    # The same checkpoint is not exported again; another needs --force and leaves the bundle whole.
    again = export("blockout", "--checkpoint", str(checkpoint), "--out", str(out))
    assert again.exit_code == 0
    assert "holds the graphs of this checkpoint already" in again.output
    other = tmp_path / "other.safetensors"
    other.write_bytes(checkpoint.read_bytes() + b" ")
    refused = export("blockout", "--checkpoint", str(other), "--out", str(out))
    assert refused.exit_code == 1
    assert "from another checkpoint or with other settings" in refused.output


@torch.no_grad()
def torch_clip(pipeline: Pipeline, vae: VideoVae, denoiser: Denoiser, shot: Shot) -> np.ndarray:
    """The same chain in torch: whole-clip decode, one Euler loop; text states are the bundle's."""
    from animatic.noise import NoiseStream

    words = pipeline._text.words(shot.plan(pipeline.bundle.bundle))
    states = torch.from_numpy(words.positive["text_states"])
    shape = (1, VAE.latent_channels, DENOISER.frames, DENOISER.rows, DENOISER.columns)
    x = torch.from_numpy(NoiseStream(shot.seed, 0).initial(0, shape))
    for now, following in zip(SIGMAS, [*SIGMAS[1:], 0.0], strict=True):
        times = torch.full((1, DENOISER.frames), 1000 * now)
        x = x + (following - now) * denoiser(x, times, states)
    video = vae.decode(vae.denormalise(x)).clamp(0, 1)
    pixels: np.ndarray = (video[0].permute(0, 2, 3, 1) * 255).round().byte().numpy()
    return pixels


@pytest.mark.slow
def test_the_text_encoder_keeps_its_token_states_in_8_bits(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    from animatic.engine import OnnxRuntimeEngine
    from animatic_export.blockout.graphs import text_encoder_plan
    from animatic_export.graph import export_graph

    model = load_minilm(minilm_folder() / "model.safetensors")
    exported = export_graph(text_encoder_plan(model), tmp_path)
    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    engine = OnnxRuntimeEngine(tmp_path / exported.spec.file, exported.spec)
    for prompt in (
        "a red truck drives left through a desert at sunset, slow dolly in",
        "EXT. CANYON - DUSK. A stallion gallops toward the camera. Crane up.",
        "x",
    ):
        ids = np.array([tokenizer.encode(prompt).ids])
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        made = engine.run(feeds)["text_states"][0]
        with torch.no_grad():
            wanted = model(*(torch.from_numpy(v) for v in feeds.values()))[0].numpy()
        cosine = (made * wanted).sum(1) / np.linalg.norm(made, axis=1)
        assert (cosine / np.linalg.norm(wanted, axis=1)).min() >= 0.999


def with_other_names(opened: OpenBundle) -> OpenBundle:
    """The same bundle, its graphs' files called otherwise: the bundle says which they are."""
    graphs = []
    for graph in opened.bundle.graphs:
        opened.path(graph.file).rename(opened.root / f"{graph.role}-1.onnx")
        graphs.append(msgspec.structs.replace(graph, file=f"{graph.role}-1.onnx"))
    bundle = msgspec.structs.replace(opened.bundle, graphs=tuple(graphs))
    return dataclasses.replace(opened, bundle=bundle)


@pytest.mark.slow
def test_a_bundle_can_be_read_back_into_torch(tmp_path: Path) -> None:
    from animatic_export.blockout.from_bundle import read_decoder, read_denoiser

    checkpoint, out = tmp_path / "c.safetensors", tmp_path / "bundle"
    vae, denoiser = write_checkpoint(checkpoint)
    assert export("blockout", "--checkpoint", str(checkpoint), "--out", str(out)).exit_code == 0
    opened = with_other_names(open_bundle(out))
    again = read_denoiser(opened)
    assert again.config == denoiser.config
    for ours, theirs in (
        (again.state_dict(), denoiser.state_dict()),
        (read_decoder(opened).state_dict(), vae.decoder.state_dict()),
    ):
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert torch.equal(ours[name], tensor), name
