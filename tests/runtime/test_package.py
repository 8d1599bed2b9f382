"""What `import animatic` brings, and what it must not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import animatic


def test_the_public_names() -> None:
    assert animatic.__all__ == [
        "AnimaticError",
        "Frame",
        "Pipeline",
        "Shot",
        "__version__",
        "errors",
        "open_bundle",
    ]
    for name in animatic.__all__:
        assert getattr(animatic, name) is not None
        assert name in dir(animatic)
    with pytest.raises(AttributeError, match="no attribute 'Film'"):
        _ = animatic.Film  # type: ignore[attr-defined]


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after a statement."""
    code = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        text=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return set(run.stdout.split())


def test_importing_is_light() -> None:
    loaded = modules_after("import animatic")
    assert not loaded & {"numpy", "msgspec", "onnxruntime", "tokenizers", "av", "PIL", "rich"}


def test_the_runtime_has_never_heard_of_torch() -> None:
    loaded = modules_after("from animatic import Frame, Pipeline, Shot, open_bundle")
    assert not loaded & {"torch", "onnx", "onnxruntime", "tokenizers", "av", "PIL", "rich"}
