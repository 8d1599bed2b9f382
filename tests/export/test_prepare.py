"""What is settled and refused before an export begins: nothing is exported here."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import pytest
import torch
from safetensors.torch import load_file, save_file

from animatic.store import sha256_file
from animatic_export.errors import CheckpointError, ExportError
from animatic_export.ltx.config import LtxDenoiserConfig
from animatic_export.recipe import Request, find_recipe
from animatic_export.wan.samplers import SAMPLERS, choose_sampler
from tests.export import taehv_reference
from tests.export.ltx import published as ltx
from tests.export.published import library, quiet, t5_encoder, t5_tokenizer, wan_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from animatic_export.family import FamilyExport

WAN: Final = "wan2.1-1.3b"
SELF_FORCING: Final = "wan2.1-1.3b-self-forcing"
LTX: Final = "ltx-2b-distilled"
WEIGHTS: Final = "transformer/diffusion_pytorch_model.safetensors"


def prepare(name: str, **fields: Any) -> FamilyExport:
    return cast("FamilyExport", find_recipe(name).prepare(Request(**fields)))


def refusal(name: str, **fields: Any) -> str:
    with pytest.raises(ExportError) as caught:
        prepare(name, **fields)
    message = str(caught.value)
    assert message.endswith(".")
    assert len(message) < 600
    return message


@pytest.fixture(scope="session")
def wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Wan 2.1 as diffusers writes it. Not to be written to."""
    folder = tmp_path_factory.mktemp("wan") / "published"
    wan_pipeline(folder)
    return folder


@pytest.fixture
def wan(wan_folder: Path, tmp_path: Path) -> Path:
    """The same, to be written to."""
    return shutil.copytree(wan_folder, tmp_path / "published")


