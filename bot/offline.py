"""`refine trim` and `refine explain`: the engine on files, without Slack and without AWS credentials."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Timer
from typing import TYPE_CHECKING, Any

import click

from bot.errors import InputError, PolicyError, RefineError

if TYPE_CHECKING:
    from bot.model import ActionVerdict, Evidence, PolicyKind, PolicyOutcome, RolePolicy, Trim
    from bot.policy import Catalogue

# The codes of warnings, as bot.policy.warn has them: read there, `--help` would take twice as long.
CODES = (
    "role_too_young",
    "policy_too_young",
    "report_too_old",
    "tracking_too_short",
    "report_contradicts",
    "empty_report",
    "shortened",
)
_SHOWN = 40  # actions of a group in text


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
            click.option("--mode", type=click.Choice(["safe", "strict"]), default="safe", show_default=True),
            click.option("--window", default=90, show_default=True, type=click.IntRange(1, 400), metavar="DAYS"),
            click.option("--keep", multiple=True, metavar="PATTERN", help="Actions that are always kept: 's3:Get*'."),
            click.option(
                "--refuse",
                multiple=True,
                metavar="CODE",
                help=f"A warning that is a refusal: {', '.join(CODES)}.",
            ),
            click.option(
                "--refresh",
                is_flag=True,
                help="Ask AWS's Service Reference for what the catalogue lacks; goes on where it is away.",
            ),
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
    policies, evidence, answer = _answer(**given)
    if form == "json":
        from bot.policy.language import write

        click.echo(write(as_json(policies, answer)))
        return
    text = as_diff(policies, answer) if form == "diff" else as_text(policies, answer, evidence, given["window"])
    click.echo(_coloured(text), nl=False, color=False if os.environ.get("NO_COLOR") else None)


@click.command()
@_inputs
@click.argument("action")
def explain(action: str, **given: Any) -> None:
    """Say of one ACTION (service:Name) what becomes of it, and why.

    A pattern such as 's3:Put*' asks for each action that it matches.

    Exit status: 0 with an answer, 1 where the policies do not grant it, 2 for input that cannot be read.
    """
    from bot.policy.patterns import matches

    policies, _, answer = _answer(**given)
    found = [a for a in answer.actions if a.action.lower() == action.lower()]
    found = found or [a for a in answer.actions if ":" in action and matches(action, a.action)]
    if not found:
        click.echo(f"refine: {action} is not granted by these policies.", err=True)
        sys.exit(1)
    click.echo("\n\n".join(as_explanation(a, policies, answer) for a in found))


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
    refresh: bool,
    now: str | None,
) -> tuple[list[RolePolicy], Evidence, Trim]:
    """Return the policies, the evidence and a trim whose proof holds; leave with status 2 or 3 where there is none."""
    from bot.model import Mode, PolicyKind, TrimSettings
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
        for code in refuse:
            if code not in CODES:
                raise InputError(f"--refuse {code} is no warning there is.", f"There are {', '.join(CODES)}.")
        evidence = _evidence(report, arn, created)
        settings = TrimSettings(mode=Mode(mode), window_days=window, keep=tuple(keep), refuse=tuple(refuse), now=at)
        with _patience(f"refine: still at work on {len(policies)} policies …"):
            catalogue = _refreshed(policies) if refresh else load_catalogue()
            answer = engine(policies, evidence, catalogue, settings)
    except RefineError as error:
        click.echo(f"refine: {error.say()}", err=True)
        sys.exit(2)
    if not answer.proof.holds:
        click.echo("refine: the proof of this proposal fails, so it is not shown: this is a bug.", err=True)
        for problem in answer.proof.problems:
            click.echo(f"  {problem}", err=True)
        sys.exit(3)
    return policies, evidence, answer


def _refreshed(policies: Sequence[RolePolicy]) -> Catalogue:
    from bot.policy import load_catalogue, parse
    from bot.reference import INDEX, refreshed

    patterns = [p for policy in policies for s in parse(policy.text, policy.name).statements for p in s.patterns]
    services = {p.partition(":")[0] for p in patterns} - {"*"}
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    index = os.environ.get("REFINE_SERVICE_REFERENCE", INDEX)
    catalogue, silent = refreshed(load_catalogue(), services, home / "refine" / "reference", index=index)
    if silent:
        click.echo(
            f"refine: AWS's Service Reference said nothing of {', '.join(silent)}; the installed catalogue is used.",
            err=True,
        )
    return catalogue


@contextmanager
def _patience(message: str) -> Iterator[None]:
    """Say on a terminal that work goes on, where it takes longer than a moment, and take the words back."""
    if not sys.stderr.isatty():
        yield
        return
    said = Event()

    def say() -> None:
        said.set()
        click.echo(message, err=True, nl=False)

    timer = Timer(1.0, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if said.is_set():
            click.echo("\r" + " " * len(message) + "\r", err=True, nl=False)


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{file} is not UTF-8 text.") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.") from None


def _json(file: str, text: str) -> Any:
    from bot.policy.language import read_json

    try:
        return read_json(text, file)
    except PolicyError as error:
        raise InputError(error.sentence, error.next_step) from None


def _policy(given: str, kind: PolicyKind) -> RolePolicy:
    from bot.model import PolicyKind, RolePolicy
    from bot.policy import parse

    name, equals, file = given.partition("=")
    if not equals:
        name, file = Path(given).stem, given
    text = _read(file)
    # What `aws iam get-policy-version` and `get-role-policy` print holds the document one level down.
    raw = _json(file, text)
    inner = raw.get("PolicyVersion", raw) if isinstance(raw, dict) else raw
    inner = inner.get("Document", inner.get("PolicyDocument")) if isinstance(inner, dict) else None
    if isinstance(inner, dict | str):
        text = _text(inner)
    try:
        parse(text, file)
    except PolicyError as error:
        raise InputError(error.sentence, error.next_step) from None
    arn = f"arn:aws:iam::000000000000:policy/{name}" if kind is PolicyKind.CUSTOMER else ""
    return RolePolicy(name=name, kind=kind, text=text, arn=arn)


def _evidence(file: str, arn: str, created: datetime | None) -> Evidence:
    from bot.policy.report import read_report

    raw = _json(file, _read(file))
    if not isinstance(raw, dict):
        raise InputError(f"{file} is not a last accessed report: it is no JSON object.")
    try:
        return read_report(raw, role_arn=arn, role_created_at=created)
    except RefineError as error:
        raise InputError(f"{file}: {error.sentence}", error.next_step) from None


def _from_details(file: str, name: str) -> tuple[list[RolePolicy], datetime | None, str]:
    raw = _json(file, _read(file))
    if not isinstance(raw, dict) or not isinstance(raw.get("RoleDetailList"), list):
        raise InputError(f"{file} is not the output of get-account-authorization-details: it has no $.RoleDetailList.")
    at = next((i for i, r in enumerate(raw["RoleDetailList"]) if r.get("RoleName") == name), None)
    if at is None:
        raise InputError(f"{file} holds no role called {name}.", "Fetch the details with --filter Role, or with none.")
    try:
        return _role(file, raw, raw["RoleDetailList"][at])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{file} does not hold at $.RoleDetailList[{at}] what get-account-authorization-details writes ({error})."
        ) from None


def _role(file: str, raw: dict[str, Any], role: dict[str, Any]) -> tuple[list[RolePolicy], datetime | None, str]:
    from bot.model import PolicyKind, RolePolicy
    from bot.policy.report import moment

    managed = {p["Arn"]: p for p in raw.get("Policies", ())}
    found: list[RolePolicy] = []
    for each in role.get("AttachedManagedPolicies", ()):
        details = managed.get(each["PolicyArn"])
        if details is None:
            raise InputError(
                f"{file} does not hold {each['PolicyArn']}.", "Fetch the details with every --filter, or none."
            )
        version = next((v for v in details["PolicyVersionList"] if v.get("IsDefaultVersion")), None)
        if version is None:
            raise InputError(f"{file} does not hold the version of {each['PolicyArn']} that is in force.")
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
    if not found:
        raise InputError(f"The role {role['RoleName']} has no permissions policies, so there is nothing to trim.")
    return found, moment(role.get("CreateDate"), "CreateDate"), str(role["Arn"])


def _text(document: Any) -> str:
    return document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)


# -------------------- the three forms


def as_json(policies: Sequence[RolePolicy], answer: Trim) -> dict[str, Any]:
    """Return the answer as the contract's JSON object."""
    from bot.model import PolicyKind

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
                "sensitive": a.sensitive or None,
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
    return "".join(line for each in answer.policies for line in _diff(policies, answer, each, context=3))


