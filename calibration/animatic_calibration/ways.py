"""The networks of a bundle, and the ways through them by which they are judged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from animatic.shot import usual_decoder
from animatic_calibration.errors import CalibrationError
from animatic_calibration.layers import survey
from animatic_calibration.network import Network
from animatic_calibration.publish import SOURCE
from animatic_calibration.sources import stored_bytes
from animatic_calibration.split_products import split_products
from animatic_calibration.weights import IN_GRAPH, Weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from animatic.bundle import Bundle, DecoderRole, Role
    from animatic.shot import Shot
    from animatic.store import OpenBundle
    from animatic_calibration.sources import Sources

__all__ = ["Way", "load_networks", "ways"]


class Way(NamedTuple):
    """A decoder and the networks that are judged by what it draws.

    The usual decoder shows what the denoiser does, and itself; another one only itself, on what the
    reference denoiser gives it.
    """

    decoder: DecoderRole
    networks: Mapping[Role, Network]

    def shots(self, shots: Sequence[Shot]) -> list[Shot]:
        """Have shots drawn by this decoder."""
        return [replace(shot, decoder=self.decoder) for shot in shots]


def ways(bundle: Bundle, networks: Mapping[Role, Network]) -> list[Way]:
    """Part networks by the decoder that judges them, the usual one first."""
    usual = usual_decoder(bundle)
    apart: set[Role] = set() if usual == "vae_decoder" else {"vae_decoder"}
    found = [Way(usual, {role: n for role, n in networks.items() if role not in apart})]
    if apart & networks.keys():
        found.append(Way("vae_decoder", {"vae_decoder": networks["vae_decoder"]}))
    return found


def load_networks(
    opened: OpenBundle, sources: Sources, folder: Path, in_memory: int
) -> tuple[dict[Role, Network], dict[Role, str]]:
    """Read the graphs that are quantised; also says which decoders stay as they are, and why.

    folder: in the bundle, for the weights made of graphs of more than `in_memory` bytes.
    CalibrationError if there is nothing in the denoiser that can be quantised.
    """
    networks: dict[Role, Network] = {}
    left = dict(sources.left)
    for role, spec in sources.graphs.items():
        weights = IN_GRAPH
        if stored_bytes(opened, spec) > in_memory:
            weights = Weights(opened.root, folder / f"{role}.data")
        model = split_products(weights.load(opened.path(spec.file)), weights)
        found = survey(model, weights)
        if found.layers:
            networks[role] = Network(spec, model, found.layers, found.left_out, {}, weights)
        elif role == "denoiser":
            raise CalibrationError(
                f"The {SOURCE} graph of the {role} has no layer that can be quantised; leave this "
                f"bundle in {SOURCE}."
            )
        else:
            left[role] = f"its {SOURCE} graph has no layer that can be quantised"
    return networks, left
