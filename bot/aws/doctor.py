"""What `refine doctor` says about AWS. Every reading permission is tried on things that do not exist: IAM denies first.

Nothing is written: whether the writing permissions are there is asked of IAM's policy simulator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from bot.aws.clients import Clients, NotAssumedError
from bot.aws.findings import Findings, how_to_make_one
from bot.aws.permissions import Group, actions, permission
from bot.errors import DeniedError, NotFoundError, RefineError, RefusedError

_NOBODY: Final = "refine-doctor-probe"  # no such role, policy or stack
_NO_JOB: Final = "00000000-0000-0000-0000-000000000000"
_ALLOW: Final = "Allow it to the role that Refine runs as: deploy/refine.yaml holds the policy."
_MEMBER: Final = "Deploy deploy/member.yaml there, with the external id of REFINE_EXTERNAL_ID."


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding of the doctor: how it stands, a sentence, and what to do where it is not ok."""

    state: Literal["ok", "warn", "fail"]
    sentence: str
    todo: str = ""


async def checks(clients: Clients, findings: Findings) -> list[Check]:
    """Return the checks in the order to show them; without an identity there is only one."""
    try:
        account, arn = await clients.whoami()
    except RefineError as error:
        return [Check(state="fail", sentence=error.sentence, todo=error.next_step)]
    found = [Check(state="ok", sentence=f"AWS knows Refine as {arn}.")]
    try:
        regions = findings.regions()
        clients.regions()
    except RefineError as error:
        return [*found, Check(state="fail", sentence=error.sentence, todo=error.next_step)]
    for each in await asyncio.gather(*(_region(clients, findings, region) for region in regions)):
        found += each
    found.append(await _validation(clients))
    read = await findings.read()
    members = {f.account for f in read.findings}
    for each in await asyncio.gather(
        *(_account(clients, a, own=a == account, needed=a in members) for a in sorted(members | {account}))
    ):
        found += each
    return found


async def _region(clients: Clients, findings: Findings, region: str) -> list[Check]:
    try:
        analyzers = await findings.analyzers(region)
    except DeniedError as error:
        return [Check(state="fail", sentence=error.sentence, todo=_ALLOW)]
    except RefineError as error:
        return [Check(state="fail", sentence=f"{region}: {error.sentence}", todo=error.next_step)]
    named = clients.settings.analyzers
    wanted = [a for a in analyzers if not named or a.arn in named]
    missing = sorted({arn for arn in named if arn.split(":")[3] == region} - {a.arn for a in wanted})
    found = [
        Check(
            state="fail",
            sentence=f"REFINE_ANALYZERS names {arn}, and there is no such external access analyzer.",
            todo="Correct its ARN, or leave REFINE_ANALYZERS empty to read every one.",
        )
        for arn in missing
    ]
    if not wanted and not missing:
        found.append(
            Check(
                state="fail",
                sentence=f"There is no external access analyzer in {region}.",
                todo=how_to_make_one(region),
            )
        )
    for analyzer in wanted:
        if analyzer.status != "ACTIVE":
            found.append(
                Check(
                    state="fail",
                    sentence=f"The analyzer {analyzer.name} in {region} is {analyzer.status} {analyzer.why}".rstrip()
                    + ", so it finds nothing.",
                    todo="Delete it and make it anew, or wait where it is being created.",
                )
            )
            continue
        denied, other = await _try(
            clients,
            [
                ("accessanalyzer", "ListFindingsV2", {"analyzerArn": analyzer.arn, "maxResults": 1}),
                ("accessanalyzer", "GetFindingV2", {"analyzerArn": analyzer.arn, "id": _NO_JOB}),
            ],
            region=region,
        )
        found.append(
            _verdict(
                denied,
                other,
                ok=f"The analyzer {analyzer.name} ({analyzer.type.lower()}) in {region} is active and can be read.",
                who=f"the analyzer {analyzer.name} in {region}",
                todo=_ALLOW,
            )
        )
    return found


async def _validation(clients: Clients) -> Check:
    document = '{"Version":"2012-10-17","Statement":[]}'
    denied, other = await _try(
        clients,
        [
            ("accessanalyzer", "ValidatePolicy", {"policyDocument": document, "policyType": "IDENTITY_POLICY"}),
            (
                "accessanalyzer",
                "CheckNoNewAccess",
                {
                    "newPolicyDocument": document,
                    "existingPolicyDocument": document,
                    "policyType": "IDENTITY_POLICY",
                },
            ),
        ],
    )
    check = _verdict(
        denied,
        other,
        ok="AWS checks trimmed policies before they are shown, and again before they are written.",
        who="policy validation",
        todo=_ALLOW,
    )
    # Without it Refine works all the same: its own proof stands.
    return Check(state="warn", sentence=check.sentence, todo=check.todo) if check.state == "fail" else check


