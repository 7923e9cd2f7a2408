"""External access findings on roles, of every analyzer, with their details. What could not be read is said."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bot.aws.clients import Clients
from bot.errors import NotFoundError, RefineError
from bot.model import ExternalPrincipal, Finding, PrincipalKind

DETAILS: Final = 8  # details read side by side
AT_ONCE: Final = 50  # findings in one UpdateFindings
EXTERNAL: Final = frozenset({"ACCOUNT", "ORGANIZATION"})  # the other types are about unused or internal access


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingsRead:
    """Active findings. Only a complete read is proof that a finding which is in neither list has ended."""

    findings: tuple[Finding, ...]
    archived: tuple[Finding, ...]  # without details: who may come in is not read
    problems: tuple[str, ...]  # sentences for people
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyzer:
    arn: str
    region: str
    name: str
    type: str
    status: str
    why: str = ""  # the reason of a status other than ACTIVE


class Findings:
    """Reads findings; remembers the details of those that did not change since the last time."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._known: dict[tuple[str, str, datetime], Finding] = {}

    async def read(self) -> FindingsRead:
        """Return all active findings on roles. What fails is a problem in the answer, not an error."""
        problems: list[str] = []
        listed = await asyncio.gather(*(self._analyzers(region, problems) for region in self.regions()))
        usable = [a for analyzers in listed for a in analyzers]
        if not usable and not problems:
            problems.append("There is no analyzer to read.")
        gate = asyncio.Semaphore(DETAILS)
        read = await asyncio.gather(*(self._of(a, gate, problems) for a in usable))
        found = [f for each in read for f in each]
        findings = [f for f in found if f.status != "ARCHIVED"]
        self._known = {(f.analyzer_arn, f.id, f.updated_at): f for f in findings}
        return FindingsRead(
            findings=tuple(findings),
            archived=tuple(f for f in found if f.status == "ARCHIVED"),
            problems=tuple(problems),
            complete=not problems,
        )

    async def archive(self, findings: Sequence[Finding], *, archived: bool) -> None:
        """Archive findings of one analyzer, or make them active again; twice is as good as once.

        Raises:
            NotFoundError: one of them is gone, and none was changed.
            RefineError: AWS refused, or could not be asked.
        """
        for start in range(0, len(findings), AT_ONCE):
            some = findings[start : start + AT_ONCE]
            await self._clients.call(
                "accessanalyzer",
                "UpdateFindings",
                region=some[0].region,
                analyzerArn=some[0].analyzer_arn,
                ids=[f.id for f in some],
                status="ARCHIVED" if archived else "ACTIVE",
            )

    def regions(self) -> tuple[str, ...]:
        """Return the Regions of the analyzers that the settings name, or those that they say to look in."""
        named = self._clients.settings.analyzers
        return tuple(sorted({arn.split(":")[3] for arn in named})) if named else self._clients.regions()

    async def analyzers(self, region: str) -> tuple[Analyzer, ...]:
        """Return the Region's analyzers of external access, whatever their status."""
        pages = await self._clients.pages("accessanalyzer", "ListAnalyzers", region=region)
        return tuple(
            Analyzer(
                arn=a["arn"],
                region=region,
                name=a["name"],
                type=a["type"],
                status=a["status"],
                why=a.get("statusReason", {}).get("code", ""),
            )
            for page in pages
            for a in page["analyzers"]
            if a["type"] in EXTERNAL
        )

    async def _analyzers(self, region: str, problems: list[str]) -> list[Analyzer]:
        try:
            found = await self.analyzers(region)
        except RefineError as error:
            problems.append(f"The analyzers in {region} could not be listed. {error.say()}")
            return []
        named = [arn for arn in self._clients.settings.analyzers if arn.split(":")[3] == region]
        if named:
            found = tuple(a for a in found if a.arn in named)
            missing = sorted(set(named) - {a.arn for a in found})
            problems += [f"There is no external access analyzer {arn} (REFINE_ANALYZERS)." for arn in missing]
        problems += [
            f"The analyzer {a.name} in {region} is {a.status}{f' ({a.why})' if a.why else ''}, so it finds nothing."
            for a in found
            if a.status != "ACTIVE"
        ]
        if not found and not named:
            problems.append(f"There is no external access analyzer in {region}. {how_to_make_one(region)}")
        return [a for a in found if a.status == "ACTIVE"]

    async def _of(self, analyzer: Analyzer, gate: asyncio.Semaphore, problems: list[str]) -> list[Finding]:
        try:
            pages = await self._clients.pages(
                "accessanalyzer",
                "ListFindingsV2",
                region=analyzer.region,
                analyzerArn=analyzer.arn,
                filter={"resourceType": {"eq": ["AWS::IAM::Role"]}, "status": {"eq": ["ACTIVE", "ARCHIVED"]}},
                PaginationConfig={"PageSize": 100},
            )
        except RefineError as error:
            problems.append(f"The findings of {analyzer.name} in {analyzer.region} could not be read. {error.say()}")
            return []
        heads = [f for page in pages for f in page["findings"]]

        async def one(head: dict[str, Any]) -> Finding | RefineError | None:
            async with gate:
                try:
                    return await self._detail(analyzer, head)
                except NotFoundError:
                    return None  # gone since the list was made
                except RefineError as error:
                    return error

        read = await asyncio.gather(*(one(head) for head in heads))
        failed = [r for r in read if isinstance(r, RefineError)]
        if failed:
            problems.append(
                f"{len(failed)} of {len(heads)} findings of {analyzer.name} in {analyzer.region} could not be read. "
                f"{failed[0].say()}"
            )
        return [r for r in read if isinstance(r, Finding)]

    async def _detail(self, analyzer: Analyzer, head: dict[str, Any]) -> Finding:
        if head["status"] == "ARCHIVED":
            return Finding(
                id=head["id"],
                analyzer_arn=analyzer.arn,
                region=analyzer.region,
                role_arn=head["resource"],
                account=head["resourceOwnerAccount"],
                status="ARCHIVED",
                principals=(),
                created_at=head["createdAt"],
                updated_at=head["updatedAt"],
            )
        known = self._known.get((analyzer.arn, head["id"], head["updatedAt"]))
        if known is not None:
            return known
        pages = await self._clients.pages(
            "accessanalyzer", "GetFindingV2", region=analyzer.region, analyzerArn=analyzer.arn, id=head["id"]
        )
        first = pages[0]
        return Finding(
            id=first["id"],
            analyzer_arn=analyzer.arn,
            region=analyzer.region,
            role_arn=first["resource"],
            account=first["resourceOwnerAccount"],
            status=first["status"],
            principals=tuple(p for page in pages for d in page["findingDetails"] for p in principals(d)),
            created_at=first["createdAt"],
            updated_at=head["updatedAt"],
            error=first.get("error", ""),
        )


