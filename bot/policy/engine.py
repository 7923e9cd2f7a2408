"""Trim: from what a role may do and what it did to what it should be allowed to do, and why.

Pure: everything comes in as arguments, and the same input gives the same output to the byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bot.errors import NoEvidenceError
from bot.model import Evidence, Mode, RolePolicy, ServiceSummary, Trim, TrimSettings, Verdict
from bot.policy.catalogue import Action, Catalogue, Extended, Lexicon, Refreshed, lexicon
from bot.policy.check import check
from bot.policy.fit import fit
from bot.policy.language import Document, Statement, is_action, parse
from bot.policy.patterns import inside, meets
from bot.policy.verdicts import Report, judge, protects
from bot.policy.warn import warnings


def trim(policies: Sequence[RolePolicy], evidence: Evidence, catalogue: Catalogue, settings: TrimSettings) -> Trim:
    """Return trimmed documents, a verdict per granted action, warnings and the proof.

    Raises:
        PolicyError: a document is not one, or the kept actions fit no quota (TooBigError).
        NoEvidenceError: a warning that the settings make a refusal.
    """
    if settings.mode is Mode.STRICT and isinstance(catalogue, Refreshed):
        catalogue = catalogue.base
    documents = {p.key: parse(p.text, p.name) for p in policies}
    lex = extended(documents.values(), catalogue, evidence, settings)
    grants = {
        key: {s.index: granted_by(s, lex) for s in document.statements if s.allow}
        for key, document in documents.items()
    }
    granted: dict[str, Action] = {}
    names: dict[str, tuple[str, ...]] = {}
    for policy in policies:
        mine: dict[str, Action] = {}
        for found in grants[policy.key].values():
            mine |= found
        alone = (policy.name,)
        again = {k: names[k] if policy.name in names[k] else names[k] + alone for k in names.keys() & mine.keys()}
        names |= dict.fromkeys(mine, alone) | again
        granted = mine | granted
    granted = {key: granted[key] for key in sorted(granted)}
    report = Report.of(evidence, settings)
    verdicts = judge(granted, names, report, lex.catalogue, settings)
    keep = {key for key, verdict in verdicts.items() if verdict.kept}
    role = evidence.role_arn.rsplit("/", 1)[-1]
    outcomes = fit(policies, documents, grants, keep, lex, settings, role)
    must = [v.action for v in verdicts.values() if v.verdict in {Verdict.USED, Verdict.PROTECTED}]
    nameless = tuple(_nameless(documents.values(), granted, report, catalogue, settings))
    said = warnings(policies, evidence, report, settings, outcomes, nameless)
    refused = next((w for w in said if w.code in settings.refuse), None)
    if refused is not None:
        raise NoEvidenceError(refused.message, "The settings make this a refusal.")
    return Trim(
        policies=outcomes,
        actions=tuple(verdicts.values()),
        services=_services(granted, keep, report, lex.catalogue),
        warnings=said,
        proof=check(policies, outcomes, must),
    )


# -------------------- what is granted


def _asked(settings: TrimSettings) -> tuple[str, ...]:
    """Return the patterns that somebody asked to keep."""
    return (*settings.keep_by_hand, *settings.keep)


def extended(
    documents: Iterable[Document],
    catalogue: Catalogue,
    evidence: Evidence | None = None,
    settings: TrimSettings | None = None,
) -> Lexicon:
    """Return the catalogue with what the report tracks, the policies name or somebody asked to keep beside what it has.

    A name nobody knows, and a pattern that means nothing known, stand for themselves. So does each pattern of a service
    that the catalogue lacks, and `service:*`: more may be behind it than anybody names.
    """
    known = frozenset(catalogue.services())
    services = evidence.services if evidence else ()
    more = [
        Action(use.namespace.lower(), a.action)
        for use in services
        for a in use.actions
        if a.action.lower() not in catalogue.actions(use.namespace.lower())
    ]
    lex = lexicon(Extended(catalogue, more)) if more else lexicon(catalogue)
    allowed = (s for d in documents for s in d.statements if s.allow and not s.inverted)
    for pattern in (
        *(p for s in allowed for p in s.patterns),
        *filter(is_action, _asked(settings) if settings else ()),
    ):
        service, _, rest = pattern.partition(":")
        if rest and service != "*" and (service.lower() not in known or not lex.expand(pattern)):
            more.append(Action(service.lower(), rest))
    strange = {a.service for a in more} | {use.namespace.lower() for use in services}
    more += [Action(service, "*") for service in sorted(strange - known)]
    return lexicon(Extended(catalogue, more)) if more else lex


def granted_by(statement: Statement, lex: Lexicon) -> Mapping[str, Action]:
    """Return the actions that a statement's Action or NotAction takes in, by lower-case full name."""
    if statement.inverted:
        found = dict(lex.expand("*"))
        for pattern in statement.patterns:
            for key in (*lex.expand(pattern), *(k for k in lex.odd if meets(k, pattern))):
                found.pop(key, None)
        return found
    if len(statement.patterns) == 1:
        return lex.expand(statement.patterns[0])
    found = {}
    for pattern in statement.patterns:
        action = lex.named(pattern)
        if action is None:
            found |= lex.expand(pattern)
        else:
            found[action.key] = action
    return found


def _nameless(
    documents: Iterable[Document], granted: Iterable[str], report: Report, catalogue: Catalogue, settings: TrimSettings
) -> Iterator[str]:
    """Yield what goes although it is in use, or somebody asked to keep it, because no name that is granted says it."""
    allows = [s for d in documents for s in d.statements if s.allow]
    for asked in _asked(settings):
        if any(_touches(s, asked) for s in allows) and not any(protects(asked, key) for key in granted):
            yield f"{asked} is to be kept and keeps nothing: it matches no known action, and passes what is granted."
    if settings.mode is Mode.STRICT:
        return
    for service in sorted(report.last.keys() - {*catalogue.services()}):
        whole = f"{service}:*"
        barred = any(s.inverted and _touches(s, whole) for s in allows) and whole not in granted
        if barred and report.last[service] >= report.since:
            yield (
                f"{service} is in use and the catalogue does not know it: what a NotAction grants of a part of it "
                "cannot be listed, and goes where IAM does not track it."
            )


def _touches(statement: Statement, pattern: str) -> bool:
    """Tell whether a statement's actions have something of a pattern."""
    if statement.inverted:
        return not any(inside(pattern, p) for p in statement.patterns)
    return any(meets(pattern, p) for p in statement.patterns)


def _services(
    granted: Mapping[str, Action], keep: set[str], report: Report, catalogue: Catalogue
) -> tuple[ServiceSummary, ...]:
    of = Counter([action.service for action in granted.values()])
    kept = Counter([granted[key].service for key in keep])
    tracked = Counter([granted[key].service for key in granted.keys() & report.actions.keys()])
    return tuple(
        ServiceSummary(
            namespace=namespace,
            name=(report.services[namespace].name if namespace in report.services else "")
            or catalogue.title(namespace),
            last_accessed=report.last.get(namespace),
            granted=of[namespace],
            kept=kept[namespace],
            tracked=tracked[namespace],
            region=report.services[namespace].region if namespace in report.services else "",
        )
        for namespace in sorted({*report.services, *of})
    )
