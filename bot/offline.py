"""`refine trim` and `refine explain`: the engine on files, without Slack and without AWS credentials."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Timer
from typing import TYPE_CHECKING, Any

import click

from bot.errors import InputError, PolicyError, RefineError
from bot.terminal import plain, plain_lines, tell

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
    "nameless",
    "shortened",
)
_PATTERN = re.compile(r"\*|[A-Za-z0-9*?-]+:[A-Za-z0-9*?_.-]+")
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

        _show(write(as_json(policies, answer)) + "\n")
        return
    text = as_diff(policies, answer) if form == "diff" else as_text(policies, answer, evidence, given["window"])
    _show(text, _coloured)


@click.command()
@_inputs
@click.argument("action")
def explain(action: str, **given: Any) -> None:
    """Say of one ACTION (service:Name) what becomes of it, and why.

    A pattern such as 's3:Put*' asks for each action that it matches.

    Exit status: 0 with an answer, 1 where the policies do not grant it, 2 for input that cannot be read.
    """
    from bot.policy.explain import unknown_sentence
    from bot.policy.patterns import matches

    policies, _, answer = _answer(**given)
    found = [a for a in answer.actions if a.action.lower() == action.lower()]
    found = found or [a for a in answer.actions if ":" in action and matches(action, a.action)]
    unknown = "" if found or ":" not in action else unknown_sentence(action, policies, answer)
    if unknown:
        _show(f"{unknown}\n")
        return
    if not found:
        click.echo(f"refine: {plain(action)} is not granted by these policies.", err=True)
        sys.exit(1)
    _show("\n\n".join(as_explanation(a, policies, answer) for a in found) + "\n")


def _show(text: str, painted: Callable[[str], str] = str) -> None:
    """Write the answer to standard output, painted where it is a terminal that wants it."""
    if sys.stdout is None:
        raise InputError("Standard output is closed, so the answer goes nowhere.", "Leave it open.")
    click.echo(painted(plain_lines(text)), nl=False, color=False if os.environ.get("NO_COLOR") else None)


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
        files = [*(_named(p)[1] for p in (*managed, *inline)), report, *([account_details] if account_details else ())]
        again = next((f for i, f in enumerate(files) if f in files[:i]), None)
        if again:
            raise InputError(f"{_called(again)} is given twice.", "Give each file once.")
        if not account_details and role:
            raise InputError("--role goes with --account-details.", "Leave it out with --policy and --inline-policy.")
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
            if not _PATTERN.fullmatch(pattern):
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
        tell(error)
        sys.exit(2)
    if not answer.proof.holds:
        click.echo("refine: the proof of this proposal fails, so it is not shown: this is a bug.", err=True)
        for problem in answer.proof.problems:
            click.echo(f"  {plain(problem)}", err=True)
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


def _called(file: str) -> str:
    return "Standard input" if file == "-" else file


def _read(file: str) -> str:
    """Return a file's text, without the mark in front of it: UTF-8, or UTF-16 as PowerShell's `>` writes it."""
    try:
        with open(0 if file == "-" else file, "rb", closefd=file != "-") as source:
            data = source.read()
    except OSError as error:
        raise InputError(f"{_called(file)} cannot be read: {error.strerror}.") from None
    try:
        return data.decode("utf-16" if data[:2] in {BOM_UTF16_LE, BOM_UTF16_BE} else "utf-8").lstrip("\ufeff")
    except UnicodeDecodeError:
        raise InputError(f"{_called(file)} is not UTF-8 text.", "Save it as UTF-8.") from None


def _json(file: str, text: str) -> Any:
    from bot.policy.language import read_json

    try:
        return read_json(text, _called(file))
    except PolicyError as error:
        raise InputError(error.sentence, error.next_step) from None


def _named(given: str) -> tuple[str, str]:
    """Return the name of a policy and its file, of what was given as [NAME=]FILE."""
    name, equals, file = given.partition("=")
    return (name, file) if equals else (Path(given).stem, given)


def _policy(given: str, kind: PolicyKind) -> RolePolicy:
    from bot.model import PolicyKind, RolePolicy
    from bot.policy import parse

    name, file = _named(given)
    if not name.strip() or not name.isprintable():
        raise InputError(f"{given!r} gives a policy no name that can be shown.", "Name it: NAME=FILE.")
    text = _read(file)
    # What `aws iam get-policy-version` and `get-role-policy` print holds the document one level down.
    raw = _json(file, text)
    inner = raw.get("PolicyVersion", raw) if isinstance(raw, dict) else raw
    inner = inner.get("Document", inner.get("PolicyDocument")) if isinstance(inner, dict) else None
    if isinstance(inner, dict | str):
        text = _text(inner)
    try:
        parse(text, _called(file))
    except PolicyError as error:
        raise InputError(error.sentence, error.next_step) from None
    arn = f"arn:aws:iam::000000000000:policy/{name}" if kind is PolicyKind.CUSTOMER else ""
    return RolePolicy(name=name, kind=kind, text=text, arn=arn)


def _evidence(file: str, arn: str, created: datetime | None) -> Evidence:
    from bot.policy.report import read_report

    raw = _json(file, _read(file))
    if not isinstance(raw, dict):
        raise InputError(f"{_called(file)} is not a last accessed report: it is no JSON object.")
    try:
        return read_report(raw, role_arn=arn, role_created_at=created)
    except RefineError as error:
        raise InputError(f"{_called(file)}: {error.sentence}", error.next_step) from None


# -------------------- what get-account-authorization-details printed


def _from_details(file: str, name: str) -> tuple[list[RolePolicy], datetime | None, str]:
    try:
        return _role(_Place("$", _json(file, _read(file))), name)
    except _NotThereError as error:
        raise InputError(
            f"{_called(file)} is not the output of get-account-authorization-details: {error}.",
            "Give what that command prints, whole.",
        ) from None
    except InputError as error:
        raise InputError(f"{_called(file)}: {error.sentence}", error.next_step) from None


class _NotThereError(Exception):
    """A JSON value is missing or of another type than AWS writes; says where."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A JSON value and its path; what is not as AWS writes it is told by that path."""

    path: str
    value: Any

    def get(self, key: str) -> _Place:
        if not isinstance(self.value, dict):
            raise _NotThereError(f"its {self.path} is not an object")
        return _Place(f"{self.path}.{key}", self.value.get(key))

    def each(self, key: str) -> list[_Place]:
        """Return the parts of a list; none where there is no list."""
        found = self.get(key)
        if not isinstance(found.value, list | None):
            raise _NotThereError(f"its {found.path} is not a list")
        return [_Place(f"{found.path}[{i}]", v) for i, v in enumerate(found.value or ())]

    def text(self, key: str) -> str:
        found = self.get(key)
        if not isinstance(found.value, str) or not found.value or not found.value.isprintable():
            raise _NotThereError(f"its {found.path} {'is missing' if found.value is None else 'is not a text'}")
        return found.value

    def count(self, key: str, default: int) -> int:
        found = self.get(key)
        if found.value is None:
            return default
        if not isinstance(found.value, int) or isinstance(found.value, bool) or found.value < 0:
            raise _NotThereError(f"its {found.path} is not a number of principals")
        return found.value

    def document(self, key: str) -> str:
        found = self.get(key)
        if not isinstance(found.value, dict | str):
            raise _NotThereError(f"its {found.path} is not a policy document")
        return _text(found.value)

    def time(self, key: str) -> datetime | None:
        from bot.policy.report import moment

        found = self.get(key)
        return moment(found.value, found.path)


