"""What a person must see before they say yes: too little evidence is said, never guessed around."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from bot.model import Evidence, PolicyOutcome, RolePolicy, TrimSettings, Warning_
from bot.policy.verdicts import Report, seen_until

# Every code there is, with what it says; settings may make each a refusal.
CODES = {
    "role_too_young": "the role is younger than the window, or nobody knows how old it is",
    "policy_too_young": "a policy's version in force is younger than the window",
    "report_too_old": "the report is older than the settings allow",
    "tracking_too_short": "IAM tracked fewer days than the window has",
    "report_contradicts": "the report gives actions a later time than their service",
    "empty_report": "the report covers no service",
    "nameless": "something in use, or to be kept, has no name that could be written",
    "shortened": "a policy is written with wildcards to fit IAM's limit",
}
_TIERS = {
    2: "is written with stars between the words of a name",
    3: "is one of several parts, with stars between the words of a name only where that spares a part",
    4: "is written with stars anywhere in a name",
    5: "is written with patterns of a part of a name",
}


def warnings(
    policies: Sequence[RolePolicy],
    evidence: Evidence,
    report: Report,
    settings: TrimSettings,
    outcomes: Sequence[PolicyOutcome],
    nameless: Sequence[str],
) -> tuple[Warning_, ...]:
    """Return the warnings on a proposal, in the order of `CODES`; `nameless` says what goes for want of a name."""
    found: list[Warning_] = []
    window = timedelta(days=settings.window_days)
    wide = _count(settings.window_days, "day")
    now, end = settings.now, seen_until(evidence, settings)
    old = now - end >= timedelta(days=1)  # then an age is that at the report's time, and said so

    def warn(code: str, message: str) -> None:
        found.append(Warning_(code=code, message=message))

    def young(since: datetime) -> str:
        if since >= end and old:
            return "is newer than the report"
        days = _count(max((end - since).days, 0), "day")
        age = f"was {days} old when the report was made" if old else f"is {days} old"
        return f"{age}, younger than the window of {wide}"

    if evidence.role_created_at is None:
        warn(
            "role_too_young",
            f"Nobody knows how old the role is: if it is younger than the window of {wide}, what it does once a month "
            "or a quarter may not have happened yet.",
        )
    elif end - evidence.role_created_at < window:
        warn(
            "role_too_young",
            f"The role {young(evidence.role_created_at)}: what it does once a month or a quarter may not have "
            "happened yet.",
        )
    for policy in policies:
        made = policy.version_created_at
        if made is not None and end - made < window:
            warn(
                "policy_too_young",
                f"The version of {policy.name} in force {young(made)}: what it newly grants looks unused because it is "
                "new.",
            )
    age_of_report = now - evidence.made_at
    if age_of_report > timedelta(hours=settings.max_report_age_hours):
        hours = _count(int(age_of_report.total_seconds() // 3600), "hour")
        most = _count(settings.max_report_age_hours, "hour")
        warn("report_too_old", f"The report is {hours} old; the settings ask for {most} at most.")
    if evidence.tracking_days < settings.window_days:
        days = _count(evidence.tracking_days, "day")
        warn("tracking_too_short", f"IAM tracked {days} here, less than the window of {wide}.")
    odd = sorted(n for n, s in report.services.items() if n in report.last and report.last[n] != s.last_accessed)
    if odd:
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        warn(
            "report_contradicts",
            f"The report gives a later time for actions than for their service ({', '.join(odd[:5])}{more}); the later "
            "one was taken.",
        )
    if not evidence.services:
        warn("empty_report", "The report covers no service at all.")
    for message in nameless:
        warn("nameless", message)
    for outcome in outcomes:
        if outcome.tier in _TIERS:
            warn(
                "shortened",
                f"{outcome.name} {_TIERS[outcome.tier]} (tier {outcome.tier}), because explicit names "
                "would pass IAM's size limit; each pattern matches kept actions only, and nothing that was not granted "
                "before.",
            )
    return tuple(found)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
