"""One verdict, with its reason, for each action that a role is granted: the contract's table, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bot.model import AccessLevel, ActionUse, ActionVerdict, Evidence, Mode, ServiceUse, TrimSettings, Verdict
from bot.policy.catalogue import Action, Catalogue
from bot.policy.knowledge import knowledge
from bot.policy.patterns import inside, is_name, matches


@dataclass(frozen=True, slots=True)
class Report:
    """The evidence, keyed in lower case for looking up."""

    services: Mapping[str, ServiceUse]
    actions: Mapping[str, ActionUse]
    last: Mapping[str, datetime]  # a service's own time or its actions' latest: reports can contradict themselves
    since: datetime  # when the window begins

    @classmethod
    def of(cls, evidence: Evidence, settings: TrimSettings) -> Report:
        services: dict[str, ServiceUse] = {}
        actions: dict[str, ActionUse] = {}
        last: dict[str, datetime] = {}
        for service in evidence.services:
            namespace = service.namespace.lower()
            # Should a report name one twice, the one with more to tell counts, and the latest of all times.
            if namespace not in services or len(service.actions) > len(services[namespace].actions):
                services[namespace] = service
            latest = last.get(namespace)
            if _later(service.last_accessed, latest):
                latest = service.last_accessed
            for use in service.actions:
                key = f"{namespace}:{use.action.lower()}"
                at = use.last_accessed
                if key not in actions or _later(at, actions[key].last_accessed):
                    actions[key] = use
                if at is not None and _later(at, latest):
                    latest = at
            if latest is not None:
                last[namespace] = latest
        return cls(services, actions, last, seen_until(evidence, settings) - timedelta(days=settings.window_days))


def seen_until(evidence: Evidence, settings: TrimSettings) -> datetime:
    """Return the end of the window: of the days since the report was made, it says nothing."""
    return min(settings.now, evidence.made_at)


def _later(at: datetime | None, than: datetime | None) -> bool:
    return at is not None and (than is None or at > than)


def protects(pattern: str, key: str) -> bool:
    """Tell whether a pattern to keep means an action; one that nobody knows stands for all that it can mean."""
    return matches(pattern, key) if is_name(key) else inside(key, pattern)


def judge(
    granted: Mapping[str, Action],
    names: Mapping[str, tuple[str, ...]],
    report: Report,
    catalogue: Catalogue,
    settings: TrimSettings,
) -> dict[str, ActionVerdict]:
    """Return a verdict per granted action, by lower-case full name, in the order of `granted`.

    `names` gives the policies that grant each. What a kept pattern takes in, though nobody knows its names, stays as
    well: no list of names leaves out the one and keeps the others.
    """
    table = _Table(report, catalogue, settings)
    verdicts: dict[str, ActionVerdict] = {}
    kept: list[str] = []
    waiting: list[str] = []
    for key, action in granted.items():
        use = report.actions.get(key)
        row = table.row(key, action, use)
        if row is None:
            # A permission without a call of its own is judged last: it follows what is kept of the others.
            waiting.append(key)
            row = _IDLE
        elif row[1]:
            kept.append(action.full)
        verdicts[key] = table.verdict(key, action, use, row, names[key])
    for key in waiting:
        action = granted[key]
        verdicts[key] = table.verdict(key, action, report.actions.get(key), table.pair(key, action, kept), names[key])
    odd = {key: verdict.action for key, verdict in verdicts.items() if verdict.kept and not is_name(key)}
    for key, verdict in verdicts.items() if odd else ():
        over = next((pattern for o, pattern in odd.items() if inside(key, o)), None)
        if over is not None and not verdict.kept:
            why = f"It stays with {over}, because nobody knows the names of what else that means."
            verdicts[key] = replace(verdict, verdict=Verdict.UNKNOWN, kept=True, reason=why, sensitive="")
    written = {granted[key].service for key, verdict in verdicts.items() if verdict.kept and verdict.level in _WRITES}
    for key, verdict in verdicts.items() if written else ():
        if not verdict.kept and not verdict.sensitive and granted[key].service in written:
            tags = knowledge().tagging.of(key)
            if tags:
                verdicts[key] = replace(verdict, sensitive=tags)
    return verdicts


_WRITES = {AccessLevel.WRITE, AccessLevel.UNKNOWN}  # what may create something, as far as is known
_Row = tuple[Verdict, bool, str]  # verdict, kept, reason
_UNUSED: _Row = (Verdict.UNUSED, False, "IAM tracks it and saw no attempt in the tracking period.")
_IDLE: _Row = (Verdict.NOT_NEEDED, False, "It has no call of its own, and no kept action needs it.")


class _Table:
    """The contract's table: the first row that fits decides."""

    def __init__(self, report: Report, catalogue: Catalogue, settings: TrimSettings) -> None:
        self.report = report
        self.catalogue = catalogue
        self.settings = settings
        self.safe = settings.mode is Mode.SAFE
        self.fate = "Safe mode keeps it." if self.safe else "Strict mode drops it."
        self.pairs = knowledge().pairs
        self.invisible = knowledge().invisible
        self.sensitive = knowledge().sensitive
        # Most services have nothing that the data file speaks of.
        self.special = self.invisible.services() | {key.partition(":")[0] for key in self.pairs}
        self.silent: dict[str, _Row] = {}

    def row(self, key: str, action: Action, use: ActionUse | None) -> _Row | None:
        """Return verdict, kept and reason; None for a permission that follows others."""
        at = use.last_accessed if use else None
        if use is not None and at is not None and at >= self.report.since:
            where = f" in {use.region}" if use.region else ""
            return Verdict.USED, True, f"Last attempted on {_day(at)}{where}."
        if self.settings.keep_by_hand or self.settings.keep:
            if any(protects(p, key) for p in self.settings.keep_by_hand):
                return Verdict.PROTECTED, True, "Kept by hand for this proposal."
            kept = next((p for p in self.settings.keep if protects(p, key)), None)
            if kept is not None:
                return Verdict.PROTECTED, True, f"Always kept: it matches {kept} of the settings."
        if at is not None:
            days = self.settings.window_days
            return Verdict.STALE, False, f"Last attempted on {_day(at)}, more than {_days(days)} ago."
        if use is not None and action.tracked is not False:
            return _UNUSED
        if action.service in self.special:
            if key in self.pairs:
                return None
            hidden = self.invisible.of(key)
            if hidden:
                return Verdict.INVISIBLE, self.safe, f"IAM cannot see its use: {hidden}. {self.fate}"
        silent = self.silent.get(action.service)
        if silent is None:
            silent = self.silent[action.service] = self._silent(action.service)
        return silent

    def _silent(self, service: str) -> _Row:
        """Return the row of the actions that only their service's own time speaks of."""
        title = self.catalogue.title(service)
        if service not in self.report.services:
            why = f"The report does not cover {title}, so its use cannot be known. {self.fate}"
            return Verdict.UNKNOWN, self.safe, why
        last = self.report.last.get(service)
        if last is None:
            return Verdict.SERVICE_UNUSED, False, f"Nothing of {title} was attempted in the tracking period."
        if last < self.report.since:
            days = self.settings.window_days
            why = f"{title} was last attempted on {_day(last)}, more than {_days(days)} ago."
            return Verdict.SERVICE_UNUSED, False, why
        what = "does not track this action" if self.report.services[service].actions else "tracks none of its actions"
        return Verdict.UNTRACKED, self.safe, f"{title} is in use, and IAM {what}: use cannot be known. {self.fate}"

    def pair(self, key: str, action: Action, kept: list[str]) -> _Row:
        pair = self.pairs[key]
        by = pair.consumer(kept)
        if by is not None:
            return Verdict.NEEDED, True, f"{by} is kept, and it {pair.why}."
        last = self.report.last.get(action.service.lower())
        if self.safe and last is not None and last >= self.report.since:
            why = f"No kept action is known to need it, but its service is in use. {self.fate}"
            return Verdict.NOT_NEEDED, True, why
        return _IDLE

    def verdict(
        self, key: str, action: Action, use: ActionUse | None, row: _Row, policies: tuple[str, ...]
    ) -> ActionVerdict:
        return ActionVerdict(
            action=action.full,
            verdict=row[0],
            kept=row[1],
            reason=row[2],
            level=action.level,
            last_accessed=use.last_accessed if use else None,
            region=use.region if use else "",
            sensitive="" if row[1] else self.sensitive.of(key),
            policies=policies,
        )


def _day(at: datetime) -> str:
    return at.date().isoformat()


def _days(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"
