"""What is to be built: which graphs, and by which backend. Every refusal names its remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, get_args

from animatic.bundle import Role
from animatic.errors import TargetError
from animatic.extras import how_to_add
from animatic_engines.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from animatic.bundle import Bundle, GraphSpec
    from animatic.targets import Target
    from animatic_engines.presence import Presence

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Backend",
    "Probe",
    "check_target",
    "choose_backend",
    "choose_graphs",
]

PRECISIONS: Final = ("fp16", "bf16", "int8", "fp8")
_TITLES: Final[Mapping[str, str]] = {"tensorrt_rtx": "TensorRT-RTX", "tensorrt": "TensorRT"}
BACKENDS: Final = tuple(_TITLES)


class Backend(NamedTuple):
    """A package that compiles, and its version."""

    name: str
    version: str

    @property
    def title(self) -> str:
        """As people call it: "TensorRT-RTX 1.7.1.116"."""
        return f"{_TITLES[self.name]} {self.version}"


class Probe(NamedTuple):
    """What importing a backend gave: its version, or the reason why there is none."""

    version: str
    reason: str


def check_target(target: Target, precision: str) -> None:
    """Refuse what no bundle could make good: TargetError.

    That is a target that needs no engines, or one that does not compute in the precision.
    """
    _serving(target)
    if precision not in target.precisions:
        raise TargetError(
            f"{target.name} does not compute in {precision}; choose --precision "
            f"{' or '.join(p for p in target.precisions if p in PRECISIONS)}."
        )


def choose_graphs(
    bundle: Bundle, target: Target, precision: str, *, text: bool = False
) -> tuple[GraphSpec, ...]:
    """For each role the graph of a precision, else the one in half precision.

    text: also for a text encoder that is costly, which the runtime leaves on the processor.

    Raises:
        TargetError: as check_target.
        BuildError: no graph of the bundle is in it, or a role has none for engines.
    """
    check_target(target, precision)
    # Encoders of T5's family overflow in fp16 and have bf16 only, whatever the rest computes in.
    order = (precision, "fp16", "bf16")
    chosen: list[GraphSpec] = []
    for role in _roles(bundle, target, text=text):
        graphs = {g.precision: g for g in bundle.graphs if g.role == role}
        usable = [p for p in order if p in graphs and p in target.precisions]
        if not usable:
            raise BuildError(_no_graph(bundle, f"{role} graph for engines", precision))
        chosen.append(graphs[usable[0]])
    if all(graph.precision != precision for graph in chosen):
        raise BuildError(_no_graph(bundle, f"{precision} graph", precision))
    return tuple(chosen)


def _roles(bundle: Bundle, target: Target, *, text: bool) -> list[Role]:
    """The roles that get an engine; a costly text encoder does if it had one for the target."""
    roles: list[Role] = [r for r in get_args(Role) if any(g.role == r for g in bundle.graphs)]
    had = any((e.role, e.target) == ("text_encoder", target.name) for e in bundle.engines)
    if bundle.text.costly and not text and not had and "text_encoder" in roles:
        roles.remove("text_encoder")
    return roles


def _no_graph(bundle: Bundle, what: str, precision: str) -> str:
    return (
        f"The bundle {bundle.name} has no {what}; make a bundle that has one: animatic export "
        f"{bundle.family} --precision {precision} --out FOLDER."
    )


def _serving(target: Target) -> list[str]:
    """The backends that build for a target, in order of preference; TargetError if none does."""
    served: list[str] = [b.name for b in target.backends if b.name in BACKENDS]
    if not served:
        raise TargetError(
            f"{target.name} runs the bundle's own graphs and needs no engine; leave it out of "
            "--target."
        )
    return list(dict.fromkeys(served))


def choose_backend(
    target: Target,
    wanted: str | None,
    root: Path,
    *,
    probe: Callable[[str], Probe],
    presence: Callable[[Target], Presence],
) -> Backend:
    """Choose what builds for a target here: the backend asked for, or the first that can.

    probe: imports a backend. presence: looks for the target's card, where TensorRT must build.
    TargetError says where else it can be built.
    """
    served = _serving(target)
    if wanted is not None and wanted not in served:
        raise TargetError(
            f"{_TITLES[wanted]} does not serve {target.name}; {_elsewhere(target, served[0], root)}"
        )
    reasons: list[str] = []
    for name in served if wanted is None else [wanted]:
        found = probe(name)
        ranges = " or ".join(b.words for b in target.backends if b.name == name)
        if found.reason:
            reasons.append(f"{name} cannot be imported here ({found.reason})")
        elif not target.supports(name, found.version):
            reasons.append(f"{name} {found.version} is here and {target.name} takes {ranges}")
        elif name == "tensorrt" and (reason := presence(target).reason):
            reasons.append(f"TensorRT builds only where the card is ({reason})")
        else:
            return Backend(name, found.version)
    best = wanted or served[0]
    raise TargetError(
        f"Nothing here builds engines for {target.name}: {'; '.join(reasons)}; "
        f"{_elsewhere(target, best, root)}"
    )


def _elsewhere(target: Target, name: str, root: Path) -> str:
    """Where it can be built and with what; ends a sentence."""
    command = f"animatic build {root} --target {target.name}"
    if name == "tensorrt":
        brought = "pip install tensorrt; a Jetson's system brings its own"
        return f"build it on the {target.title} itself ({brought}): {command}."
    return f"{how_to_add('build')} brings what builds it, then {command}."
