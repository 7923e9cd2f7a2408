"""Every active finding of every analyzer, whole; and what could not be read is said, never taken for resolved."""

from __future__ import annotations

import json

import pytest

from bot.aws import AwsSettings
from bot.aws.findings import principals
from bot.errors import ConfigError, DeniedError, NotFoundError, RefineError, UnavailableError
from bot.model import PrincipalKind
from sandbox.aws import HUB, MEMBER, LocalAws
from tests.aws.between import Between
from tests.aws.conftest import Gateway
from tests.aws.world import OUTSIDER, iam, make_role, trust

ORGANIZATION = f"arn:aws:access-analyzer:us-east-1:{HUB}:analyzer/refine-org"
ACCOUNT = f"arn:aws:access-analyzer:eu-west-1:{HUB}:analyzer/refine-account"


async def test_one_role_has_a_finding_in_each_region(aws: LocalAws, gateway: Gateway) -> None:
    arn = make_role(aws)
    read = await (await gateway()).findings()
    assert (read.problems, read.complete) == ((), True)
    assert {(f.region, f.analyzer_arn) for f in read.findings} == {
        ("us-east-1", ORGANIZATION),
        ("eu-west-1", ACCOUNT),
    }
    for finding in read.findings:
        assert (finding.role_arn, finding.account, finding.status, finding.error) == (arn, HUB, "ACTIVE", "")
        assert [(p.kind, p.actions) for p in finding.principals] == [(PrincipalKind.ACCOUNT, ("sts:AssumeRole",))]
        assert OUTSIDER in finding.principals[0].value
        assert finding.created_at.tzinfo is not None
        assert finding.updated_at >= finding.created_at


async def test_a_members_finding_names_the_account_that_owns_the_role(aws: LocalAws, gateway: Gateway) -> None:
    arn = make_role(aws, "TheirRole", account=MEMBER)
    read = await (await gateway()).findings()
    assert {(f.role_arn, f.account) for f in read.findings} == {(arn, MEMBER)}


async def test_every_page_is_read(aws: LocalAws, gateway: Gateway) -> None:
    made = {make_role(aws, f"R{n}") for n in range(130)}
    read = await (await gateway(regions=("us-east-1",))).findings()
    assert {f.role_arn for f in read.findings} == made
    assert len(aws.calls("access-analyzer", "ListFindingsV2")) == 2


async def test_details_are_fetched_once_until_the_finding_changes(aws: LocalAws, gateway: Gateway) -> None:
    make_role(aws, "Still")
    make_role(aws, "Moving")
    reader = await gateway(regions=("us-east-1",))
    first = await reader.findings()
    again = await reader.findings()
    assert set(again.findings) == set(first.findings)
    assert len(aws.calls("access-analyzer", "GetFindingV2")) == 2
    iam(aws).update_assume_role_policy(RoleName="Moving", PolicyDocument=trust({"AWS": "111122223333"}))
    third = await reader.findings()
    values = {f.role_arn.split("/")[-1]: [p.value for p in f.principals] for f in third.findings}
    assert "111122223333" in values["Moving"][0]
    assert OUTSIDER in values["Still"][0]


async def test_a_finding_that_ended_is_not_in_the_list(aws: LocalAws, gateway: Gateway) -> None:
    arn = make_role(aws)
    reader = await gateway()
    assert {f.role_arn for f in (await reader.findings()).findings} == {arn}
    iam(aws).update_assume_role_policy(
        RoleName="ApplicationRole", PolicyDocument=trust({"Service": "ec2.amazonaws.com"})
    )
    read = await reader.findings()
    assert (read.findings, read.complete) == ((), True)


async def test_an_archived_finding_is_in_a_list_of_its_own(aws: LocalAws, gateway: Gateway) -> None:
    """Told by its head alone: with thousands archived by a rule, their details would cost a call each."""
    arn = make_role(aws)
    analyzer = aws.client("accessanalyzer")
    listed = analyzer.list_findings_v2(analyzerArn=ORGANIZATION)["findings"]
    analyzer.update_findings(analyzerArn=ORGANIZATION, ids=[f["id"] for f in listed], status="ARCHIVED")
    read = await (await gateway()).findings()
    assert {f.region for f in read.findings} == {"eu-west-1"}
    [archived] = read.archived
    assert (archived.id, archived.status, archived.role_arn) == (listed[0]["id"], "ARCHIVED", arn)
    assert len(aws.calls("access-analyzer", "GetFindingV2")) == 1


