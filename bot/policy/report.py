"""From IAM's last accessed report, as the API and the AWS CLI give it, to evidence. Half a report is no evidence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from bot.errors import InputError, NoEvidenceError
from bot.model import ActionUse, Evidence, ServiceUse

_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def read_report(
    report: Mapping[str, Any],
    *,
    role_arn: str = "",
    role_created_at: datetime | None = None,
    services: Iterable[Mapping[str, Any]] | None = None,
    tracking_days: int = 400,
) -> Evidence:
    """Return the evidence of a `GetServiceLastAccessedDetails` answer; `services` are those of all its pages.

    Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetServiceLastAccessedDetails.html

    Raises:
        NoEvidenceError: the job failed, still runs, has more pages, was made without action granularity, or tells of
            another principal than the role.
        InputError: it is not such an answer.
    """
    status = report.get("JobStatus")
    if status == "FAILED":
        error = report.get("Error")
        why = f" ({error.get('Code', '')}: {error.get('Message', '')})" if isinstance(error, Mapping) else ""
        raise NoEvidenceError(f"IAM could not make the last accessed report{why}.", "Ask for it again.")
    if status == "IN_PROGRESS":
        raise NoEvidenceError("IAM is still making the last accessed report.", "Ask for it again in a minute.")
    if status != "COMPLETED":
        raise InputError(
            "This is not the output of get-service-last-accessed-details: it has no JobStatus of COMPLETED.",
            "Give what that command prints, whole.",
        )
    a_file = services is None  # somebody may have mixed up; what the bot ordered for a role is of that role
    if services is None:
        # A page that is not the last one has a Marker; NextToken is what the AWS CLI writes where it cut the answer.
        if any(report.get(key) not in (None, False, "") for key in ("IsTruncated", "Marker", "NextToken")):
            raise NoEvidenceError("The report has more pages than this file holds.", "Fetch it with --max-items 1000.")
        if report.get("ServicesLastAccessed") is None:
            raise NoEvidenceError(
                "The report has no ServicesLastAccessed, so it says nothing of any service.",
                "Give the whole output of get-service-last-accessed-details, without --query.",
            )
        services = report["ServicesLastAccessed"]
    services = tuple(_list(services, "$.ServicesLastAccessed"))
    if not _of_actions(report.get("JobType"), services):
        raise NoEvidenceError(
            "The report was not made at action level, so it says nothing of actions.",
            "Make it with --granularity ACTION_LEVEL.",
        )
    made_at = moment(report.get("JobCompletionDate"), "JobCompletionDate")
    if made_at is None:
        raise InputError("The report has no JobCompletionDate.")
    found = tuple(_service(s, f"$.ServicesLastAccessed[{i}]") for i, s in enumerate(services))
    if a_file:
        _one_role(services, role_arn)
    return Evidence(
        services=found,
        made_at=made_at,
        tracking_days=tracking_days,
        role_arn=role_arn,
        role_created_at=role_created_at,
    )


def _of_actions(job_type: Any, services: Iterable[Any]) -> bool:
    """Whether the report tells of actions: by its JobType, or where that was left out by the actions in it."""
    if job_type is not None:
        return bool(job_type == "ACTION_LEVEL")
    return any(isinstance(s, Mapping) and s.get("TrackedActionsLastAccessed") for s in services)


def _one_role(services: Iterable[Mapping[str, Any]], role_arn: str) -> None:
    """Refuse a report on another principal, or on a policy or group: it names who was last at each service."""
    seen = {
        each[key]
        for s in services
        for each, key in (
            (s, "LastAuthenticatedEntity"),
            *((a, "LastAccessedEntity") for a in s.get("TrackedActionsLastAccessed") or ()),
        )
        if each.get(key)
    }
    others = {_who(arn) for arn in seen} - {_who(role_arn)}
    if len(others) > (0 if role_arn else 1):
        about = f"another principal than {role_arn}" if role_arn else "several principals, not of one role"
        raise NoEvidenceError(f"The report tells of {about}.", "Make it with --arn and the ARN of the role.")


def _who(arn: str) -> tuple[str, str]:
    """Return account and `role/name` of a principal's ARN: neither path nor session tells it from another."""
    _, _, rest = arn.partition("::")
    account, _, resource = rest.partition(":")
    kind, *path = resource.split("/")
    if kind == "assumed-role":
        kind, path = "role", path[:1]
    return account, f"{kind}/{path[-1] if path else ''}"


def _service(service: Any, at: str) -> ServiceUse:
    if not isinstance(service, Mapping):
        raise InputError(f"The report has something at {at} that is not a service.")
    tracked = service.get("TrackedActionsLastAccessed")
    actions = _list(() if tracked is None else tracked, f"{at}.TrackedActionsLastAccessed")
    return ServiceUse(
        namespace=_name(service, "ServiceNamespace", at),
        name=_text(service, "ServiceName", at),
        last_accessed=moment(service.get("LastAuthenticated"), f"{at}.LastAuthenticated"),
        region=_text(service, "LastAuthenticatedRegion", at),
        entity=_text(service, "LastAuthenticatedEntity", at),
        actions=tuple(_action(a, f"{at}.TrackedActionsLastAccessed[{i}]") for i, a in enumerate(actions)),
    )


def _action(action: Any, at: str) -> ActionUse:
    if not isinstance(action, Mapping):
        raise InputError(f"The report has something at {at} that is not an action.")
    _text(action, "LastAccessedEntity", at)
    return ActionUse(
        action=_name(action, "ActionName", at),
        last_accessed=moment(action.get("LastAccessedTime"), f"{at}.LastAccessedTime"),
        region=_text(action, "LastAccessedRegion", at),
    )


def _list(value: Any, at: str) -> Iterable[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InputError(f"The report has something at {at} that is not a list.")
    return value


def _text(value: Mapping[str, Any], key: str, at: str) -> str:
    found = value.get(key)
    if found is not None and not (isinstance(found, str) and found.isprintable()):
        raise InputError(f"The report has something at {at}.{key} that is not a text.")
    return found or ""


def _name(value: Mapping[str, Any], key: str, at: str) -> str:
    found = value.get(key)
    if not isinstance(found, str) or not _NAME.fullmatch(found):
        raise InputError(f"The report has no name at {at}.{key}.")
    return found


_TIME = "It is like 2026-01-31T00:00:00Z."


def moment(value: Any, name: str) -> datetime | None:
    """Return an aware time in UTC from botocore's datetime or the CLI's ISO text (or seconds since 1970).

    A time without a zone is one in UTC, as IAM's are.

    Raises:
        InputError: it is no time, or one so far away that IAM cannot have written it.
    """
    if value is None:
        return None
    try:
        if isinstance(value, datetime):
            at = value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            at = datetime.fromtimestamp(value, UTC)
        else:
            at = datetime.fromisoformat(str(value))
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        raise InputError(f"{name} holds {str(value)[:40]!r}, which is not a time.", _TIME) from None
    if not 2000 <= at.year < 2200:
        raise InputError(f"{name} holds {str(value)[:40]!r}, which is no time of IAM's.", _TIME)
    return at
