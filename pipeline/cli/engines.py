"""``onpace engines``: the plans that were built, whether they are whole, and which may go."""

from __future__ import annotations

import json as json_format
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from engines.engine_store import EngineStore, StoredPlan, store_option
from pipeline.cli import exit_codes
from pipeline.config.values import format_duration, parse_duration
from pipeline.errors import InputError

StoreOption = Annotated[
    Path | None, typer.Option("--store", metavar="FOLDER", help="Where plans are kept; default: the user's cache.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]


def list_plans(store: StoreOption = None, json: JsonOption = False) -> int:
    """List the plans in the store, the one used last first.

    JSON keys: store; plans, a list of {digest, model, runtime, version, gpu, precision, batch, bytes, build_seconds,
    built_at, used_at}; times are seconds since 1970.

    [bold]Example:[/bold] onpace engines list
    """
    opened = EngineStore(store)
    plans = opened.plans()
    if json:
        typer.echo(
            json_format.dumps({"store": str(opened.folder), "plans": [_facts(plan) for plan in plans]}, indent=2)
        )
        return exit_codes.DONE
    for plan in plans:
        facts = _facts(plan)
        typer.echo(
            f"{plan.digest[:12]}  {plan.model_name:20} {facts['precision']:8} batch {facts['batch']:8} "
            f"{facts['runtime']} {facts['version']}, {facts['gpu']}  {plan.nbytes / 2**20:.1f} MiB  "
            f"used {_ago(plan.used_at)}"
        )
    total = sum(plan.nbytes for plan in plans)
    typer.echo(f"{len(plans)} plans, {total / 2**20:.1f} MiB in {opened.folder}")
    return exit_codes.DONE


def verify(store: StoreOption = None, json: JsonOption = False) -> int:
    """Read every plan and compare it with what was built.

    Exit codes: 0 when all are whole, 1 when one is not.

    JSON keys: store; ok; plans (how many are whole); broken, a list of {file, problem}.

    [bold]Example:[/bold] onpace engines verify
    """
    opened = EngineStore(store)
    broken = opened.broken()
    whole = sum(plan.path not in broken for plan in opened.plans())
    if json:
        found = [{"file": str(path), "problem": problem} for path, problem in broken.items()]
        report = {"store": str(opened.folder), "ok": not broken, "plans": whole, "broken": found}
        typer.echo(json_format.dumps(report, indent=2))
    else:
        for path, problem in broken.items():
            typer.echo(f"{path}: {problem}")
        where = store_option(opened.folder)
        remedy = f"Remove what is broken: onpace engines prune --broken{where}" if broken else ""
        typer.echo(f"{whole} plans are whole, {len(broken)} files are not. {remedy}".rstrip())
    return exit_codes.FAILED if broken else exit_codes.DONE


def prune(
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help='Built longer ago than this, as "720h".')
    ] = None,
    unused_for: Annotated[str | None, typer.Option(metavar="AGE", help='Not loaded for so long, as "720h".')] = None,
    keep_mib: Annotated[
        int | None, typer.Option(min=0, metavar="MIB", help="Keep at most so much: those used last stay.")
    ] = None,
    broken: Annotated[bool, typer.Option("--broken", help="What is altered, cut short or half written.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> int:
    """Remove plans: old ones, unused ones, broken ones, or all above a size.

    At least one of the options says which. A plan that is removed is built again when it is needed.

    JSON keys: store; dry_run; removed, a list of {digest, reason}; bytes (freed).

    [bold]Example:[/bold] onpace engines prune --unused-for 720h --broken
    """
    if not (older_than or unused_for or broken) and keep_mib is None:
        raise InputError("engines prune: say what may go: --older-than, --unused-for, --keep-mib or --broken.")
    opened = EngineStore(store)
    now = time.time()
    reasons: dict[str, str] = {}
    halves: dict[Path, str] = {}
    if broken:
        found = opened.broken()
        halves = {path: problem for path, problem in found.items() if path.name.startswith(".")}
        reasons.update({path.name.split(".")[0]: found[path] for path in found if path not in halves})
    oldest, idle = _age("--older-than", older_than), _age("--unused-for", unused_for)
    kept = 0
    for plan in (plan for plan in opened.plans() if plan.digest not in reasons):
        if oldest is not None and now - plan.built_at > oldest:
            reasons.setdefault(plan.digest, f"built {_ago(plan.built_at)}")
        elif idle is not None and now - plan.used_at > idle:
            reasons.setdefault(plan.digest, f"used {_ago(plan.used_at)}")
        elif keep_mib is not None and kept + plan.nbytes > keep_mib << 20:
            reasons.setdefault(plan.digest, f"above {keep_mib} MiB")
        else:
            kept += plan.nbytes
    freed = 0
    for digest in reasons:
        freed += opened.size(digest) if dry_run else opened.remove(digest)
    for path in halves:
        freed += path.stat().st_size
        if not dry_run:
            path.unlink(missing_ok=True)
    gone = [*reasons.items(), *((path.name.split(".")[1], problem) for path, problem in halves.items())]
    if json:
        removed = [{"digest": digest, "reason": reason} for digest, reason in gone]
        report = {"store": str(opened.folder), "dry_run": dry_run, "removed": removed, "bytes": freed}
        typer.echo(json_format.dumps(report, indent=2))
    else:
        for digest, reason in gone:
            typer.echo(f"{digest[:12]}  {reason}")
        would = "would be removed" if dry_run else "removed"
        typer.echo(f"{len(gone)} plans {would}, {freed / 2**20:.1f} MiB")
    return exit_codes.DONE


def _facts(plan: StoredPlan) -> dict[str, Any]:
    parts = plan.ingredients
    shapes = parts["shapes"]
    return {
        "digest": plan.digest,
        "model": plan.model_name,
        "runtime": parts["runtime"],
        "version": parts["version"],
        "gpu": parts["gpu"],
        "precision": parts["precision"],
        "batch": f"{shapes['min_batch']}:{shapes['best_batch']}:{shapes['max_batch']}",
        "bytes": plan.nbytes,
        "build_seconds": plan.build_seconds,
        "built_at": plan.built_at,
        "used_at": plan.used_at,
    }


def _age(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise InputError(f"{option} {text}: {error}.") from None


def _ago(at: float) -> str:
    seconds = max(0.0, time.time() - at)
    for unit in (3600.0, 60.0):
        if seconds >= unit:
            return f"{format_duration(seconds // unit * unit)} ago"
    return "just now"
