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

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["command"]

PROMPT = "a red truck drives left through a desert at sunset"


@click.command("doctor", short_help="Check this installation with a real clip.")
@bundle_option
@threads_option
@click.option("--json", "as_json", is_flag=True, help="The same, on one line of JSON.")
@click.pass_context
def command(
    context: click.Context, *, bundle: Path | None, threads: int | None, as_json: bool
) -> None:
    """Check this installation by making a clip.

    The exit code is 1 where the inference fails.
    """
    report: dict[str, dict[str, object]] = {
        "machine": _machine(),
        "onnxruntime": _onnxruntime(),
        "inference": _inference(bundle, threads),
        "encoders": _encoders(),
        "cache": _cache(),
    }
    good = report["inference"]["ok"] is True
    if as_json:
        click.echo(json.dumps({"ok": good, **report}, ensure_ascii=False))
    else:
        for part, facts in report.items():
            click.echo(part)
            for name, value in facts.items():
                click.echo(f"  {name.replace('_', ' '):<18} {shown(value)}")
        click.echo("all is well" if good else "no clip can be made; see inference above")
    if not good:
        context.exit(1)


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
        import onnxruntime
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
    from animatic.shot import Shot

    start = time.perf_counter()
    with Pipeline.open(bundle, threads=threads) as pipeline:
        opened = pipeline.bundle
        loaded = time.perf_counter()
        frames, first = 0, loaded
        for frame in pipeline.generate(Shot(PROMPT)):
            if frame.index == 0:
                first = time.perf_counter()
            frames += 1
        done = time.perf_counter()
    native = opened.bundle.geometry.fps
    rate = frames / (done - loaded)
    return {
        "ok": True,
        "bundle": f"{opened.bundle.name} {opened.bundle.version}",
        "sha256": opened.digest,
        "load_seconds": round(loaded - start, 3),
        "first_frame_seconds": round(first - loaded, 3),
        "clip_seconds": round(done - loaded, 3),
        "frames": frames,
        "frames_per_second": round(rate, 2),
        "native_fps": str(native),
        "times_real_time": round(float(rate / native), 2),
    }


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
    from platformdirs import user_cache_path

    folder = user_cache_path("animatic")
    # os.path: a parent that may not be entered counts as missing, and is no error here.
    existing = next((p for p in (folder, *folder.parents) if os.path.isdir(p)), folder)  # noqa: PTH112
    return {"folder": str(folder), "writable": os.access(existing, os.W_OK)}