async def test_findings_are_archived_and_made_active_again(aws: LocalAws, gateway: Gateway) -> None:
    """Also a second time; and of many no more than fifty in a call."""
    for n in range(60):
        make_role(aws, f"R{n}")
    gate = await gateway(regions=("us-east-1",))
    found = (await gate.findings()).findings
    for archived in (True, True, False):
        await gate.archive(found, archived=archived)
        read = await gate.findings()
        assert (len(read.archived), len(read.findings)) == ((60, 0) if archived else (0, 60))
    assert len(aws.calls("access-analyzer", "UpdateFindings")) == 6


@pytest.mark.parametrize(
    ("status", "code", "error", "word"),
    [
        (403, "AccessDeniedException", DeniedError, "access-analyzer:UpdateFindings"),
        (404, "ResourceNotFoundException", NotFoundError, "does not know"),
        (500, "InternalServerException", UnavailableError, "an error of its own"),
    ],
)
async def test_what_keeps_a_finding_from_being_archived_is_told(
    aws: LocalAws, between: Between, gateway: Gateway, status: int, code: str, error: type[RefineError], word: str
) -> None:
    make_role(aws)
    gate = await gateway(regions=("us-east-1",))
    found = (await gate.findings()).findings
    between.refuse("UpdateFindings", status, code)
    with pytest.raises(error, match=word):
        await gate.archive(found, archived=True)
    assert (await gate.findings()).archived == ()


async def test_named_analyzers_are_the_only_ones_read(aws: LocalAws, between: Between, gateway: Gateway) -> None:
    make_role(aws)
    read = await (await gateway(analyzers=(ACCOUNT,))).findings()
    assert ({f.region for f in read.findings}, read.complete) == ({"eu-west-1"}, True)
    assert {s.region for s in between.seen if s.service == "access-analyzer"} == {"eu-west-1"}


@pytest.mark.parametrize("arn", ["refine-org", f"arn:aws:iam::{HUB}:role/x", ORGANIZATION.replace(":us-east-1:", "::")])
def test_what_is_no_analyzers_arn_is_refused_at_once(arn: str) -> None:
    with pytest.raises(ConfigError, match="REFINE_ANALYZERS"):
        AwsSettings(clock=lambda: None, sleep=None, analyzers=(arn,))  # type: ignore[arg-type,return-value]


async def test_a_named_analyzer_that_is_not_there_is_a_problem(aws: LocalAws, gateway: Gateway) -> None:
    make_role(aws)
    gone = ACCOUNT.replace("refine-account", "gone")
    read = await (await gateway(analyzers=(ACCOUNT, gone))).findings()
    assert len(read.findings) == 1
    assert not read.complete
    assert gone in read.problems[0]


@pytest.mark.parametrize(
    ("operation", "status", "code", "word"),
    [
        ("ListAnalyzers", 403, "AccessDeniedException", "access-analyzer:ListAnalyzers"),
        ("ListFindingsV2", 403, "AccessDeniedException", "access-analyzer:ListFindings"),
        ("ListFindingsV2", 429, "ThrottlingException", "throttled"),
        ("ListFindingsV2", 500, "InternalServerException", "error of its own"),
        ("ListFindingsV2", 400, "ValidationException", "refused"),
        ("GetFindingV2", 403, "AccessDeniedException", "access-analyzer:GetFinding"),
        ("GetFindingV2", 500, "InternalServerException", "1 of 1 findings"),
    ],
)
async def test_one_region_that_fails_is_a_sentence_and_the_others_are_read(
    aws: LocalAws, between: Between, gateway: Gateway, operation: str, status: int, code: str, word: str
) -> None:
    arn = make_role(aws)
    between.refuse(operation, status, code, region="eu-west-1")
    read = await (await gateway()).findings()
    assert {(f.region, f.role_arn) for f in read.findings} == {("us-east-1", arn)}
    assert not read.complete
    assert len(read.problems) == 1
    assert word in read.problems[0]
    assert "eu-west-1" in read.problems[0]