def principals(detail: Mapping[str, Any]) -> tuple[ExternalPrincipal, ...]:
    """Return who one external access detail names; the map has one key, AWS or Federated, in all that was ever seen.

    Source: https://docs.aws.amazon.com/access-analyzer/latest/APIReference/API_ExternalAccessDetails.html
    """
    access = detail.get("externalAccessDetails", {})
    conditions = tuple(sorted(access.get("condition", {}).items()))
    done = tuple(access.get("action", ()))
    return tuple(
        ExternalPrincipal(
            kind=_kind(name, value, public=bool(access.get("isPublic"))),
            value=value,
            conditions=conditions,
            actions=done,
        )
        for name, value in sorted(access.get("principal", {}).items())
    )


def _kind(name: str, value: str, *, public: bool) -> PrincipalKind:
    if public:
        return PrincipalKind.PUBLIC
    if name == "Federated":
        return PrincipalKind.FEDERATED
    # "*" that conditions keep from being public is nobody's account.
    return PrincipalKind.ACCOUNT if name == "AWS" and value != "*" else PrincipalKind.OTHER


def how_to_make_one(region: str) -> str:
    """Say how an analyzer of external access is made in a Region."""
    return (
        f"Make one: aws accessanalyzer create-analyzer --region {region} --analyzer-name refine --type ACCOUNT "
        "(or --type ORGANIZATION, from the organization's management or delegated administrator account); or take the "
        "Region out of REFINE_REGIONS."
    )
