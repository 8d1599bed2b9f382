"""One engine that is wanted, and what identifies it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from animatic.fingerprint import engine_fingerprint
from animatic_engines.limits import workspace_bytes
from animatic_engines.profiles import axis_ranges

if TYPE_CHECKING:
    from animatic.bundle import AxisRange, Bundle, GraphSpec
    from animatic.targets import Target
    from animatic_engines.choices import Backend

__all__ = ["Order"]


class Order(NamedTuple):
    """A graph, the target and the backend that it is to be compiled for and by.

    capability: the target's compute capability, (8, 9) for SM89.
    profile: the range of every dynamic axis.
    """

    graph: GraphSpec
    target: Target
    backend: Backend
    capability: tuple[int, int]
    profile: tuple[AxisRange, ...]

    @classmethod
    def of(cls, bundle: Bundle, graph: GraphSpec, target: Target, backend: Backend) -> Order:
        """Work the profile out; GraphError if an axis has an unknown name."""
        # A target without one has no backend that builds, and was refused where those are chosen.
        capability = target.compute_capability or (0, 0)
        return cls(graph, target, backend, capability, axis_ranges(bundle, graph))

    @property
    def kind(self) -> str:
        """Such as "fp16 denoiser for rtx-40"."""
        return f"{self.graph.precision} {self.graph.role} for {self.target.name}"

    @property
    def graph_files(self) -> tuple[str, ...]:
        """The graph and its external data, within the bundle."""
        return (self.graph.file, *(data.file for data in self.graph.external_data))

    @property
    def doing(self) -> str:
        """The build as the subject of a sentence."""
        return f"Building the {self.kind}"

    @property
    def workspace(self) -> int:
        """Scratch memory in bytes that one layer may use on the device."""
        return workspace_bytes(self.target)

    @property
    def flags(self) -> dict[str, str]:
        """The builder's settings that change the engine, as they stand in its entry."""
        return {
            "compute_capability": ".".join(map(str, self.capability)),
            "profiling_verbosity": "detailed",
            "typing": "strong",
            "workspace_bytes": str(self.workspace),
        }

    @property
    def fingerprint(self) -> str:
        """Of all that goes into the build."""
        return engine_fingerprint(
            self.graph,
            target=self.target.name,
            backend=self.backend.name,
            backend_version=self.backend.version,
            profile=self.profile,
            flags=self.flags,
        )
