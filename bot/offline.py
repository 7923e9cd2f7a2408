"""`refine trim` and `refine explain`: the engine on files, without Slack and without AWS credentials."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bot.errors import InputError, PolicyError, RefineError
from bot.model import (
    ActionVerdict,
    Evidence,
    Mode,
    PolicyKind,
    RolePolicy,
    Trim,
    TrimSettings,
    Verdict,
)

_SHOWN = 40  # lines of a group of actions in text


def _inputs(command: Any) -> Any:
    for option in reversed(
        (
            click.option(
                "--policy", "managed", multiple=True, metavar="[NAME=]FILE", help="A managed policy document."
            ),
            click.option("--inline-policy", "inline", multiple=True, metavar="[NAME=]FILE", help="An inline one."),
            click.option(
                "--account-details",
                metavar="FILE",
                help="Output of `aws iam get-account-authorization-details`, in place of the two above.",
            ),
            click.option("--role", metavar="NAME", help="The role to read from --account-details."),
            click.option(
                "--last-accessed",
                "report",
                required=True,
                metavar="FILE",
                help="Output of `aws iam get-service-last-accessed-details` of a job of action granularity.",
            ),
            click.option("--mode", type=click.Choice([m.value for m in Mode]), default="safe", show_default=True),
            click.option("--window", default=90, show_default=True, type=click.IntRange(1, 400), metavar="DAYS"),
            click.option("--keep", multiple=True, metavar="PATTERN", help="Actions that are always kept: 's3:Get*'."),
            click.option("--refuse", multiple=True, metavar="CODE", help="A warning that shall be a refusal."),
            click.option("--now", metavar="TIME", help="Judge as of this time (ISO 8601); default: now."),
        )
    ):
        command = option(command)
    return command


@click.command()
@_inputs
@click.option("--format", "form", type=click.Choice(["text", "json", "diff"]), default="text", show_default=True)
def trim(form: str, **given: Any) -> None:
    """Propose trimmed versions of a role's permissions policies.

    Exit status: 0 with a proposal, 2 for input that cannot be read, 3 where the proof fails.
    """
    policies, answer = _answer(**given)
    if not answer.proof.holds:
        click.echo("refine: the proof of this proposal fails, so it is not shown: this is a bug.", err=True)
        for problem in answer.proof.problems:
            click.echo(f"  {problem}", err=True)
        sys.exit(3)
    if form == "json":
        click.echo(json.dumps(as_json(policies, answer), indent=2, ensure_ascii=False))
    elif form == "diff":
        click.echo(as_diff(policies, answer), nl=False)
    else:
        click.echo(as_text(policies, answer), nl=False)


@click.command()
@_inputs
@click.argument("action")
def explain(action: str, **given: Any) -> None:
    """Say of one ACTION (service:Name) what becomes of it, and why."""
    _, answer = _answer(**given)
    found = next((a for a in answer.actions if a.action.lower() == action.lower()), None)
    if found is None:
        click.echo(f"{action} is not granted by these policies.")
        sys.exit(1)
    click.echo(f"{found.action}: {found.verdict.value}, {'kept' if found.kept else 'dropped'}. {found.reason}")
    click.echo(f"Granted by {', '.join(found.policies)}. Access level: {found.level.value}.")
    if found.sensitive:
        click.echo(f"Look twice: {found.sensitive}.")


def _answer(
    *,
    managed: Sequence[str],
    inline: Sequence[str],
    account_details: str | None,
    role: str | None,
    report: str,
    mode: str,
    window: int,
    keep: Sequence[str],
    refuse: Sequence[str],
    now: str | None,
) -> tuple[list[RolePolicy], Trim]:
    from bot.policy import load_catalogue
    from bot.policy import trim as engine
    from bot.policy.report import moment

    try:
        at = (moment(now, "--now") if now else None) or datetime.now(UTC)
        created: datetime | None = None
        arn = ""
        if account_details:
            if not role or managed or inline:
                raise InputError("--account-details needs --role, and goes without --policy and --inline-policy.")
            policies, created, arn = _from_details(account_details, role)
        else:
            policies = [
                *(_policy(p, PolicyKind.CUSTOMER) for p in managed),
                *(_policy(p, PolicyKind.INLINE) for p in inline),
            ]
            if not policies:
                raise InputError("No policy was given.", "Use --policy, --inline-policy or --account-details.")
        keys = [p.key for p in policies]
        twice = next((p.name for p in policies if keys.count(p.key) > 1), None)
        if twice:
            raise InputError(f"Two policies are called {twice}.", "Name them: --policy NAME=FILE.")
        for pattern in keep:
            if ":" not in pattern and pattern != "*":
                raise InputError(f"--keep {pattern} is not an action pattern.", "It is service:Action, as s3:Get*.")
        evidence = _evidence(report, arn, created)
        settings = TrimSettings(mode=Mode(mode), window_days=window, keep=tuple(keep), refuse=tuple(refuse), now=at)
        return policies, engine(policies, evidence, load_catalogue(), settings)
    except RefineError as error:
        click.echo(f"refine: {error.say()}", err=True)
        sys.exit(2)


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{file} is not UTF-8 text.") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.") from None


def _json(file: str) -> Any:
    from bot.policy.language import read_json

    return read_json(_read(file), file)


def _policy(given: str, kind: PolicyKind) -> RolePolicy:
    from bot.policy import parse

    name, equals, file = given.partition("=")
    if not equals:
        name, file = Path(given).stem, given
    text = _read(file)
    try:
        # What `aws iam get-policy-version` and `get-role-policy` print holds the document one level down.
        raw = json.loads(text)
        for path in (("PolicyVersion", "Document"), ("PolicyDocument",)):
            inner = raw
            for key in path:
                inner = inner.get(key) if isinstance(inner, dict) else None
            if isinstance(inner, dict):
                text = json.dumps(inner)
    except (ValueError, RecursionError):
        pass  # `parse` says what is wrong, with line and column
    try:
        parse(text, file)
    except PolicyError as error:
        raise InputError(error.sentence, error.next_step) from None
    arn = f"arn:aws:iam::000000000000:policy/{name}" if kind is PolicyKind.CUSTOMER else ""
    return RolePolicy(name=name, kind=kind, text=text, arn=arn)


def _evidence(file: str, arn: str, created: datetime | None) -> Evidence:
    from bot.policy.report import read_report

    raw = _json(file)
    if not isinstance(raw, dict):
        raise InputError(f"{file} is not a last accessed report: it is no JSON object.")
    try:
        return read_report(raw, role_arn=arn, role_created_at=created)
    except RefineError as error:
        raise InputError(f"{file}: {error.sentence}", error.next_step) from None


def _from_details(file: str, name: str) -> tuple[list[RolePolicy], datetime | None, str]:
    from bot.policy.report import moment

    raw = _json(file)
    if not isinstance(raw, dict) or "RoleDetailList" not in raw:
        raise InputError(f"{file} is not the output of get-account-authorization-details: it has no RoleDetailList.")
    role = next((r for r in raw["RoleDetailList"] if r.get("RoleName") == name), None)
    if role is None:
        raise InputError(f"{file} holds no role called {name}.")
    managed = {p["Arn"]: p for p in raw.get("Policies", ())}
    found: list[RolePolicy] = []
    for each in role.get("AttachedManagedPolicies", ()):
        details = managed.get(each["PolicyArn"])
        if details is None:
            raise InputError(
                f"{file} does not hold {each['PolicyArn']}.", "Fetch the details with every --filter, or none."
            )
        version = next(v for v in details["PolicyVersionList"] if v.get("IsDefaultVersion"))
        found.append(
            RolePolicy(
                name=each["PolicyName"],
                kind=PolicyKind.AWS if ":iam::aws:" in each["PolicyArn"] else PolicyKind.CUSTOMER,
                arn=each["PolicyArn"],
                text=_text(version["Document"]),
                attachments=int(details.get("AttachmentCount", 1)),
                boundary_uses=int(details.get("PermissionsBoundaryUsageCount", 0)),
                default_version=version["VersionId"],
                version_created_at=moment(version.get("CreateDate"), "CreateDate"),
            )
        )
    found += [
        RolePolicy(name=p["PolicyName"], kind=PolicyKind.INLINE, text=_text(p["PolicyDocument"]))
        for p in role.get("RolePolicyList", ())
    ]
    return found, moment(role.get("CreateDate"), "CreateDate"), str(role["Arn"])


def _text(document: Any) -> str:
    return document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)


# -------------------- the three forms


def as_json(policies: Sequence[RolePolicy], answer: Trim) -> dict[str, Any]:
    """Return the answer as the contract's JSON object."""
    names = {p.key: p.name for p in policies}
    return {
        "policies": [
            {
                "name": p.name,
                "kind": "inline" if p.kind is PolicyKind.INLINE else "managed",
                "from": names[p.source],
                "outcome": p.outcome.value,
                "tier": p.tier,
                "document": json.loads(p.text) if p.text is not None else None,
                "characters": p.characters,
            }
            for p in answer.policies
        ],
        "actions": [
            {
                "action": a.action,
                "verdict": a.verdict.value,
                "kept": a.kept,
                "last_accessed": a.last_accessed.isoformat() if a.last_accessed else None,
                "region": a.region or None,
                "policies": list(a.policies),
                "reason": a.reason,
                "level": a.level.value,
            }
            for a in answer.actions
        ],
        "services": [
            {
                "namespace": s.namespace,
                "last_accessed": s.last_accessed.isoformat() if s.last_accessed else None,
                "granted": s.granted,
                "kept": s.kept,
                "tracked": s.tracked,
            }
            for s in answer.services
        ],
        "warnings": [{"code": w.code, "message": w.message} for w in answer.warnings],
        "totals": {"granted": answer.granted, "kept": answer.kept, "removed": answer.removed},
        "proof": {
            "no_new_access": answer.proof.no_new_access,
            "nothing_used_lost": answer.proof.nothing_used_lost,
        },
    }