def change(folder: Path, part: str, **fields: object) -> None:
    """Change a part's config.json."""
    file = folder / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def change_tensors(file: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    change(tensors)
    save_file(tensors, file, {"format": "pt"})


def write_lora(file: Path) -> Path:
    module = "transformer.blocks.0.attn1.to_q"
    save_file(
        {
            f"{module}.lora_A.weight": torch.ones(2, 32),
            f"{module}.lora_B.weight": torch.ones(32, 2),
        },
        file,
    )
    return file


def write_tiny(file: Path, family: tuple[int, tuple[int, ...], int]) -> Path:
    state = taehv_reference.reference(family).state_dict()
    save_file({name: tensor.clone() for name, tensor in state.items()}, file)
    return file


def test_the_digest_is_over_all_that_decides_the_bundle(wan: Path, tmp_path: Path) -> None:
    lora = write_lora(tmp_path / "l.safetensors")
    usual: dict[str, Any] = {"checkpoint": str(wan), "sampler": "rcm-4"}
    requests: list[tuple[str, dict[str, Any]]] = [
        (WAN, usual),
        (WAN, usual | {"sampler": "base"}),
        (WAN, usual | {"sizes": ((64, 64),)}),
        (WAN, usual | {"adapters": (str(lora),)}),
        (WAN, usual | {"adapters": (f"{lora}:0.5",)}),
        (SELF_FORCING, {"checkpoint": str(wan)}),
        (SELF_FORCING, {"checkpoint": str(wan), "window": 6}),
    ]
    digests = [prepare(name, **fields).digest for name, fields in requests]
    assert len(set(digests)) == len(requests)
    assert [prepare(name, **fields).digest for name, fields in requests] == digests
    assert prepare(WAN, **usual, command="another").digest == digests[0]
    # The same tensors as four heads of half the width.
    change(wan, "transformer", num_attention_heads=4, attention_head_dim=8)
    assert prepare(WAN, **usual).digest not in digests


def test_a_lora_is_hashed_once(wan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def counted(file: Path) -> str:
        hashed.append(file.name)
        return sha256_file(file)

    monkeypatch.setattr("animatic_export.checkpoint.digest.sha256_file", counted)
    lora = str(write_lora(tmp_path / "l.safetensors"))
    assert prepare(WAN, checkpoint=str(wan), sampler="rcm-4", adapters=(lora,)).digest
    assert hashed.count("l.safetensors") == 1


@pytest.mark.parametrize(
    ("part", "name", "sentence"),
    [
        ("transformer", "blocks.1.attn1.to_k.bias", "which a Wan 2.1 of 2 layers and width 32 has"),
        ("vae", "decoder.conv_in.bias", "which the decoder of a Wan 2.1 VAE of this config has"),
        ("text_encoder", "encoder.final_layer_norm.weight", "which this text encoder has"),
    ],
)
def test_a_part_that_does_not_fit_is_refused_before_anything_is_loaded(
    wan: Path, monkeypatch: pytest.MonkeyPatch, part: str, name: str, sentence: str
) -> None:
    stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
    file = wan / part / f"{stem}.safetensors"
    whole = file.read_bytes()
    fields = {"checkpoint": str(wan), "sampler": "rcm-4"}
    change_tensors(file, lambda tensors: tensors.pop(name))

    def load(_: object, name: str) -> None:
        pytest.fail(f"{name} was loaded")

    monkeypatch.setattr("animatic_export.checkpoint.tensors.Checkpoint.__getitem__", load)
    assert f"has no tensor {name}, {sentence}" in refusal(WAN, **fields)
    file.write_bytes(whole)
    change_tensors(file, lambda tensors: tensors.update({name: torch.zeros(3)}))
    assert f"The tensor {name} is [3] and" in refusal(WAN, **fields)
    file.write_bytes(whole)
    prepare(WAN, **fields)


def test_a_tokenizer_that_is_none_is_refused(wan: Path) -> None:
    (wan / "tokenizer" / "tokenizer.json").write_text("{")
    assert "as a tokenizer" in refusal(WAN, checkpoint=str(wan), sampler="rcm-4")


def test_too_small_a_disk_is_refused_before_the_first_graph(
    wan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    export = prepare(WAN, checkpoint=str(wan), sampler="rcm-4")
    parts = sum(
        file.stat().st_size
        for part in ("transformer", "text_encoder")
        for file in (wan / part).glob("*.safetensors")
    )
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(parts // 2))
    with pytest.raises(ExportError, match=r"The bundle needs about .* GB are free: make"):
        export.write(tmp_path, pytest.fail)
    assert not list(tmp_path.glob("*.onnx"))


def test_another_kind_of_text_encoder_is_refused(wan: Path) -> None:
    fields = {"checkpoint": str(wan), "sampler": "rcm-4"}
    shutil.rmtree(wan / "text_encoder")
    with quiet():
        t5_encoder("t5").save_pretrained(wan / "text_encoder")
    assert "is a T5 and Wan 2.1 was made with a umT5: give the base" in refusal(WAN, **fields)
    shutil.rmtree(wan / "text_encoder")
    with quiet():
        t5_encoder("umt5", 16).save_pretrained(wan / "text_encoder")
    assert "gives states 16 wide and the denoiser takes 32" in refusal(WAN, **fields)


def test_a_bundle_is_called_by_its_shape(wan: Path) -> None:
    export = prepare(WAN, checkpoint=str(wan), sampler="rcm-4")
    text = export._description.text
    assert text == "Photoreal clips from a sentence: Wan 2.1 of 2 layers and width 32."
    assert LtxDenoiserConfig().title == "LTX-Video 2B"
    assert LtxDenoiserConfig(layers=48).title == "LTX-Video of 48 layers and width 2048"


def test_gates_that_are_left_out_are_said(wan: Path) -> None:
    fields = {"checkpoint": str(wan), "sampler": "fastwan-3"}
    assert not any("gates" in line for line in prepare(WAN, **fields).notices)
    name = "blocks.0.to_gate_compress.weight"
    change_tensors(wan / WEIGHTS, lambda tensors: tensors.update({name: torch.zeros(32, 32)}))
    line = "published: 1 tensors of gates for sparse attention are left out"
    assert any(notice.startswith(line) for notice in prepare(WAN, **fields).notices)


def test_a_folder_of_a_transformer_alone_takes_a_base(wan: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(wan / "transformer", tmp_path / "alone")
    fields = {"checkpoint": str(alone), "sampler": "fastwan-3"}
    message = refusal(WAN, **fields)
    assert "alone holds no text_encoder and no tokenizer and no vae: give a folder that" in message
    assert "--base Wan-AI/" in message
    # The shape is the folder's own, and not that of the base's transformer.
    change(wan, "transformer", num_layers=1)
    prepare(WAN, **fields, base=str(wan))
    shutil.rmtree(wan / "transformer")
    prepare(WAN, **fields, base=str(wan))
    assert "no transformer/*: give a checkpoint that does, whole, or what it lacks" in refusal(
        WAN, checkpoint=str(wan), sampler="rcm-4"
    )


def test_what_a_folder_lacks_may_come_from_a_base(wan: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    shutil.copytree(wan / "transformer", part / "transformer")
    message = refusal(WAN, checkpoint=str(part), sampler="rcm-4")
    assert "holds no text_encoder/*" in message
    assert "with --base, such as --base Wan-AI/Wan2.1-T2V-1.3B-Diffusers" in message


class Hub(NamedTuple):
    """What huggingface_hub was asked for; it has one folder."""

    folder: Path
    asked: list[list[str]]

    def fetch(self, _repository: str, *, allow_patterns: list[str], revision: str | None) -> str:
        assert revision is None
        self.asked.append(allow_patterns)
        return str(self.folder)


@pytest.fixture
def hub(wan: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(wan, [])
    monkeypatch.setattr("huggingface_hub.snapshot_download", made.fetch)
    return made


CONFIGS: Final = ["config.json", "*/config.json"]


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_another_model_on_the_hub_is_refused_before_its_weights_are_fetched(
    hub: Hub, part: str
) -> None:
    prepare(WAN, checkpoint="me/model", sampler="rcm-4")
    assert hub.asked[0] == CONFIGS
    assert "transformer/*" in hub.asked[1]
    hub.asked.clear()
    change(hub.folder, part, _class_name="Another", model_type="another")
    refusal(WAN, checkpoint="me/model", sampler="rcm-4")
    assert hub.asked == [CONFIGS]
    hub.asked.clear()
    refusal(WAN, checkpoint=str(hub.folder / WEIGHTS), base="me/model", sampler="rcm-4")
    assert hub.asked == [CONFIGS]


def test_a_repository_of_a_transformer_alone_takes_a_base(hub: Hub, wan_folder: Path) -> None:
    for file in (hub.folder / "transformer").iterdir():
        file.rename(hub.folder / file.name)
    (hub.folder / "transformer").rmdir()
    prepare(WAN, checkpoint="me/model", base=str(wan_folder), sampler="rcm-4")
    assert "diffusion_pytorch_model*" in hub.asked[1]
    assert "give a folder that does with --base" in refusal(
        WAN, checkpoint="me/model", sampler="rcm-4"
    )


def test_the_config_of_a_part_is_that_of_its_weights(wan: Path, tmp_path: Path) -> None:
    checkpoint = shutil.copytree(wan, tmp_path / "checkpoint")
    change(checkpoint, "vae", base_dim=96)
    change(checkpoint, "text_encoder", d_ff=7)
    change(wan, "transformer", num_layers=9)
    prepare(WAN, checkpoint=str(checkpoint), base=str(wan), sampler="rcm-4")


def test_a_local_file_is_asked_of_the_table_of_licences(wan: Path, tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "checkpoint": str(wan / WEIGHTS),
        "base": str(wan),
        "tiny_decoder": str(write_tiny(tmp_path / "taew2_1.safetensors", taehv_reference.WAN)),
    }
    notices = prepare(WAN, **fields, sampler="rcm-4").notices
    for component, place in (
        ("diffusion_pytorch_model.safetensors", "huggingface.co/worstcoder/rcm-Wan"),
        ("published", "huggingface.co/Wan-AI/Wan2.1-T2V-1.3B-Diffusers"),
        ("taew2_1.safetensors", "github.com/madebyollin/taehv"),
    ):
        start = f"{component}: if it is the one of https://{place}, "
        assert any(line.startswith(start) for line in notices)
    notices = prepare(SELF_FORCING, **fields).notices
    assert any("huggingface.co/gdhe17/Self-Forcing, " in line for line in notices)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"sizes": ((16400, 16),)}, "places of up to 16384 pixels along a side; give a smaller"),
        ({"frames": (4097,)}, "places of up to 4093 frames; give fewer --frames"),
    ],
)
def test_what_has_no_place_in_the_model_is_refused(
    wan_folder: Path, fields: dict[str, Any], sentence: str
) -> None:
    assert sentence in refusal(WAN, checkpoint=str(wan_folder), sampler="rcm-4", **fields)
    prepare(
        WAN,
        checkpoint=str(wan_folder),
        sampler="rcm-4",
        sizes=((16384, 16),),
        frames=(4093,),
    )


def test_only_ids_of_checkpoints_that_can_be_played_tell_their_sampler() -> None:
    known = {
        "FastVideo/FastWan2.1-T2V-1.3B-Diffusers": "fastwan-3",
        "worstcoder/rcm-Wan:rCM_Wan2.1_T2V_1.3B_480p.pt": "rcm-4",
        "lightx2v/Wan2.1-T2V-1.3B-StepDistill": "lightx2v-4",
        "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": "base",
    }
    for checkpoint, name in known.items():
        assert choose_sampler(None, checkpoint) == SAMPLERS[name]
    for checkpoint in ("TurboDiffusion/TurboWan2.1-T2V-1.3B-480P", "lightx2v/Autoencoders"):
        with pytest.raises(ExportError, match="give --sampler, one of"):
            choose_sampler(None, checkpoint)


class Ltx(NamedTuple):
    checkpoint: Path
    base: Path


@pytest.fixture(scope="session")
def ltx_files(tmp_path_factory: pytest.TempPathFactory) -> Ltx:
    """A tiny LTX-Video with the real one's channels: a single file and a base."""
    folder = tmp_path_factory.mktemp("ltx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ltx, "CHANNELS", 128)
        transformer, vae = ltx.transformer(), ltx.vae()
        tensors = ltx.single_file(transformer, vae)
    config = {"transformer": ltx.published(transformer), "vae": ltx.published(vae)}
    for name, distilled in (("plain", None), ("distilled", [1.0, 0.725])):
        said = config | ({"allowed_inference_steps": distilled} if distilled else {})
        metadata = {"config": json.dumps(said, default=str)}
        save_file(tensors, folder / f"{name}.safetensors", metadata)
    t5_tokenizer(folder / "base" / "tokenizer", fast=False)
    with quiet():
        t5_encoder("t5", ltx.TEXT_WIDTH).save_pretrained(folder / "base" / "text_encoder")
    return Ltx(folder, folder / "base")


def test_a_single_file_that_does_not_say_that_it_is_distilled(ltx_files: Ltx) -> None:
    for name, warned in (("plain", True), ("distilled", False)):
        file = ltx_files.checkpoint / f"{name}.safetensors"
        notices = prepare(LTX, checkpoint=str(file), base=str(ltx_files.base)).notices
        line = f"{name}.safetensors: nothing in it says that it is distilled"
        assert any(notice.startswith(line) for notice in notices) == warned


def test_a_tiny_decoder_of_ltx_is_said_to_be_another_models(ltx_files: Ltx, tmp_path: Path) -> None:
    fields = {
        "checkpoint": str(ltx_files.checkpoint / "distilled.safetensors"),
        "base": str(ltx_files.base),
    }
    tiny = write_tiny(tmp_path / "taeltx_2.safetensors", taehv_reference.LTX)
    line = "taeltx_2.safetensors: TAEHV files of 128 channels are known for LTX-2 alone; nothing"
    notices = prepare(LTX, **fields, tiny_decoder=str(tiny)).notices
    assert any(notice.startswith(line) for notice in notices)
    assert not any("LTX-2 alone" in notice for notice in prepare(LTX, **fields).notices)
    tiny = write_tiny(tmp_path / "taew2_1.safetensors", taehv_reference.WAN)
    message = refusal(LTX, **fields, tiny_decoder=str(tiny))
    assert "decodes latents of 16 channels for 8x8 pixels of 4 frames and this model's" in message


def test_a_tiny_decoder_of_other_factors_is_refused(wan: Path, tmp_path: Path) -> None:
    tiny = write_tiny(tmp_path / "taew2_1.safetensors", taehv_reference.WAN)
    with quiet():
        vae = library("diffusers").AutoencoderKLWan(
            base_dim=8, num_res_blocks=1, temperal_downsample=[False, False, True]
        )
    shutil.rmtree(wan / "vae")
    with quiet():
        vae.save_pretrained(wan / "vae")
    message = refusal(WAN, checkpoint=str(wan), sampler="rcm-4", tiny_decoder=str(tiny))
    assert "of 4 frames and this model's have 16 channels for 8x8 pixels of 2 frames" in message


def test_quantised_weights_are_refused(wan: Path) -> None:
    name = "blocks.0.attn1.to_q.weight"
    change_tensors(
        wan / WEIGHTS, lambda tensors: tensors.update({name: tensors[name].to(torch.float8_e4m3fn)})
    )
    with pytest.raises(CheckpointError, match=f"{name} is float8_e4m3fn: .*, not quantised"):
        prepare(WAN, checkpoint=str(wan), sampler="rcm-4")
