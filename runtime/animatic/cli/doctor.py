"""``animatic doctor``: whether this installation can make a clip, and how fast.

It renders one: a list of providers says what was compiled in, and only an inference says what
works (some wheels list a device that they hold no kernels for).
"""

from __future__ import annotations

import json
import os
import platform
import time
from typing import TYPE_CHECKING

import click

from animatic.cli.facts import shown
from animatic.cli.machine import memory_gib, processor
from animatic.cli.parameters import bundle_option, threads_option
from animatic.cli.stopping import Stop, pass_stop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from animatic.bundle import Bundle
    from animatic.shot import Shot

__all__ = ["command"]

PROMPT = "a red truck drives left through a desert at sunset"


@click.command("doctor", short_help="Check this installation with a real clip.")
@bundle_option
@threads_option
@click.option("--json", "as_json", is_flag=True, help="The same, on one line of JSON.")
@click.pass_context
@pass_stop
def command(
    stop: Stop,
    context: click.Context,
    *,
    bundle: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Check this installation by making a clip.

    The exit code is 1 where the inference fails.
    """
    parts: dict[str, Callable[[], dict[str, object]]] = {
        "machine": _machine,
        "onnxruntime": _onnxruntime,
        "inference": lambda: _inference(bundle, threads),
        "encoders": _encoders,
        "cache": _cache,
    }
    report: dict[str, dict[str, object]] = {}
    for name, part in parts.items():
        report[name] = part()
        stop.check()  # Ctrl-C while a library is imported looks like a library that is missing
    good = report["inference"]["ok"] is True
    notes = _notes(report)
    if as_json:
        click.echo(json.dumps({"ok": good, "notes": notes, **report}, ensure_ascii=False))
    else:
        for name, facts in report.items():
            click.echo(name)
            for fact, value in facts.items():
                click.echo(f"  {fact.replace('_', ' '):<18} {shown(value)}")
        for note in notes:
            click.echo(f"note: {note}")
        click.echo(_summary(good=good, notes=len(notes)))
    if not good:
        context.exit(1)


def _summary(*, good: bool, notes: int) -> str:
    if not good:
        return "no clip can be made; see inference above"
    if notes:
        return (
            "clips can be made; see the note above"
            if notes == 1
            else (f"clips can be made; see the {notes} notes above")
        )
    return "all is well"


def _notes(report: dict[str, dict[str, object]]) -> list[str]:
    """What is not as it should be, and stops no clip."""
    if report["cache"]["writable"] is True:
        return []
    note = (
        f"the cache folder {report['cache']['folder']} cannot be written, so that engines for a "
        "GPU start slowly, and large text encoders load for every prompt; make it a folder that "
        "you may write to (on Linux, XDG_CACHE_HOME names another)."
    )
    return [note]


def _machine() -> dict[str, object]:
    from animatic import __version__
    from animatic.engine.cores import usable_cores

    return {
        "animatic": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "usable_cores": usable_cores(),
        "memory_gib": memory_gib(),
    }


def _onnxruntime() -> dict[str, object]:
    try:
        from animatic.engine.untracked import import_onnxruntime

        onnxruntime = import_onnxruntime()
    except ImportError as error:  # a wheel for another machine fails here, in many words
        return {"version": None, "error": str(error).partition("\n")[0]}
    return {
        "version": onnxruntime.__version__,
        "providers": list(onnxruntime.get_available_providers()),
    }


def _inference(bundle: Path | None, threads: int | None) -> dict[str, object]:
    from animatic.errors import AnimaticError

    try:
        return _clip(bundle, threads)
    except (AnimaticError, ImportError) as error:
        return {"ok": False, "error": str(error).partition("\n")[0]}


def _clip(bundle: Path | None, threads: int | None) -> dict[str, object]:
    from animatic.pipeline import Pipeline
    from animatic.text_cache import switched_off

    start = time.perf_counter()
    with switched_off(), Pipeline.open(bundle, threads=threads) as pipeline:
        opened = pipeline.bundle
        loaded = time.perf_counter()
        shot = _quickest(opened.bundle)
        plan = shot.plan(opened.bundle)
        frames, first = 0, loaded
        for frame in pipeline.generate(shot):
            if frame.index == 0:
                first = time.perf_counter()
            frames += 1
        done = time.perf_counter()
        choice = pipeline.choice
    native = opened.bundle.geometry.fps
    rate = frames / (done - loaded)
    return {
        "ok": True,
        "bundle": f"{opened.bundle.name} {opened.bundle.version}",
        "sha256": opened.digest,
        "played": None if choice is None else choice.reason,
        "load_seconds": round(loaded - start, 3),
        **({} if shot.tier is None else {"tier": shot.tier}),
        "size": f"{plan.width}x{plan.height}",
        "steps": plan.steps,
        "decoder": plan.decoder,
        "first_frame_seconds": round(first - loaded, 3),
        "clip_seconds": round(done - loaded, 3),
        "frames": frames,
        "frames_per_second": round(rate, 2),
        "native_fps": str(native),
        "times_real_time": round(float(rate / native), 2),
    }


def _quickest(bundle: Bundle) -> Shot:
    """The shot that costs least: whether a model works shows in the smallest of its tiers."""
    from animatic.lengths import Lengths
    from animatic.shot import Shot

    if not bundle.tiers:
        return Shot(PROMPT)
    tier = min(bundle.tiers, key=lambda tier: tier.size.width * tier.size.height)
    frames = min(Lengths.of(bundle, bundle.geometry.fps).named)
    return Shot(PROMPT, tier=tier.name, frames=frames)


def _encoders() -> dict[str, object]:
    checks: dict[str, Callable[[], bool]] = {"mp4": _has_h264, "webp": _has_webp}
    found: dict[str, object] = {}
    for name, check in checks.items():
        try:
            found[name] = check()
        except ImportError:
            found[name] = False
    # Pillow writes these two without a library of its own choosing; raw needs none.
    return {**found, "gif": True, "png": True, "rgb": True}


def _has_h264() -> bool:
    import av
    from av.codec.codec import UnknownCodecError

    from animatic.sinks.mp4 import CODEC

    try:
        av.Codec(CODEC, "w")
    except UnknownCodecError:
        return False
    return True


def _has_webp() -> bool:
    from PIL import features

    return bool(features.check("webp"))


def _cache() -> dict[str, object]:
    """Where engines and text encoders keep what they made, and whether they can."""
    from platformdirs import user_cache_path

    from animatic.text_cache import SWITCH

    folder = user_cache_path("animatic")
    # os.path: a parent that may not be entered counts as missing, and is no error here.
    existing = next((p for p in (folder, *folder.parents) if os.path.lexists(p)), folder)
    # A file in its place is no folder, whoever may write it.
    writable = os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK)  # noqa: PTH112
    return {
        "folder": str(folder),
        "writable": writable,
        "text_states": os.environ.get(SWITCH) != "0",
    }