def as_diff(policies: Sequence[RolePolicy], answer: Trim) -> str:
    """Return unified diffs, each document first laid out alike so that only meaning differs."""
    old = {p.key: p for p in policies}
    parts: list[str] = []
    for each in answer.policies:
        before, after = pretty(old[each.source].text), pretty(each.text) if each.text is not None else ""
        parts += difflib.unified_diff(
            before.splitlines(keepends=True),
            after.splitlines(keepends=True),
            f"{old[each.source].name} (old)",
            f"{each.name} ({each.outcome.value})",
        )
    return "".join(parts)


def pretty(text: str) -> str:
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"


def as_text(policies: Sequence[RolePolicy], answer: Trim) -> str:
    names = {p.key: p.name for p in policies}
    lines = [
        f"Granted {answer.granted:,} actions; kept {answer.kept:,}, removed {answer.removed:,}.",
        "The proof holds: nothing new is granted, nothing used is lost.",
    ]
    lines += [f"! {w.message}" for w in answer.warnings]
    for verdict in Verdict:
        for kept in (True, False):
            group = [a for a in answer.actions if a.verdict is verdict and a.kept is kept]
            if group:
                lines += ["", f"{'Kept' if kept else 'Dropped'}, {verdict.value} ({len(group):,})"]
                lines += _group(group)
    for each in answer.policies:
        about = "" if each.name == names[each.source] else f", from {names[each.source]}"
        lines += ["", f"{each.name}{about}: {each.outcome.value}, {each.characters:,} characters"]
        if each.text is not None and each.tier:
            lines.append(pretty(each.text).rstrip())
    return "\n".join(lines) + "\n"


def _group(group: list[ActionVerdict]) -> list[str]:
    lines = [f"  {a.action}  {a.reason}" for a in group[:_SHOWN]]
    if len(group) > _SHOWN:
        lines.append(f"  and {len(group) - _SHOWN:,} more (--format json lists them all)")
    return lines
