"""What calibration did and what it cost, as JSON for tools and Markdown for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Fidelity", "LayerReport", "Report", "to_json", "to_markdown"]


_LEGEND = (
    "SNR is of the layer's own output when it alone is quantised, with the range chosen; graph SNR "
    "of the graph's output when it and those that share its input are. An SNR of 120 dB: none lost."
)


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """What every part of a report is."""


class LayerReport(_Part, frozen=True, kw_only=True):
    """One layer that could be quantised.

    amax: where its input is clipped; `ranges` has every method's answer.
    snr_db: of its own output when only it is quantised, for each method.
    alpha: of SmoothQuant, None where it gains too little; `smoothed` is "folded" or "mul".
    graph_snr_db: of the graph's output when only this layer, and those that share its input, are
        quantised; None where that was not measured, as clips are costly.
    kept: why it stays in float16; empty if it does not.
    """

    graph: str
    name: str
    kind: str
    channels: tuple[int, int]
    method: str
    amax: float
    ranges: dict[str, float]
    snr_db: dict[str, float]
    alpha: float | None
    alpha_gain_db: float
    smoothed: str
    graph_snr_db: float | None
    kept: str


class Fidelity(_Part, frozen=True, kw_only=True):
    """How near clips are to those of the float32 reference at the same seeds.

    psnr_db: of the error pooled over the clips. ssim: the mean.
    """

    psnr_db: float
    worst_psnr_db: float
    ssim: float
    clips: int


class Report(_Part, frozen=True, kw_only=True):
    """A whole calibration.

    made_from: the fingerprint of its inputs, as the graphs in bundle.json carry it.
    measured: fidelity on prompts that nothing was chosen on, of the float16 graphs and of these.
    shortfall: that the worst clip measured is under the target, in words; "" if it is not.
    range_psnr_db: pooled PSNR on the prompts that choices were made on, with every range chosen
        by one method; "chosen" is what the graphs have.
    clip: how the clips that were listened to were made, in words.
    measured_apart: the same as `measured` of a decoder that is not the usual one, by its role: on
        what the float32 denoiser gives it.
    left_out: what cannot be quantised, and why. left: decoders of which nothing is, and why.
    seconds: by step.
    """

    made_from: str
    bundle: str
    precision: str
    animatic: str
    target_psnr_db: float
    jury_target_psnr_db: float
    jury_clips: int
    calibration_prompts: int
    clip: str
    calls: dict[str, int]
    measured: dict[str, Fidelity]
    measured_apart: dict[str, dict[str, Fidelity]]
    shortfall: str
    range_psnr_db: dict[str, float]
    layers: tuple[LayerReport, ...]
    left_out: dict[str, dict[str, str]]
    left: dict[str, str]
    seconds: dict[str, float]


def to_json(report: Report) -> bytes:
    """Write the report as JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def to_markdown(report: Report) -> str:
    """Write the report as Markdown."""
    kept = [layer for layer in report.layers if layer.kept]
    calls = ", ".join(f"{count} of the {graph}" for graph, count in report.calls.items())
    summary = (
        f"Made by animatic {report.animatic} from inputs {report.made_from[:16]}. "
        f"{report.calibration_prompts} prompts ({report.clip}), {calls} listened to; "
        f"{len(report.layers) - len(kept)} of {len(report.layers)} layers are in "
        f"{report.precision}. {sum(report.seconds.values()):.0f} seconds."
    )
    parts = [
        f"# Calibration of {report.bundle} to {report.precision}",
        summary,
        "## Clips against the float32 reference, same seeds, prompts nothing was chosen on",
        _table(("graphs", "clips", "PSNR dB", "worst clip dB", "SSIM"), _fidelities(report)),
        (
            f"Layers are left in float16, the worst first, until the worst of {report.jury_clips} "
            f"other clips reaches {report.jury_target_psnr_db:g} dB."
        ),
        *(
            (f"**{report.shortfall[0].upper()}{report.shortfall[1:]}.**",)
            if report.shortfall
            else ()
        ),
        "## Range methods, on the prompts that choices were made on",
        _table(
            ("ranges", "PSNR dB"),
            ((name, f"{value:.2f}") for name, value in report.range_psnr_db.items()),
        ),
        "## Layers",
        _LEGEND,
        _layer_table(report.layers),
        "## Left in float16",
        "\n".join(f"- {layer.graph}: {layer.name}: {layer.kept}" for layer in kept) or "Nothing.",
        "## Not for quantising",
        "\n".join(
            [f"- {graph}: {reason}" for graph, reason in report.left.items()]
            + [
                f"- {graph}: {name}: {reason}"
                for graph, reasons in report.left_out.items()
                for name, reason in reasons.items()
            ]
        )
        or "Nothing.",
    ]
    return "\n\n".join(parts) + "\n"


def _fidelities(report: Report) -> Iterator[tuple[object, ...]]:
    """The rows of the table of clips."""
    named = [(name, fidelity) for name, fidelity in report.measured.items()]
    for decoder, measured in report.measured_apart.items():
        named += [(f"{name}, {decoder} alone", fidelity) for name, fidelity in measured.items()]
    for name, f in named:
        yield name, f.clips, f"{f.psnr_db:.2f}", f"{f.worst_psnr_db:.2f}", f"{f.ssim:.4f}"


def _layer_table(layers: Iterable[LayerReport]) -> str:
    return _table(
        (
            "graph",
            "layer",
            "kind",
            "in → out",
            "range",
            "clipped at",
            "SNR dB",
            "smoothing",
            "graph SNR dB",
            "in",
        ),
        (
            (
                layer.graph,
                layer.name,
                layer.kind,
                "{} → {}".format(*layer.channels),
                layer.method,
                f"{layer.amax:.3g}",
                f"{layer.snr_db[layer.method]:.1f}",
                "none" if layer.alpha is None else f"{layer.alpha:g}, {layer.smoothed}",
                "not measured" if layer.graph_snr_db is None else f"{layer.graph_snr_db:.1f}",
                "float16" if layer.kept else "8 bits",
            )
            for layer in layers
        ),
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)
