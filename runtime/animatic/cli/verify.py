"""``animatic verify``: whether a bundle is whole and its engines right, a line for each check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click

__all__ = ["command"]

SIGNS: Final = {"right": "ok", "wrong": "WRONG", "open": "open"}


@click.command("verify", short_help="Check a bundle's files and engines.")
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="The findings, on one line of JSON.")
@click.pass_context
def command(context: click.Context, *, bundle: Path | None, as_json: bool) -> None:
    """Check the model in the folder BUNDLE; without it, the built-in Blockout.

    Every file is hashed, and every engine compared with the graph of today. Where this machine is
    the target of an engine, it is run against ONNX Runtime. What this machine cannot tell is "open"
    and no fault; the exit code is 1 where something is wrong.
    """
    import msgspec

    from animatic.store import open_bundle
    from animatic.verification import verify_bundle

    opened = open_bundle(bundle, verify=False)
    findings = verify_bundle(opened)
    wrong = sum(finding.outcome == "wrong" for finding in findings)
    if as_json:
        document = {
            "ok": not wrong,
            "path": str(opened.root),
            "sha256": opened.digest,
            "findings": msgspec.to_builtins(findings),
        }
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        for finding in findings:
            click.echo(f"{SIGNS[finding.outcome]:<5}  {finding.subject}  {finding.sentence}")
        if not opened.bundle.engines:
            click.echo("no engine has been built for this bundle")
        click.echo(_summary([finding.outcome for finding in findings]))
    if wrong:
        context.exit(1)


def _summary(outcomes: list[str]) -> str:
    wrong, left = outcomes.count("wrong"), outcomes.count("open")
    if wrong:
        return f"{wrong} of {len(outcomes)} checks failed"
    if left:
        return f"all that could be checked here is right ({left} checks are open)"
    return "all is right"
