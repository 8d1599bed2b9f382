"""How an extra is added to this installation: not everyone has it from the same place."""

from __future__ import annotations

__all__ = ["how_to_add"]


def how_to_add(extra: str) -> str:
    """Say the command that brings an extra, from where this installation came."""
    import json
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        origin = distribution("animatic").read_text("direct_url.json")
    except PackageNotFoundError:  # run from a checkout that is not installed at all
        origin = '{"dir_info": {}}'
    if origin and "dir_info" in json.loads(origin):  # PEP 610: installed from a folder
        return f"`pip install -e '.[{extra}]' -c constraints.txt` in the checkout"
    return f"`pip install 'animatic[{extra}]'`"