async def _account(clients: Clients, account: str, *, own: bool, needed: bool) -> list[Check]:
    todo = _ALLOW if own else _MEMBER
    try:
        source = await _principal(clients, account, own=own)
    except NotAssumedError as error:
        return [Check(state="fail", sentence=error.sentence, todo=error.next_step)]
    except DeniedError:
        source = ""
    except RefineError as error:
        return [Check(state="fail", sentence=f"Account {account}: {error.sentence}", todo=error.next_step)]
    denied, other = await _try(clients, await _probes(clients, account), account=account)
    reading = _verdict(
        denied, other, ok=f"Account {account}: every reading permission is there.", who=f"account {account}", todo=todo
    )
    found = [reading, await _writing(clients, account, source, todo)]
    if own and not needed:
        # The hub may well hold no role that anybody outside can assume.
        found = [
            Check(state="warn", sentence=f"{c.sentence} No finding is about a role there.", todo=c.todo)
            if c.state == "fail"
            else c
            for c in found
        ]
    return found


async def _principal(clients: Clients, account: str, *, own: bool) -> str:
    """Return the ARN of the role or user that writes in the account, with its path; empty where it has none."""
    arn = (await clients.whoami())[1]
    if own and ":assumed-role/" not in arn:
        return "" if arn.endswith(":root") else arn
    name = arn.split(":assumed-role/")[1].split("/")[0] if own else clients.settings.member_role_name.split("/")[-1]
    try:
        return str((await clients.call("iam", "GetRole", account=account, RoleName=name))["Role"]["Arn"])
    except NotFoundError:
        return ""


async def _probes(clients: Clients, account: str) -> list[tuple[str, str, dict[str, Any]]]:
    partition = await clients.partition()
    role = {"RoleName": _NOBODY}
    role_arn = f"arn:{partition}:iam::{account}:role/{_NOBODY}"
    policy = {"PolicyArn": f"arn:{partition}:iam::{account}:policy/{_NOBODY}"}
    return [
        ("iam", "GetRole", role),
        ("iam", "ListRoles", {"MaxItems": 1}),
        ("iam", "ListRolePolicies", role),
        ("iam", "GetRolePolicy", {**role, "PolicyName": _NOBODY}),
        ("iam", "ListAttachedRolePolicies", role),
        ("iam", "GetPolicy", policy),
        ("iam", "GetPolicyVersion", {**policy, "VersionId": "v1"}),
        ("iam", "ListPolicyVersions", policy),
        ("iam", "GetAccountSummary", {}),
        ("iam", "GenerateServiceLastAccessedDetails", {"Arn": role_arn, "Granularity": "ACTION_LEVEL"}),
        ("iam", "GetServiceLastAccessedDetails", {"JobId": _NO_JOB}),
        ("cloudformation", "DescribeStackResources", {"PhysicalResourceId": _NOBODY}),
    ]


async def _try(
    clients: Clients, probes: Sequence[tuple[str, str, dict[str, Any]]], *, account: str = "", region: str = ""
) -> tuple[list[str], list[RefineError]]:
    """Return the actions that were denied, and what else went wrong."""
    denied: list[str] = []
    other: list[RefineError] = []

    async def one(service: str, operation: str, params: dict[str, Any]) -> None:
        try:
            await clients.call(service, operation, account=account, region=region, **params)
        except (NotFoundError, RefusedError):
            pass  # allowed: IAM asks for permission before it looks
        except DeniedError:
            denied.append(permission(service, operation).action)
        except RefineError as error:
            other.append(error)

    await asyncio.gather(*(one(*probe) for probe in probes))
    return sorted(denied), other


def _verdict(denied: Sequence[str], other: Sequence[RefineError], *, ok: str, who: str, todo: str) -> Check:
    if denied:
        return Check(state="fail", sentence=f"AWS denies {', '.join(denied)} for {who}.", todo=todo)
    if other:
        return Check(state="warn", sentence=f"Could not check {who}: {other[0].sentence}", todo=other[0].next_step)
    return Check(state="ok", sentence=ok)


async def _writing(clients: Clients, account: str, source: str, todo: str) -> Check:
    """Ask IAM's simulator whether the writes would be allowed, each on the kind of resource that it is about."""
    partition = await clients.partition()
    base = f"arn:{partition}:iam::{account}"
    policy = f"{base}:policy/refine/{_NOBODY}"
    writes = actions(Group.MEMBER_WRITE)
    on_role = [a for a in writes if "Role" in a]
    on_policy = [a for a in writes if "Role" not in a]
    unchecked = Check(
        state="warn",
        sentence=f"Account {account}: the writing permissions could not be checked.",
        todo=f"They are tried with the first change; they are {', '.join(writes)}.",
    )
    if not source:
        return unchecked
    try:
        answers = await asyncio.gather(
            _simulate(clients, account, source, on_role, f"{base}:role/{_NOBODY}", policy),
            _simulate(clients, account, source, on_policy, policy, policy),
        )
    except RefineError:
        return unchecked
    denied = sorted(a for answer in answers for a in answer)
    return _verdict(
        denied, (), ok=f"Account {account}: every writing permission is there.", who=f"account {account}", todo=todo
    )


async def _simulate(
    clients: Clients, account: str, source: str, names: list[str], resource: str, policy: str
) -> list[str]:
    pages = await clients.pages(
        "iam",
        "SimulatePrincipalPolicy",
        account=account,
        PolicySourceArn=source,
        ActionNames=names,
        ResourceArns=[resource],
        ContextEntries=[{"ContextKeyName": "iam:PolicyARN", "ContextKeyValues": [policy], "ContextKeyType": "string"}],
    )
    results = [r for page in pages for r in page["EvaluationResults"]]
    return [r["EvalActionName"] for r in results if r["EvalDecision"] != "allowed"]