async def test_where_everything_is_denied_there_is_no_error_and_no_end_of_findings(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    make_role(aws)
    between.refuse("ListAnalyzers", 403, "AccessDeniedException")
    read = await (await gateway()).findings()
    assert (read.findings, read.complete) == ((), False)
    assert len(read.problems) == 2


async def test_a_region_without_an_analyzer_is_a_problem_that_says_how_to_make_one(
    aws: LocalAws, gateway: Gateway
) -> None:
    """Its findings vanish with an analyzer: a case must not be closed for that."""
    make_role(aws)
    read = await (await gateway(regions=("us-east-1", "ap-southeast-2"))).findings()
    assert (len(read.findings), read.complete) == (1, False)
    assert "create-analyzer --region ap-southeast-2" in read.problems[0]


async def test_a_finding_that_is_gone_before_its_details_are_read_is_left_out(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    make_role(aws)
    between.refuse("GetFindingV2", 404, "ResourceNotFoundException", region="eu-west-1")
    read = await (await gateway()).findings()
    assert ({f.region for f in read.findings}, read.complete) == ({"us-east-1"}, True)


async def test_a_disabled_analyzer_and_one_of_another_type_are_told_apart(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    """The local AWS has neither: the answer is given in AWS's words."""
    make_role(aws)
    base = {"createdAt": "2026-01-31T00:00:00Z", "tags": {}}
    analyzers = [
        {**base, "arn": f"{ACCOUNT}-1", "name": "off", "type": "ORGANIZATION", "status": "DISABLED"}
        | {"statusReason": {"code": "AWS_SERVICE_ACCESS_DISABLED"}},
        {**base, "arn": f"{ACCOUNT}-2", "name": "unused", "type": "ACCOUNT_UNUSED_ACCESS", "status": "DISABLED"},
        {**base, "arn": ACCOUNT, "name": "refine-account", "type": "ACCOUNT", "status": "ACTIVE"},
    ]
    between.json("ListAnalyzers", {"analyzers": analyzers}, region="eu-west-1")
    read = await (await gateway(regions=("eu-west-1",))).findings()
    assert (len(read.findings), read.complete) == (1, False)
    assert read.problems == (
        "The analyzer off in eu-west-1 is DISABLED (AWS_SERVICE_ACCESS_DISABLED), so it finds nothing.",
    )


# Sources: the AWS CLI's example of get-finding-v2 for a role, and the shapes gathered in the design notes.
@pytest.mark.parametrize(
    ("access", "wanted"),
    [
        (
            {"principal": {"AWS": "999988887777"}, "isPublic": False, "condition": {}, "action": ["sts:AssumeRole"]},
            [(PrincipalKind.ACCOUNT, "999988887777", ())],
        ),
        (
            {"principal": {"AWS": "*"}, "isPublic": True, "condition": {}},
            [(PrincipalKind.PUBLIC, "*", ())],
        ),
        (
            {"principal": {"AWS": "*"}, "isPublic": False, "condition": {"aws:PrincipalOrgID": "o-1"}},
            [(PrincipalKind.OTHER, "*", (("aws:PrincipalOrgID", "o-1"),))],
        ),
        (
            {
                "principal": {"Federated": "cognito-identity.amazonaws.com"},
                "isPublic": False,
                "condition": {"b": "2", "a": "1"},
            },
            [(PrincipalKind.FEDERATED, "cognito-identity.amazonaws.com", (("a", "1"), ("b", "2")))],
        ),
        ({"principal": {"CanonicalUser": "x"}, "condition": {}}, [(PrincipalKind.OTHER, "x", ())]),
        ({"condition": {}}, []),
    ],
)
def test_who_a_detail_names(access: dict, wanted: list) -> None:
    found = principals({"externalAccessDetails": access})
    assert [(p.kind, p.value, p.conditions) for p in found] == wanted


def test_a_detail_of_another_kind_names_nobody() -> None:
    assert principals(json.loads('{"unusedPermissionDetails": {"serviceNamespace": "s3"}}')) == ()
