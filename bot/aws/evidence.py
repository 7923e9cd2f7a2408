"""The last accessed report of a role, whole or not at all."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import timedelta
from typing import Any, Final

from bot.aws.clients import Clients
from bot.errors import InputError, NoEvidenceError, NotFoundError
from bot.model import Evidence, Role
from bot.policy.report import read_report

JOBS: Final = 3  # side by side in an account: IAM throttles report jobs early
FIRST_LOOK, LAST_LOOK, GROWTH = 0.5, 5.0, 1.5  # seconds between looks at a job; typical jobs take 1 to 8 s
PAGE: Final = 1000


class Reports:
    """Orders and reads reports, a few at once in each account."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._gates: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(JOBS))

    async def evidence(self, role: Role) -> Evidence:
        """Return the role's evidence from a report made now.

        A job belongs to the session that ordered it: where the credentials were renewed meanwhile IAM does not know
        it any more, and it is ordered anew, once.

        Raises:
            NoEvidenceError: the job failed, took too long, or could not be read to its end.
            NotFoundError: the role is gone.
        """
        async with self._gates[role.account]:
            try:
                return await self._report(role)
            except _LostJobError:
                pass
            try:
                return await self._report(role)
            except _LostJobError:
                raise NoEvidenceError(
                    "IAM lost the last accessed report twice while it was read.", "Ask for it again."
                ) from None

    async def _report(self, role: Role) -> Evidence:
        job = await self._clients.call(
            "iam",
            "GenerateServiceLastAccessedDetails",
            account=role.account,
            Arn=role.arn,
            Granularity="ACTION_LEVEL",
        )
        first = await self._done(role.account, job["JobId"])
        services = list(first.get("ServicesLastAccessed", ()))
        page = first
        markers: set[str] = set()
        while page.get("IsTruncated"):
            marker = page.get("Marker", "")
            if not marker or marker in markers:
                raise NoEvidenceError("IAM did not give the whole last accessed report.", "Ask for it again.")
            markers.add(marker)
            page = await self._page(role.account, job["JobId"], Marker=marker)
            if page.get("JobStatus") != "COMPLETED":
                raise NoEvidenceError("IAM did not give the whole last accessed report.", "Ask for it again.")
            services += page.get("ServicesLastAccessed", ())
        try:
            return read_report(first, role_arn=role.arn, role_created_at=role.created_at, services=services)
        except InputError as error:
            raise NoEvidenceError(f"IAM's last accessed report cannot be read: {error.sentence}") from error

    async def _done(self, account: str, job_id: str) -> dict[str, Any]:
        settings = self._clients.settings
        deadline = settings.clock() + timedelta(seconds=settings.report_timeout_seconds)
        pause = FIRST_LOOK
        while True:
            page = await self._page(account, job_id)
            if page.get("JobStatus") != "IN_PROGRESS":
                return page  # COMPLETED, or FAILED, which read_report refuses with IAM's own reason
            if settings.clock() >= deadline:
                raise NoEvidenceError(
                    f"IAM did not finish the last accessed report within {settings.report_timeout_seconds:g} seconds.",
                    "Ask for it again, or raise REFINE_REPORT_TIMEOUT_SECONDS.",
                )
            await settings.sleep(pause)
            pause = min(pause * GROWTH, LAST_LOOK)

    async def _page(self, account: str, job_id: str, **marker: str) -> dict[str, Any]:
        # botocore has no paginator for this operation: whoever trusts it with the pages loses services.
        try:
            return await self._clients.call(
                "iam", "GetServiceLastAccessedDetails", account=account, JobId=job_id, MaxItems=PAGE, **marker
            )
        except NotFoundError:
            raise _LostJobError from None


class _LostJobError(Exception):
    """IAM does not know the job: another session asks than the one that ordered it."""