def _diff(policies: Sequence[RolePolicy], answer: Trim, each: PolicyOutcome, context: int) -> list[str]:
    old = next(p for p in policies if p.key == each.source)
    # Of a split, the first part takes the place of the old policy; the others are new.
    first = next(o for o in answer.policies if o.source == each.source) is each
    before = pretty(old.text) if first else ""
    after = pretty(each.text) if each.text is not None else ""
    return list(
        difflib.unified_diff(
            before.splitlines(keepends=True),
            after.splitlines(keepends=True),
            f"{old.name} (old)" if first else "/dev/null",
            f"{each.name} ({each.outcome.value})" if each.text is not None else "/dev/null",
            n=context,
        )
    )


def pretty(text: str) -> str:
    from bot.policy.language import write

    return write(json.loads(text)) + "\n"


def as_text(policies: Sequence[RolePolicy], answer: Trim, evidence: Evidence, window: int) -> str:
    """Return the answer for a person: counts, what to look at twice, each policy's diff, every reason."""
    from bot.model import Verdict
    from bot.policy import calls_of, rehearse
    from bot.policy.explain import tier_sentence

    names = {p.key: p.name for p in policies}
    counts = Counter(a.verdict for a in answer.actions)
    hidden = sum(counts[v] for v in (Verdict.UNTRACKED, Verdict.UNKNOWN, Verdict.INVISIBLE))
    idle = sum(counts[v] for v in (Verdict.STALE, Verdict.UNUSED, Verdict.SERVICE_UNUSED))
    said = rehearse(policies, answer.policies, calls_of(evidence, evidence.made_at - timedelta(days=window)))
    lines = [
        f"Granted {answer.granted:,} actions; kept {answer.kept:,}, removed {answer.removed:,}.",
        f"Used {counts[Verdict.USED]:,}, not used {idle:,}, cannot be known {hidden:,}.",
        "The proof holds: nothing new is granted, nothing used is lost.",
        f"Of the {said.allowed:,} calls that the report tells of, {len(said.refused):,} would be refused.",
    ]
    lines += [f"! {w.message}" for w in answer.warnings]
    sensitive = [a for a in answer.actions if a.sensitive]
    if sensitive:
        lines += ["", f"Look twice before these go ({len(sensitive):,})"]
        lines += _listed([f"{a.action}: {a.sensitive}." for a in sensitive])
    for each in answer.policies:
        about = "" if each.name == names[each.source] else f", in place of {names[each.source]}"
        lines += ["", f"{each.name}{about}: {each.outcome.value}, {each.characters:,} characters"]
        lines += [f"  {tier_sentence(each)}"]
        lines += [f"  {line.rstrip()}" for line in _diff(policies, answer, each, context=1)[2:]]
    for verdict in Verdict:
        for kept in (True, False):
            group = [a for a in answer.actions if a.verdict is verdict and a.kept is kept]
            if group:
                lines += ["", f"{'Kept' if kept else 'Dropped'}, {verdict.value} ({len(group):,})"]
                lines += _grouped(group)
    return "\n".join(lines) + "\n"


