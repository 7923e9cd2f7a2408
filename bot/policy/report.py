"""From IAM's last accessed report, as the API and the AWS CLI give it, to evidence. Half a report is no evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from bot.errors import InputError, NoEvidenceError
from bot.model import ActionUse, Evidence, ServiceUse


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
        NoEvidenceError: the job failed, still runs, has more pages, or was made without action granularity.
        InputError: it is not such an answer.
    """
    status = report.get("JobStatus")
    if status == "FAILED":
        error = report.get("Error") or {}
        why = f" ({error.get('Code', '')}: {error.get('Message', '')})" if error else ""
        raise NoEvidenceError(f"IAM could not make the last accessed report{why}.", "Ask for it again.")
    if status == "IN_PROGRESS":
        raise NoEvidenceError("IAM is still making the last accessed report.", "Ask for it again in a minute.")
    if status != "COMPLETED":
        raise InputError("This is not the output of get-service-last-accessed-details: it has no JobStatus.")
    if report.get("JobType", "ACTION_LEVEL") != "ACTION_LEVEL":
        raise NoEvidenceError(
            "The report was made at service level, so it says nothing of actions.",
            "Make it with --granularity ACTION_LEVEL.",
        )
    if services is None:
        if report.get("IsTruncated"):
            raise NoEvidenceError("The report has more pages than this file holds.", "Fetch it with --max-items 1000.")
        services = report.get("ServicesLastAccessed", ())
    made_at = moment(report.get("JobCompletionDate"), "JobCompletionDate")
    if made_at is None:
        raise InputError("The report has no JobCompletionDate.")
    try:
        uses = tuple(_service(s) for s in services)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"The report holds a service that cannot be read ({error}).") from None
    return Evidence(
        services=uses,
        made_at=made_at,
        tracking_days=tracking_days,
        role_arn=role_arn,
        role_created_at=role_created_at,
    )


def _service(service: Mapping[str, Any]) -> ServiceUse:
    return ServiceUse(
        namespace=service["ServiceNamespace"],
        name=service.get("ServiceName", ""),
        last_accessed=moment(service.get("LastAuthenticated"), "LastAuthenticated"),
        region=service.get("LastAuthenticatedRegion", ""),
        entity=service.get("LastAuthenticatedEntity", ""),
        actions=tuple(
            ActionUse(
                action=a["ActionName"],
                last_accessed=moment(a.get("LastAccessedTime"), "LastAccessedTime"),
                region=a.get("LastAccessedRegion", ""),
            )
            for a in service.get("TrackedActionsLastAccessed") or ()
        ),
    )


def moment(value: Any, name: str) -> datetime | None:
    """Return an aware time from botocore's datetime or the CLI's ISO text (or seconds since 1970).

    Raises:
        InputError: it is no time.
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
    except (ValueError, OverflowError, OSError):
        raise InputError(f"{name} holds {str(value)[:40]!r}, which is not a time.") from None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
