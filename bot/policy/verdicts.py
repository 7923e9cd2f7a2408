"""One verdict, with its reason, for each action that a role is granted: the contract's table, row by row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.model import ActionUse, ActionVerdict, Evidence, Mode, ServiceUse, TrimSettings, Verdict
from bot.policy.catalogue import Action, Catalogue
from bot.policy.knowledge import knowledge
from bot.policy.language import matches


@dataclass(frozen=True, slots=True)
class Report:
    """The evidence, keyed in lower case for looking up."""

    services: Mapping[str, ServiceUse]
    actions: Mapping[str, ActionUse]
    last: Mapping[str, datetime]  # a service's own time or its actions' latest: reports can contradict themselves

    @classmethod
    def of(cls, evidence: Evidence) -> Report:
        services = {s.namespace.lower(): s for s in evidence.services}
        actions = {f"{n}:{a.action.lower()}": a for n, s in services.items() for a in s.actions}
        last: dict[str, datetime] = {}
        for namespace, service in services.items():
            times = [t for t in (service.last_accessed, *(a.last_accessed for a in service.actions)) if t]
            if times:
                last[namespace] = max(times)
        return cls(services, actions, last)


def judge(
    granted: Mapping[str, Action],
    names: Mapping[str, tuple[str, ...]],
    unknown: Collection[str],
    evidence: Evidence,
    catalogue: Catalogue,
    settings: TrimSettings,
) -> dict[str, ActionVerdict]:
    """Return a verdict per granted action, by lower-case full name.

    `names` gives the policies that grant each; `unknown` are those that the catalogue does not know.
    """
    report = Report.of(evidence)
    since = settings.now - timedelta(days=settings.window_days)
    verdicts: dict[str, ActionVerdict] = {}
    pairs: list[str] = []
    for key, action in granted.items():
        verdict, kept, reason = _first(key, action, key in unknown, report, since, catalogue, settings)
        if verdict is None:
            pairs.append(key)
            continue
        verdicts[key] = _make(key, action, verdict, kept, reason, report, names[key])
    # Permissions without a call of their own are judged last: they follow what is kept of the others.
    kept_names = [v.action for v in verdicts.values() if v.kept]
    for key in pairs:
        verdict, kept, reason = _pair(granted[key], kept_names, report, since, settings)
        verdicts[key] = _make(key, granted[key], verdict, kept, reason, report, names[key])
    return verdicts


def _make(
    key: str, action: Action, verdict: Verdict, kept: bool, reason: str, report: Report, names: tuple[str, ...]
) -> ActionVerdict:
    use = report.actions.get(key)
    return ActionVerdict(
        action=action.full,
        verdict=verdict,
        kept=kept,
        reason=reason,
        level=action.level,
        last_accessed=use.last_accessed if use else None,
        region=use.region if use else "",
        sensitive="" if kept else knowledge().is_sensitive(action.full),
        policies=names,
    )


def _first(
    key: str,
    action: Action,
    unknown: bool,
    report: Report,
    since: datetime,
    catalogue: Catalogue,
    settings: TrimSettings,
) -> tuple[Verdict | None, bool, str]:
    """Return verdict, kept and reason; no verdict for a permission that follows others."""
    safe = settings.mode is Mode.SAFE
    use = report.actions.get(key)
    days = settings.window_days
    if use is not None and use.last_accessed is not None and use.last_accessed >= since:
        where = f" in {use.region}" if use.region else ""
        return Verdict.USED, True, f"Last attempted on {_day(use.last_accessed)}{where}."
    for pattern in settings.keep_by_hand:
        if matches(pattern, key):
            return Verdict.PROTECTED, True, "Kept by hand for this proposal."
    for pattern in settings.keep:
        if matches(pattern, key):
            return Verdict.PROTECTED, True, f"Always kept: it matches {pattern} of the settings."
    if use is not None and use.last_accessed is not None:
        return Verdict.STALE, False, f"Last attempted on {_day(use.last_accessed)}, more than {days} days ago."
    if use is not None:
        return Verdict.UNUSED, False, "IAM tracks it and saw no attempt in the tracking period."
    if knowledge().pair(key) is not None:
        return None, False, ""
    hidden = knowledge().is_invisible(key)
    if hidden:
        return Verdict.INVISIBLE, safe, f"IAM cannot see its use: {hidden}. {_fate(safe)}"
    service = action.service.lower()
    title = catalogue.title(service)
    if service not in report.services:
        why = f"The report does not cover {title}, so its use cannot be known. {_fate(safe)}"
        return Verdict.UNKNOWN, safe, why
    last = report.last.get(service)
    if last is None:
        return Verdict.SERVICE_UNUSED, False, f"Nothing of {title} was attempted in the tracking period."
    if last < since:
        return Verdict.SERVICE_UNUSED, False, f"{title} was last attempted on {_day(last)}, more than {days} days ago."
    if unknown:
        return Verdict.UNKNOWN, safe, f"The action is not in the catalogue, so its use cannot be known. {_fate(safe)}"
    if not report.services[service].actions:
        why = f"{title} is in use, and IAM tracks none of its actions: use cannot be known. {_fate(safe)}"
    else:
        why = f"{title} is in use, and IAM does not track this action: use cannot be known. {_fate(safe)}"
    return Verdict.UNTRACKED, safe, why


def _pair(
    action: Action, kept: list[str], report: Report, since: datetime, settings: TrimSettings
) -> tuple[Verdict, bool, str]:
    pair = knowledge().pair(action.full)
    assert pair is not None
    by = next((k for k in kept if any(matches(c, k) for c in pair.consumers)), None)
    if by is not None:
        return Verdict.NEEDED, True, f"{by} is kept, and it {pair.why}."
    last = report.last.get(action.service.lower())
    if settings.mode is Mode.SAFE and last is not None and last >= since:
        why = f"No kept action is known to need it, but its service is in use. {_fate(True)}"
        return Verdict.NOT_NEEDED, True, why
    return Verdict.NOT_NEEDED, False, "It has no call of its own, and no kept action needs it."


def _fate(safe: bool) -> str:
    return "Safe mode keeps it." if safe else "Strict mode drops it."


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d}"
