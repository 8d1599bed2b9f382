"""Whether a bundle is whole, its engines are of today, and they compute here what they should.

Every check gives one finding. What cannot be checked on this machine is said and is no fault: a
bundle may hold engines for ten targets, and a machine is at most one of them.
"""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from animatic.backends import how_to_install, installed_version
from animatic.detect import Device, detect_device
from animatic.errors import AnimaticError, BundleSchemaError, TargetError
from animatic.extras import how_to_add
from animatic.fingerprint import fresh
from animatic.store import sha256_file
from animatic.targets import find_target

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from animatic.bundle import EngineEntry, GraphSpec
    from animatic.engine import Engine
    from animatic.store import OpenBundle
    from animatic.targets import BackendName

    EngineOpener = Callable[[OpenBundle, EngineEntry, GraphSpec], Engine]

__all__ = ["TOLERANCES", "Finding", "verify_bundle"]

TOLERANCES: Final = {"fp16": 0.02, "bf16": 0.1, "int8": 0.25, "fp8": 0.25}
"""The largest relative error (L2) of an engine's outputs against the reference, by precision.

It tells a broken engine from a sound one on random inputs, for which the 8-bit ranges were not
made; what 8 bits cost on real ones is measured by calibration. The export itself allows half of
the first two.
"""

_BACKENDS: Final[dict[str, BackendName]] = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt_rtx"}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found.

    check: "files" (the bytes), "fresh" (an engine against its graph), "machine" (whether it can run
        here) or "run" (its results).
    subject: the file, relative to the bundle.
    outcome: "right", "wrong", or "open" where this machine cannot tell.
    sentence: says it; where it is wrong, with what mends it.
    """

    check: Literal["files", "fresh", "machine", "run"]
    subject: str
    outcome: Literal["right", "wrong", "open"]
    sentence: str


def verify_bundle(
    opened: OpenBundle,
    *,
    detect: Callable[[], Device] = detect_device,
    version: Callable[[BackendName], str | None] = installed_version,
    open_engine: EngineOpener | None = None,
) -> list[Finding]:
    """Check every file and every engine of a bundle; the findings come in the bundle's order.

    detect, version, open_engine: how this machine is asked for its GPU, for the version of a
        backend, and to open an engine (by default with TensorRT).
    """
    machine: Device | TargetError | None = None
    if opened.bundle.engines:
        try:
            machine = detect()
        except TargetError as error:
            machine = error
    findings = list(_model_files(opened))
    sound = {finding.subject for finding in findings if finding.outcome == "right"}
    for entry in opened.bundle.engines:
        graph = opened.bundle.graph(entry.role, entry.precision)
        reference = opened.bundle.graph(entry.role)
        found = [_engine_files(opened, entry), _freshness(opened, entry, graph, sound)]
        found.append(_machine(opened, entry, machine, version))
        findings += found
        if all(finding.outcome == "right" for finding in found) and reference.file in sound:
            findings.append(_run(opened, entry, reference, open_engine or _open_tensorrt))
    return findings


def _model_files(opened: OpenBundle) -> Iterator[Finding]:
    """One finding for each graph, with its weights, and one for what else comes with the model."""
    mend = "reinstall animatic or export the bundle again"
    bundle = opened.bundle
    for graph in bundle.graphs:
        files = [(graph.file, graph.sha256), *((d.file, d.sha256) for d in graph.external_data)]
        yield _files(opened, graph.file, files, mend)
    tokenizer = bundle.text.tokenizer
    rest: list[tuple[str, str | None]] = [(tokenizer.file, tokenizer.sha256)]
    rest += [(note.file, None) for note in bundle.licences]
    yield _files(opened, tokenizer.file, rest, mend)


def _engine_files(opened: OpenBundle, entry: EngineEntry) -> Finding:
    files = [(entry.file, entry.sha256), (entry.sidecar.file, entry.sidecar.sha256)]
    return _files(opened, entry.file, files, _build(opened, entry))


def _files(
    opened: OpenBundle, subject: str, files: Iterable[tuple[str, str | None]], mend: str
) -> Finding:
    """Whether files are what bundle.json says; a licence is stated without a hash."""
    for file, expected in files:
        problem = _damage(opened, file, expected)
        if problem is not None:
            whose = "" if file == subject else f"{file} "
            return Finding(
                check="files",
                subject=subject,
                outcome="wrong",
                sentence=f"{whose}{problem}; {mend}.",
            )
    return Finding(
        check="files", subject=subject, outcome="right", sentence="is as bundle.json says."
    )


def _damage(opened: OpenBundle, file: str, expected: str | None) -> str | None:
    try:
        path = opened.path(file)
        if not path.is_file():
            return "is missing"
        if expected is not None and sha256_file(path) != expected:
            return "is truncated or changed"
    except BundleSchemaError:
        return "is not inside the bundle's folder"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def _freshness(
    opened: OpenBundle, entry: EngineEntry, graph: GraphSpec, sound: Collection[str]
) -> Finding:
    if graph.file not in sound:
        return _finding("fresh", entry, "wrong", f"cannot be told: {graph.file} is damaged.")
    if fresh(entry, graph):
        return _finding("fresh", entry, "right", f"was built from today's {graph.file}.")
    return _finding(
        "fresh",
        entry,
        "wrong",
        f"is stale: it was built from another {graph.file} or with other settings; "
        f"{_build(opened, entry)}.",
    )


def _machine(
    opened: OpenBundle,
    entry: EngineEntry,
    machine: Device | TargetError | None,
    version: Callable[[BackendName], str | None],
) -> Finding:
    """Whether this machine has the engine's compute capability and the TensorRT that built it."""
    device = _its_device(entry, machine)
    if isinstance(device, str):
        return _finding("machine", entry, "open", f"was not run{device}")
    backend = _BACKENDS.get(entry.backend)
    if backend is None:
        return _finding(
            "machine",
            entry,
            "wrong",
            f"is of the backend {entry.backend!r}, which is unknown here; update animatic, or "
            f"{_build(opened, entry)}.",
        )
    here = version(backend)
    if here is None:
        return _finding(
            "machine",
            entry,
            "open",
            f"was not run: {backend} is not installed; "
            f"{how_to_install(backend, entry.backend_version)}.",
        )
    if here != entry.backend_version:
        return _finding(
            "machine",
            entry,
            "wrong",
            f"was built with {backend} {entry.backend_version} and {here} is installed, which "
            f"does not take it; {_build(opened, entry)}.",
        )
    return _finding(
        "machine", entry, "right", f"is for this machine's {device.name} and {backend} {here}."
    )