def _grouped(group: list[ActionVerdict]) -> list[str]:
    """Return a line per reason with the actions that share it, so that a service that goes whole takes a few lines."""
    by: dict[str, list[str]] = {}
    for a in group:
        by.setdefault(a.reason, []).append(a.action)
    lines: list[str] = []
    for reason, actions in by.items():
        lines.append(f"  {reason}")
        lines += [f"  {line}" for line in _listed(actions)]
    return lines


def _listed(items: Sequence[str]) -> list[str]:
    lines = [f"  {item}" for item in items[:_SHOWN]]
    if len(items) > _SHOWN:
        lines.append(f"  and {len(items) - _SHOWN:,} more (--format json lists them all)")
    return lines


def as_explanation(found: ActionVerdict, policies: Sequence[RolePolicy], answer: Trim) -> str:
    """Return all that can be said of one action."""
    from bot.policy.explain import before_and_after

    before, after = before_and_after(found.action, policies, answer)
    lines = [f"{found.action}: {found.verdict.value}, {'kept' if found.kept else 'dropped'}. {found.reason}"]
    lines += [f"Granted by {p.policy}, statement {p.statement}, as {p.entry}." for p in before]
    lines += [f"Stays in {p.policy}, statement {p.statement}, as {p.entry}." for p in after]
    lines.append(f"Access level: {found.level.value}.")
    if found.sensitive:
        lines.append(f"Look twice: {found.sensitive}.")
    if not found.kept:
        lines.append(f"To keep it: --keep {found.action}.")
    return "\n".join(lines)


_COLOURS = (("! ", "yellow"), ("Look twice", "yellow"), ("  +", "green"), ("  -", "red"), ("  @@", "cyan"))


def _coloured(text: str) -> str:
    """Paint the lines of a text or a diff; click takes the paint off again where it is not a terminal."""
    lines = []
    for line in text.splitlines(keepends=True):
        indented = line if line.startswith(("! ", "Look", "  ")) else f"  {line}"
        colour = next((c for start, c in _COLOURS if indented.startswith(start)), None)
        lines.append(click.style(line, fg=colour) if colour else line)
    return "".join(lines)
