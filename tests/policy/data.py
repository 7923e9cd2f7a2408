"""Policies and reports for the engine's tests."""

from collections.abc import Collection
from typing import Any

AT = "2026-01-30T10:00:00+00:00"
MADE = "2026-01-30T23:00:00+00:00"

ALL_OF_DYNAMODB = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "dynamodb:*", "Resource": "*"}],
}


def report(**services: tuple[str, Collection[str], Collection[str]]) -> dict[str, Any]:
    """Return a report as the AWS CLI prints it; a service is (name, used actions, tracked but unused actions)."""
    return {
        "JobStatus": "COMPLETED",
        "JobType": "ACTION_LEVEL",
        "JobCreationDate": MADE,
        "JobCompletionDate": MADE,
        "IsTruncated": False,
        "ServicesLastAccessed": [
            {
                "ServiceName": name,
                "ServiceNamespace": namespace,
                **({"LastAuthenticated": AT, "LastAuthenticatedRegion": "us-east-1"} if used else {}),
                "TotalAuthenticatedEntities": int(bool(used)),
                "TrackedActionsLastAccessed": [
                    *(
                        {
                            "ActionName": a.partition(":")[2],
                            "LastAccessedTime": AT,
                            "LastAccessedRegion": "us-east-1",
                        }
                        for a in sorted(used)
                    ),
                    *({"ActionName": a.partition(":")[2]} for a in sorted(unused)),
                ],
            }
            for namespace, (name, used, unused) in services.items()
        ],
    }
