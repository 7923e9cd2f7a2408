"""Numbers and lists that messages show: counts that never mix up "not used" and "cannot be known", diffs, steps."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bot.messages.text import Mrk, code, many, mrk
from bot.messages.words import STEPS
from bot.model import (
    ActionVerdict,
    Outcome,
    PolicyKind,
    PolicyOutcome,
    Proposal,
    RolePolicy,
    Step,
    StepKind,
    Trim,
    Verdict,
)

USED = frozenset({Verdict.USED})
NOT_USED = frozenset({Verdict.STALE, Verdict.UNUSED, Verdict.SERVICE_UNUSED})
HIDDEN = frozenset({Verdict.UNTRACKED, Verdict.UNKNOWN, Verdict.INVISIBLE})
NO_CALL = frozenset({Verdict.NEEDED, Verdict.NOT_NEEDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became known of a role's granted actions; the five add up to what is granted."""

    granted: int
    used: int
    unused: int
    hidden: int  # IAM cannot tell
    no_call: int  # permissions without an API call of their own
    protected: int  # kept by the settings or by hand

    @classmethod
    def of(cls, actions: Iterable[ActionVerdict]) -> Counts:
        by = Counter(a.verdict for a in actions)
        return cls(
            granted=by.total(),
            used=sum(by[v] for v in USED),
            unused=sum(by[v] for v in NOT_USED),
            hidden=sum(by[v] for v in HIDDEN),
            no_call=sum(by[v] for v in NO_CALL),
            protected=by[Verdict.PROTECTED],
        )


def by_service(actions: Iterable[ActionVerdict]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return namespaces with their actions' bare names, the most actions first."""
    found: dict[str, list[str]] = {}
    for action in actions:
        service, _, name = action.action.partition(":")
        found.setdefault(service, []).append(name)
    return tuple(sorted(((s, tuple(names)) for s, names in found.items()), key=lambda kv: (-len(kv[1]), kv[0])))


def sensitive(trim: Trim) -> tuple[ActionVerdict, ...]:
    return tuple(a for a in trim.actions if not a.kept and a.sensitive)


def unseen_kept(trim: Trim) -> tuple[ActionVerdict, ...]:
    return tuple(a for a in trim.actions if a.kept and a.verdict in HIDDEN)


def headline(made: Proposal) -> str:
    """Return what the proposal does, verb first."""
    role = made.role.name
    if made.give_back is not None:
        return f"Give {many(len(made.give_back.actions), 'action')} back to {role}"
    what, why = gone(made.trim, made.settings.window_days)
    return f"Remove {what} from {role} ({why})" if what else f"Tidy the policies of {role}"


def removing(made: Proposal) -> Mrk:
    """Return the same for the middle of a sentence."""
    role = code(made.role.name)
    if made.give_back is not None:
        return mrk("giving {} back to {}", many(len(made.give_back.actions), "action"), role)
    what, why = gone(made.trim, made.settings.window_days)
    return mrk("removing {} from {} ({})", what, role, why) if what else mrk("tidying the policies of {}", role)


def arrow(made: Proposal) -> Mrk:
    """Return how many actions the role may do before it, and after."""
    return mrk("{} → {} actions", len(live(made)), made.trim.kept)


def live(made: Proposal) -> tuple[ActionVerdict, ...]:
    """Return the actions that the policies which a proposal starts from grant."""
    if made.give_back is None:
        return made.trim.actions
    return tuple(a for a in made.trim.actions if a.kept and a.action not in made.give_back.actions)


def gone(trim: Trim, window_days: int) -> tuple[str, str]:
    """Return how many actions go, and why, with the window; both empty where none goes.

    "Unused" only where everything that goes is known to be unused.
    """
    counts = Counts.of(a for a in trim.actions if not a.kept)
    if not counts.granted:
        return "", ""
    window = f"not used in {many(window_days, 'day')}"
    if counts.unused == counts.granted:
        return many(counts.granted, "unused action"), window
    said = [
        f"{counts.unused:,} {window}" if counts.unused else "",
        f"{counts.hidden:,} whose use cannot be known" if counts.hidden else "",
        f"{counts.no_call:,} without a call of their own" if counts.no_call else "",
    ]
    return many(counts.granted, "action"), ", ".join(s for s in said if s)


# -------------------- documents


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What becomes of one old policy, for people."""

    policy: RolePolicy
    outcome: Outcome
    new: tuple[tuple[str, str], ...]  # names and texts of what takes its place
    diff: tuple[str, ...]  # lines of a unified diff of the documents, each first laid out alike


def documents(proposal: Proposal) -> tuple[Document, ...]:
    """Return what becomes of each policy that changes, in the order of the role's policies.

    What a give-back brings that the role has not any more comes last, as a policy without a text.
    """
    parts: dict[str, list[PolicyOutcome]] = {}
    for outcome in proposal.trim.policies:
        if outcome.outcome is not Outcome.UNCHANGED:
            parts.setdefault(outcome.source, []).append(outcome)
    known = [_document(p, parts.pop(p.key)) for p in proposal.role.policies if p.key in parts]
    return (*known, *(_document(_not_there(key, of[0]), of) for key, of in parts.items()))


def _not_there(key: str, outcome: PolicyOutcome) -> RolePolicy:
    inline = outcome.kind is PolicyKind.INLINE
    return RolePolicy(name=key.rsplit("/", 1)[-1], kind=outcome.kind, text="", arn="" if inline else key)


def _document(policy: RolePolicy, parts: Sequence[PolicyOutcome]) -> Document:
    new = tuple((p.name, p.text) for p in parts if p.text is not None and p.text != policy.text)
    # Of a split, each part is held against the whole old document: what is not in it is in another part. Where a
    # give-back leaves that as it is, what comes beside it is held against nothing.
    old = "" if any(p.text == policy.text for p in parts) else policy.text
    rows = [row for _, text in new or (("", ""),) for row in diff(old, text)]
    return Document(policy=policy, outcome=parts[0].outcome, new=new, diff=tuple(rows))


def diff(old: str, new: str) -> list[str]:
    """Return the lines of a unified diff of two documents, laid out for people."""
    rows = difflib.unified_diff(pretty(old).splitlines(), pretty(new).splitlines(), lineterm="", n=2)
    return [row for row in rows if not row.startswith(("---", "+++"))]


def pretty(text: str) -> str:
    """Return a document laid out for people, so that only meaning differs; the text itself where it is no JSON."""
    if not text:
        return ""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def step_line(step: Step) -> Mrk:
    """Return one write, in the words of the IAM console."""
    form = STEPS[step.kind]
    if step.kind is StepKind.PUT_INLINE and step.before:
        form = "replace the inline policy {}"
    if step.kind is StepKind.DELETE_VERSION and step.before:
        form += " (its document is kept in the journal)"
    return mrk(form, code(step.policy_name), code(step.version or "?"))