def _its_device(entry: EngineEntry, machine: Device | TargetError | None) -> Device | str:
    """This machine's device, if the engine is for it; else why not, to follow "was not run"."""
    if not isinstance(machine, Device):
        return f". {machine}"
    try:
        target = find_target(entry.target)
    except TargetError as error:  # of a newer animatic
        return f". {error}"
    if machine.compute_capability != target.compute_capability:
        return f": it is for {target.name} and this machine has a {machine.name}."
    return machine


def _run(
    opened: OpenBundle, entry: EngineEntry, reference: GraphSpec, open_engine: EngineOpener
) -> Finding:
    """Run an engine and ONNX Runtime on the same inputs and compare."""
    tolerance = TOLERANCES.get(entry.precision)
    if tolerance is None:
        return _finding(
            "run", entry, "open", f"was not run: no tolerance is stated for {entry.precision}."
        )
    try:
        error = _difference(opened, entry, reference, open_engine)
    except AnimaticError as trouble:
        return _finding("run", entry, "wrong", f"does not run. {trouble}")
    except ModuleNotFoundError as missing:
        if (missing.name or "animatic").partition(".")[0] == "animatic":
            raise  # a bug of ours
        mend = f"{how_to_add('gpu')} brings it"
        return _finding("run", entry, "open", f"was not run: {missing.name} is missing; {mend}.")
    measured = f"differs from ONNX Runtime by {error:.2g} (L2, relative; {tolerance:g} is allowed)"
    if error <= tolerance:  # false for NaN
        return _finding("run", entry, "right", f"{measured}.")
    return _finding("run", entry, "wrong", f"{measured}; {_build(opened, entry, force=True)}.")


def _difference(
    opened: OpenBundle, entry: EngineEntry, reference: GraphSpec, open_engine: EngineOpener
) -> float:
    from animatic.agreement import random_inputs, relative_error
    from animatic.engine import OnnxRuntimeEngine

    with contextlib.ExitStack() as stack:
        engine = open_engine(opened, entry, opened.bundle.graph(entry.role, entry.precision))
        stack.callback(engine.close)
        judge = OnnxRuntimeEngine(opened.path(reference.file), reference)
        stack.callback(judge.close)
        return relative_error(engine, judge, random_inputs(opened, reference, entry.profile))


def _open_tensorrt(opened: OpenBundle, entry: EngineEntry, graph: GraphSpec) -> Engine:
    from animatic.engine.tensorrt import TensorRtEngine

    return TensorRtEngine(opened.path(entry.file), graph, entry)


def _build(opened: OpenBundle, entry: EngineEntry, *, force: bool = False) -> str:
    """The command that makes an engine anew."""
    words = ["animatic", "build", str(opened.root), "--target", entry.target]
    return f"run `{shlex.join([*words, '--force'] if force else words)}`"


def _finding(
    check: Literal["fresh", "machine", "run"],
    entry: EngineEntry,
    outcome: Literal["right", "wrong", "open"],
    sentence: str,
) -> Finding:
    return Finding(check=check, subject=entry.file, outcome=outcome, sentence=sentence)
