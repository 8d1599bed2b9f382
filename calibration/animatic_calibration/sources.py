"""Which graphs of a bundle are quantised, and what their quantisation is made from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from animatic.errors import BundleIntegrityError, BundleSchemaError
from animatic.shot import usual_decoder
from animatic.store import verify_files
from animatic_calibration.errors import CalibrationError
from animatic_calibration.publish import SOURCE, report_path
from animatic_calibration.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from animatic.bundle import GraphSpec, Role
    from animatic.store import OpenBundle
    from animatic_calibration.prompts import PromptSplit

__all__ = [
    "LIMITS",
    "Limits",
    "Settings",
    "Sources",
    "fingerprint",
    "is_fresh",
    "stored_bytes",
]

METHOD: Final = 2
"""Raised when the same inputs give other graphs, so that old ones are made again."""


@dataclass(frozen=True)
class Settings:
    """What may be chosen.

    precision: "int8" or "fp8". ranges: one method for all tensors; None is the best for each.
    target_psnr: dB of whole clips against the float32 reference, even the worst of them.
    clips, frames: as in `Effort.of`.
    """

    precision: str = "int8"
    ranges: str | None = None
    target_psnr: float = 35.0
    clips: int | None = None
    frames: int | None = None


@dataclass(frozen=True)
class Limits:
    """Bytes of a graph's weights.

    costly: of the denoiser; above, clips are costly (`effort`). in_memory: above, weights stay in
    files (`weights`). one_file: above, the graph that is made has a second file for them, as
    protobuf holds less than 2 GiB.
    """

    costly: int = 1 << 28
    in_memory: int = 1 << 28
    one_file: int = 1 << 30


LIMITS: Final = Limits()


@dataclass(frozen=True)
class Sources:
    """What is quantised: the denoiser and the decoders, as far as they are there in float16.

    The text encoder runs once a prompt: nothing is gained there.

    graphs: by role, in the order in which they are dealt with: the denoiser, the decoder that is
        used where nobody chooses one, the other. left: the decoders that stay as they are, and why.
    """

    graphs: Mapping[Role, GraphSpec]
    left: Mapping[Role, str]

    @classmethod
    def of(cls, opened: OpenBundle) -> Sources:
        """Find them; CalibrationError if the denoiser is not among them."""
        bundle = opened.bundle
        there = {graph.role for graph in bundle.graphs}
        usual: Role = usual_decoder(bundle)
        order: tuple[Role, ...] = ("denoiser", usual, "vae_decoder")
        graphs: dict[Role, GraphSpec] = {}
        left: dict[Role, str] = {}
        for role in dict.fromkeys(order):
            if role not in there:
                continue
            try:
                graphs[role] = bundle.graph(role, SOURCE)
            except BundleSchemaError as error:
                if role != "denoiser":
                    left[role] = f"it has no {SOURCE} graph"
                    continue
                raise CalibrationError(
                    f"The bundle {opened.root} has no {SOURCE} graph of the {role} to quantise; "
                    f"export it with `animatic export RECIPE --precision {SOURCE}`."
                ) from error
        return cls(graphs, left)

    def read(self, opened: OpenBundle) -> Iterator[GraphSpec]:
        """Every graph that a calibration reads."""
        roles: tuple[Role, ...] = (*self.graphs, *self.left, "text_encoder")
        yield from self.graphs.values()
        yield from (opened.bundle.graph(role) for role in roles)

    def files(self, opened: OpenBundle) -> set[str]:
        """The files of the bundle that a calibration reads."""
        graphs = list(self.read(opened))
        data = {data.file for graph in graphs for data in graph.external_data}
        return data | {graph.file for graph in graphs} | {opened.bundle.text.tokenizer.file}


def stored_bytes(opened: OpenBundle, graph: GraphSpec) -> int:
    """Count the bytes of a graph's files."""
    files = (graph.file, *(data.file for data in graph.external_data))
    return sum(opened.path(file).stat().st_size for file in files)


def fingerprint(opened: OpenBundle, prompts: PromptSplit, settings: Settings) -> str:
    """Hash all that a calibration is made from, as SHA-256 in hex.

    The other quantised graphs, the engines and the scores do not count.
    """
    bundle = opened.bundle
    graphs = list(Sources.of(opened).read(opened))
    chosen = asdict(settings)
    for late in ("clips", "frames"):  # which no settings had once, and then stand for the same
        if chosen[late] is None:
            del chosen[late]
    parts = {
        "method": METHOD,
        "graphs": [[g.role, g.sha256, *(d.sha256 for d in g.external_data)] for g in graphs],
        "model": msgspec.to_builtins(
            [bundle.geometry, bundle.latents, bundle.sampler, bundle.text]
        ),
        "prompts": [prompts.calibration, prompts.held],
        "settings": chosen,
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def is_fresh(opened: OpenBundle, precision: str, made_from: str) -> bool:
    """Whether whole graphs and a report of these very inputs are there."""
    made = [g for g in opened.bundle.graphs if (g.precision, g.made_from) == (precision, made_from)]
    files = {graph.file for graph in made}
    files |= {data.file for graph in made for data in graph.external_data}
    try:
        verify_files(opened, files)
        report = msgspec.json.decode(report_path(opened.root, precision).read_bytes(), type=Report)
    except (OSError, msgspec.MsgspecError, BundleIntegrityError):
        return False
    return {graph.role for graph in made} >= set(report.calls) and report.made_from == made_from