def _role(raw: _Place, name: str) -> tuple[list[RolePolicy], datetime | None, str]:
    from bot.model import PolicyKind, RolePolicy

    if raw.get("RoleDetailList").value is None:
        raise _NotThereError("it has no $.RoleDetailList")
    role = next((r for r in raw.each("RoleDetailList") if r.get("RoleName").value == name), None)
    if role is None:
        raise InputError(f"It holds no role called {name}.", "Fetch the details with --filter Role, or with none.")
    managed = {p.text("Arn"): p for p in raw.each("Policies")}
    found: list[RolePolicy] = []
    for each in role.each("AttachedManagedPolicies"):
        arn = each.text("PolicyArn")
        details = managed.get(arn)
        if details is None:
            raise InputError(f"It does not hold {arn}.", "Fetch the details with every --filter, or none.")
        version = next((v for v in details.each("PolicyVersionList") if v.get("IsDefaultVersion").value is True), None)
        if version is None:
            raise InputError(f"It does not hold the version of {arn} that is in force.", "Fetch the details anew.")
        found.append(
            RolePolicy(
                name=each.text("PolicyName"),
                kind=PolicyKind.AWS if ":iam::aws:" in arn else PolicyKind.CUSTOMER,
                arn=arn,
                text=version.document("Document"),
                attachments=details.count("AttachmentCount", 1),
                boundary_uses=details.count("PermissionsBoundaryUsageCount", 0),
                default_version=version.text("VersionId"),
                version_created_at=version.time("CreateDate"),
            )
        )
    found += [
        RolePolicy(name=p.text("PolicyName"), kind=PolicyKind.INLINE, text=p.document("PolicyDocument"))
        for p in role.each("RolePolicyList")
    ]
    if not found:
        raise InputError(f"The role {name} has no permissions policies, so there is nothing to trim.")
    return found, role.time("CreateDate"), role.text("Arn")


