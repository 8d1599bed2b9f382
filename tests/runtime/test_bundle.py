from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from animatic.bundle import (
    SCHEMA_VERSION,
    Adapter,
    Bundle,
    FileRef,
    LicenceNote,
    SamplerSpec,
    Schedule,
    StatePair,
    TextSpec,
    Tier,
    decode_bundle,
    encode_bundle,
)
from animatic.errors import (
    BundleError,
    BundleIntegrityError,
    BundleNotFoundError,
    BundleSchemaError,
    OutputError,
)
from animatic.store import (
    OpenBundle,
    open_bundle,
    sha256_file,
    shipped_bundle_path,
    verify_files,
    write_bundle,
)
from tests.runtime.fake_model import (
    CONTEXT,
    DENOISER,
    POSITIONED,
    SIGMAS,
    TEXT_ENCODER,
    TINY_DECODER,
    VAE_DECODER,
    ZEROS,
    FakeModel,
    an_engine,
    fake_bundle,
    tensor,
)

replace = msgspec.structs.replace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole bundle on disk: three graphs (one with external data), tokenizer, licence."""
    root = tmp_path / "tiny"
    (root / "licences").mkdir(parents=True)
    for name in ("text_encoder.onnx", "denoiser.onnx", "vae_decoder.onnx", "tokenizer.json"):
        (root / name).write_bytes(name.encode() * 100)
    (root / "denoiser.data").write_bytes(bytes(range(256)) * 10)
    (root / "licences" / "tiny.txt").write_text("Do what you like.")

    def reference(name: str) -> FileRef:
        return FileRef(file=name, sha256=sha256_file(root / name))

    graphs = tuple(
        replace(
            graph,
            sha256=sha256_file(root / graph.file),
            external_data=(reference("denoiser.data"),) if graph is DENOISER else (),
        )
        for graph in (TEXT_ENCODER, DENOISER, VAE_DECODER)
    )
    text = TextSpec(tokenizer=reference("tokenizer.json"), max_tokens=8, pad_to_max=True)
    note = LicenceNote(component="tiny", spdx="0BSD", file="licences/tiny.txt")
    write_bundle(root, fake_bundle(graphs=graphs, text=text, licences=(note,)))
    return root


def test_round_trip(bundle: Bundle) -> None:
    data = encode_bundle(bundle)
    assert decode_bundle(data) == bundle
    assert encode_bundle(decode_bundle(data)) == data
    assert data.endswith(b"}\n")
    assert b'\n  "schema_version": 2,\n' in data


def test_the_schema_before_is_still_read(bundle: Bundle) -> None:
    """Its bundles say less, and what they do not say has a default that means what it meant."""
    old = encode_bundle(replace(bundle, schema_version=1))
    assert decode_bundle(old) == replace(bundle, schema_version=1)
    assert encode_bundle(decode_bundle(old)) == old


# If one of these fails, every stored clip has lost its bundle: do not update them lightly.
BLOCKOUT = "992234dc8b137ce38bf64cd35b97254aa3a894feae72b482bcc79c2aad3e1f00"
BEFORE = "24210f31fe1667a03b6982df2c86f98cbc5e623e214aaa3920fcb41d1eba5805"


def test_the_shipped_bundle_has_its_digest() -> None:
    assert open_bundle(verify=False).digest == BLOCKOUT


@pytest.mark.parametrize("schema", [1, SCHEMA_VERSION])
def test_a_bundle_without_what_is_new_keeps_its_digest(tmp_path: Path, schema: int) -> None:
    """Whatever fields the schema gains and whatever its number is."""
    old = Path(__file__).with_name("schema_1.json").read_text()
    numbered = old.replace('"schema_version": 1', f'"schema_version": {schema}')
    (tmp_path / "bundle.json").write_text(numbered)
    assert open_bundle(tmp_path, verify=False).digest == BEFORE


def test_round_trip_on_disk(folder: Path) -> None:
    opened = open_bundle(folder)
    assert opened.root == folder
    assert opened.digest != open_bundle().digest
    assert opened.bundle.graph("denoiser").external_data[0].file == "denoiser.data"
    assert write_bundle(folder, opened.bundle) == opened.digest
    assert open_bundle(str(folder)) == opened


def test_absent_graph(bundle: Bundle) -> None:
    with pytest.raises(BundleSchemaError, match="has no vae_encoder graph; export"):
        bundle.graph("vae_encoder")


def test_a_bundle_may_be_named_by_its_json(folder: Path) -> None:
    assert open_bundle(folder / "bundle.json") == open_bundle(folder)


def test_a_file_is_no_bundle(folder: Path) -> None:
    with pytest.raises(BundleNotFoundError, match=r"tokenizer.json is a file; give the folder"):
        open_bundle(folder / "tokenizer.json")


def test_a_damaged_engine_is_built_again_not_exported(folder: Path) -> None:
    bundle = open_bundle(folder).bundle
    entry = replace(an_engine(), precision=bundle.graph("denoiser").precision)
    for file in (entry.file, entry.sidecar.file):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"cut")
    write_bundle(folder, replace(bundle, engines=(entry,)))
    with pytest.raises(
        BundleIntegrityError, match=r"denoiser.plan is truncated .*`animatic build .* --target gpu`"
    ):
        open_bundle(folder)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFoundError, match=r"There is no bundle at .*; give a folder"):
        open_bundle(tmp_path)
    for path in (tmp_path / "nowhere", "a\0b"):
        with pytest.raises(BundleNotFoundError, match=r"give a folder that holds a bundle.json"):
            open_bundle(path)


def test_no_shipped_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("animatic.store.shipped_bundle_path", lambda: tmp_path)
    with pytest.raises(BundleNotFoundError, match="missing from this installation; reinstall"):
        open_bundle()


def test_shipped_bundle_lies_in_the_package() -> None:
    assert shipped_bundle_path().parts[-3:] == ("animatic", "bundles", "blockout")


def test_unknown_schema(folder: Path) -> None:
    path = folder / "bundle.json"
    path.write_bytes(b'{"schema_version": 3, "something": {"new": [1, 2]}}')
    with pytest.raises(BundleSchemaError, match=r"has schema 3 .* reads schema 2; update animatic"):
        open_bundle(folder)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"schema_version": "1"}',
        b'{"schema_version": 1}',
        b'{"schema_version": 1.5}',
        b"\xff\xfe",
        b'{"schema_version": 1, "name": "\xff"}',
        b'{"schema_version": 1, "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"\0" * 1000,
    ],
)
def test_malformed(folder: Path, data: bytes) -> None:
    (folder / "bundle.json").write_bytes(data)
    with pytest.raises(BundleSchemaError, match=r"malformed .*; reinstall animatic or export"):
        open_bundle(folder)


def test_truncated_at_every_byte(bundle: Bundle) -> None:
    data = encode_bundle(bundle)
    for length in range(0, len(data) - 2, 7):
        with pytest.raises(BundleSchemaError):
            decode_bundle(data[:length])


def test_unknown_field(bundle: Bundle) -> None:
    fields = msgspec.json.decode(encode_bundle(bundle))
    fields["geometry"]["colour"] = "green"
    with pytest.raises(BundleSchemaError, match=r"unknown field `colour`.*\$\.geometry"):
        decode_bundle(msgspec.json.encode(fields))


def test_everything_new_at_once(bundle: Bundle) -> None:
    """What the schema after the first can say, in one bundle that does not contradict itself."""
    whole = replace(
        bundle,
        sampler=replace(
            bundle.sampler,
            kind="unipc",
            timesteps=(999.0, 937.0, 750.0, 500.0),
            schedules=(Schedule(sigmas=(1.0, 0.5)), Schedule(sigmas=(1.0,), timesteps=(999.0,))),
            guidance=5.0,
            negative_prompt="色调艳丽",
        ),
        latents=replace(bundle.latents, decode_noise=0.025),
        text=replace(bundle.text, states_length=512, costly=True),
        tiers=(
            Tier(name="preview", size=bundle.geometry.sizes[1], steps=2, decoder="tiny_decoder"),
            Tier(name="final", size=bundle.geometry.sizes[0]),
        ),
        graphs=(*bundle.graphs, TINY_DECODER),
        provenance=replace(
            bundle.provenance,
            adapters=(Adapter(file="lora.safetensors", sha256=ZEROS, strength=0.8),),
        ),
    )
    assert decode_bundle(encode_bundle(whole)) == whole


def test_all_that_a_model_of_many_blocks_says() -> None:
    """Which cannot be guided, as its state is of one run."""
    cache = tensor("cache", "float32", "batch", 2, "rows", "columns")
    causal = replace(
        POSITIONED,
        inputs=(*POSITIONED.inputs, cache),
        outputs=(*POSITIONED.outputs, replace(cache, name="next_cache")),
        states=(StatePair(input="cache", output="next_cache"),),
    )
    whole = fake_bundle(
        sampler=SamplerSpec(kind="renoise", sigmas=SIGMAS, context_timestep=0.0),
        conditioning=CONTEXT,
        geometry=replace(fake_bundle().geometry, frame_counts=(33, 9, 5)),
        graphs=(TEXT_ENCODER, causal, VAE_DECODER),
    )
    assert decode_bundle(encode_bundle(whole)) == whole
    FakeModel().pipeline(whole)


@pytest.mark.parametrize("changes", [{"name": "\ud800"}, {"name": 7}, {"licences": (1,)}])
def test_values_that_are_not_of_the_contract_are_not_written(changes: dict[str, Any]) -> None:
    with pytest.raises(
        BundleSchemaError, match=r"cannot be written as JSON .*; correct that value"
    ):
        encode_bundle(fake_bundle(**changes))


@pytest.mark.parametrize(
    "file", ["text_encoder.onnx", "denoiser.data", "tokenizer.json", "licences/tiny.txt"]
)
def test_missing_file(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(BundleIntegrityError, match=rf"{file} of the bundle is missing; reinstall"):
        open_bundle(folder)
    assert open_bundle(folder, verify=False).bundle.name == "tiny"


@pytest.mark.parametrize("file", ["vae_decoder.onnx", "denoiser.data", "tokenizer.json"])
def test_flipped_byte(folder: Path, file: str) -> None:
    data = bytearray((folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / file).write_bytes(data)
    with pytest.raises(BundleIntegrityError, match=rf"{file} is truncated or changed.*; reinstall"):
        verify_files(open_bundle(folder, verify=False))


@pytest.mark.parametrize("length", [0, 1, 500])
def test_truncated_graph(folder: Path, length: int) -> None:
    path = folder / "denoiser.onnx"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BundleIntegrityError, match=r"denoiser.onnx is truncated"):
        open_bundle(folder)


def test_engines_are_verified_too(folder: Path) -> None:
    bundle = open_bundle(folder).bundle
    entry = replace(an_engine(), precision=bundle.graph("denoiser").precision)
    write_bundle(folder, replace(bundle, engines=(entry,)))
    with pytest.raises(BundleIntegrityError, match=r"denoiser.plan of the bundle is missing"):
        open_bundle(folder)


@pytest.mark.parametrize(
    "file",
    ["../x", "a/../../x", "/etc/passwd", "..", ".", "", "C:/x", "a\\..\\x", "\\\\host\\x", "a\0b"],
)
def test_paths_do_not_leave_the_folder(folder: Path, file: str) -> None:
    opened = open_bundle(folder)
    with pytest.raises(BundleSchemaError, match="not inside the bundle's folder; do not use"):
        opened.path(file)
    text = replace(opened.bundle.text, tokenizer=FileRef(file=file, sha256=ZEROS))
    (folder / "bundle.json").write_bytes(encode_bundle(replace(opened.bundle, text=text)))
    with pytest.raises(BundleSchemaError):
        open_bundle(folder)


def test_path_within(bundle: Bundle) -> None:
    opened = OpenBundle(Path("root"), bundle, ZEROS)
    assert opened.path("licences/tiny.txt") == Path("root", "licences", "tiny.txt")


class Interruption(BaseException):
    """Stands for Ctrl-C."""


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), Interruption()])
def test_a_failed_write_leaves_the_old_bundle(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, failure: BaseException
) -> None:
    before = (folder / "bundle.json").read_bytes()
    listing = sorted(path.name for path in folder.iterdir())

    def fail(*_: object) -> None:
        raise failure

    owner: object = os if call == "fsync" else Path
    expected = OutputError if isinstance(failure, OSError) else Interruption
    changed = replace(open_bundle(folder).bundle, name="other")
    with monkeypatch.context() as patch:
        patch.setattr(owner, call, fail)
        with pytest.raises(expected):
            write_bundle(folder, changed)
    assert (folder / "bundle.json").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == listing


def test_an_invalid_bundle_touches_nothing(tmp_path: Path) -> None:
    with pytest.raises(BundleSchemaError):
        write_bundle(tmp_path / "new", fake_bundle(name="\ud800"))
    assert not (tmp_path / "new").exists()


def test_writing_where_one_may_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written .*; choose a folder"):
        write_bundle(tmp_path / "file", fake_bundle())


def test_write_makes_the_folder(tmp_path: Path, bundle: Bundle) -> None:
    digest = write_bundle(tmp_path / "a" / "b", bundle)
    assert open_bundle(tmp_path / "a" / "b", verify=False).digest == digest


def test_every_bundle_error_is_one() -> None:
    for kind in (BundleIntegrityError, BundleNotFoundError, BundleSchemaError):
        assert issubclass(kind, BundleError)


def test_name_that_is_too_long_is_one_sentence(folder: Path) -> None:
    note = LicenceNote(component="tiny", spdx="0BSD", file="x" * 300)
    opened = open_bundle(folder)
    long = OpenBundle(folder, replace(opened.bundle, licences=(note,)), ZEROS)
    with pytest.raises(BundleIntegrityError, match=r"cannot be read \(File name too long\)"):
        verify_files(long)