def _text(document: Any) -> str:
    return document.lstrip("\ufeff") if isinstance(document, str) else json.dumps(document, ensure_ascii=False)


# -------------------- the three forms


def as_json(policies: Sequence[RolePolicy], answer: Trim) -> dict[str, Any]:
    """Return the answer as the contract's JSON object."""
    from bot.model import PolicyKind
    from bot.policy import parse

    names = {p.key: p.name for p in policies}
    return {
        "policies": [
            {
                "name": p.name,
                "kind": "inline" if p.kind is PolicyKind.INLINE else "managed",
                "from": names[p.source],
                "outcome": p.outcome.value,
                "tier": p.tier,
                "document": parse(p.text, p.name).raw if p.text is not None else None,
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
            for a in sorted(answer.actions, key=lambda a: not a.sensitive)  # what deserves a second look first
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
    """Return unified diffs, each document first laid out alike so that only meaning differs.

    Before them, in lines that no tool takes for a part of one, stand the removals that deserve a second look.
    """
    twice = [f"# Look twice before {a.action} goes: {a.sensitive}.\n" for a in answer.actions if a.sensitive]
    return "".join(twice) + "".join(
        line for each in answer.policies for line in _diff(policies, answer, each, context=3)
    )


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
    from bot.policy import parse
    from bot.policy.language import write

    return write(parse(text).raw) + "\n"


def as_text(policies: Sequence[RolePolicy], answer: Trim, evidence: Evidence, window: int) -> str:
    """Return the answer for a person: counts, what to look at twice, each policy's diff, every reason."""
    from bot.model import Verdict
    from bot.policy import calls_of, rehearse
    from bot.policy.explain import tier_sentence

    names = {p.key: p.name for p in policies}
    counts = Counter(a.verdict for a in answer.actions)
    hidden = sum(counts[v] for v in (Verdict.UNTRACKED, Verdict.UNKNOWN, Verdict.INVISIBLE))
    idle = sum(counts[v] for v in (Verdict.STALE, Verdict.UNUSED, Verdict.SERVICE_UNUSED))
    no_call = sum(counts[v] for v in (Verdict.NEEDED, Verdict.NOT_NEEDED))
    asked = counts[Verdict.PROTECTED]
    rest = f", without a call of their own {no_call:,}" if no_call else ""
    rest += f", kept because somebody asked {asked:,}" if asked else ""
    said = rehearse(policies, answer.policies, calls_of(evidence, evidence.made_at - timedelta(days=window)))
    lines = [
        f"Granted {answer.granted:,} actions; kept {answer.kept:,}, removed {answer.removed:,}.",
        f"Used {counts[Verdict.USED]:,}, not used {idle:,}, cannot be known {hidden:,}{rest}.",
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
