"""A report is read whole by the session that ordered it, or there is no evidence."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from bot.errors import DeniedError, NoEvidenceError, NotFoundError
from sandbox.aws import MEMBER, LocalAws
from tests.aws.between import Between, Form
from tests.aws.conftest import Gateway
from tests.aws.world import allow, iam, make_role


async def test_the_report_tells_used_unused_and_untracked(aws: LocalAws, gateway: Gateway) -> None:
    arn = make_role(aws)
    iam(aws).put_role_policy(RoleName="ApplicationRole", PolicyName="p", PolicyDocument=allow("dynamodb:*", "sqs:*"))
    aws.use("ApplicationRole", "dynamodb:DescribeTable", days_ago=3, region="eu-west-1")
    aws.report_seconds = 0.7
    reader = await gateway()
    role = await reader.role(arn)
    evidence = await reader.evidence(role)
    services = {s.namespace: s for s in evidence.services}
    assert services.keys() == {"dynamodb", "sqs"}
    actions = {a.action: a for a in services["dynamodb"].actions}
    used = actions["DescribeTable"]
    assert used.last_accessed is not None
    assert abs(datetime.now(UTC) - used.last_accessed - timedelta(days=3)) < timedelta(minutes=5)
    assert used.region == "eu-west-1"
    assert actions["DeleteTable"].last_accessed is None
    assert "GetItem" not in actions
    assert services["sqs"].last_accessed is None
    assert (evidence.role_arn, evidence.role_created_at) == (arn, role.created_at)
    assert datetime.now(UTC) - evidence.made_at < timedelta(minutes=1)
    assert {c["params"]["Granularity"] for c in aws.calls("iam", "GenerateServiceLastAccessedDetails")} == {
        "ACTION_LEVEL"
    }
    assert len(aws.calls("iam", "GetServiceLastAccessedDetails")) >= 2, "the job was under way at the first look"


async def test_every_page_of_a_report_with_more_than_100_services_is_read(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    """IAM gave 200 services a page where 1,000 were asked for; here it gives 50."""
    arn = make_role(aws)
    iam(aws).put_role_policy(RoleName="ApplicationRole", PolicyName="p", PolicyDocument=allow("*"))
    between.change("GetServiceLastAccessedDetails", lambda form: {**form, "MaxItems": "50"})
    reader = await gateway()
    evidence = await reader.evidence(await reader.role(arn))
    names = [s.namespace for s in evidence.services]
    assert len(names) == len(set(names)) > 100
    pages = between.operations("iam").count("GetServiceLastAccessedDetails")
    assert pages == -(-len(names) // 50)
    assert {"s3", "dynamodb", "xray"} <= set(names)


async def test_a_members_report_is_ordered_and_read_in_one_session(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    arn = make_role(aws, "TheirRole", account=MEMBER)
    iam(aws, MEMBER).put_role_policy(RoleName="TheirRole", PolicyName="p", PolicyDocument=allow("sqs:*"))
    reader = await gateway()
    evidence = await reader.evidence(await reader.role(arn))
    assert [s.namespace for s in evidence.services] == ["sqs"]
    assert len({s.key for s in between.seen if "ServiceLastAccessed" in s.operation}) == 1


async def test_where_the_session_rolled_over_the_report_is_ordered_anew(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    """The job is really another session's: the member role's keys are renewed between ordering and reading."""
    arn = make_role(aws, "TheirRole", account=MEMBER)
    iam(aws, MEMBER).put_role_policy(RoleName="TheirRole", PolicyName="p", PolicyDocument=allow("sqs:*"))
    reader = await gateway()
    role = await reader.role(arn)

    def to_another_session(form: Form) -> Form:
        job = next(iter(aws.state.jobs))
        aws.state.jobs[job] = type(aws.state.jobs[job])(**{**_fields(aws.state.jobs[job]), "access_key": "ASIAOTHER"})
        return form

    between.change("GetServiceLastAccessedDetails", to_another_session, times=1)
    evidence = await reader.evidence(role)
    assert [s.namespace for s in evidence.services] == ["sqs"]
    assert len(aws.calls("iam", "GenerateServiceLastAccessedDetails")) == 2
    assert [c["outcome"] for c in aws.calls("iam", "GetServiceLastAccessedDetails")] == ["NoSuchEntity", "ok"]


def _fields(job: object) -> dict:
    return {name: getattr(job, name) for name in job.__dataclass_fields__}  # type: ignore[attr-defined]


async def test_a_job_that_is_lost_again_and_again_is_no_evidence(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    arn = make_role(aws)
    reader = await gateway()
    role = await reader.role(arn)
    between.refuse("GetServiceLastAccessedDetails", 404, "NoSuchEntity", "Job does not exist.")
    with pytest.raises(NoEvidenceError):
        await reader.evidence(role)
    assert between.operations().count("GenerateServiceLastAccessedDetails") == 2


async def test_a_failed_job_is_no_evidence_and_the_reason_is_told(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    arn = make_role(aws)
    reader = await gateway()
    role = await reader.role(arn)
    between.answer(
        "GetServiceLastAccessedDetails",
        "<JobStatus>FAILED</JobStatus><JobCreationDate>2026-01-31T00:00:00Z</JobCreationDate>"
        "<JobCompletionDate>2026-01-31T00:00:01Z</JobCompletionDate><IsTruncated>false</IsTruncated>"
        "<Error><Message>out of luck</Message><Code>ServiceFailure</Code></Error>",
    )
    with pytest.raises(NoEvidenceError, match="out of luck"):
        await reader.evidence(role)


async def test_a_job_that_never_ends_is_no_evidence(aws: LocalAws, gateway: Gateway) -> None:
    arn = make_role(aws)
    aws.report_seconds = 3600
    now = datetime.now(UTC)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    reader = await gateway(sleep=sleep, clock=lambda: now + timedelta(seconds=sum(slept)), report_timeout_seconds=60)
    with pytest.raises(NoEvidenceError, match="within 60 seconds"):
        await reader.evidence(await reader.role(arn))
    assert 60 <= sum(slept) < 70
    assert len(slept) < 20


COMPLETED = (
    "<JobStatus>COMPLETED</JobStatus><JobType>ACTION_LEVEL</JobType>"
    "<JobCreationDate>2026-01-31T00:00:00Z</JobCreationDate><JobCompletionDate>2026-01-31T00:00:01Z</JobCompletionDate>"
    "<ServicesLastAccessed><member><ServiceName>S3</ServiceName><ServiceNamespace>s3</ServiceNamespace></member>"
    "</ServicesLastAccessed>"
)


@pytest.mark.parametrize(
    "broken",
    [
        f"{COMPLETED}<IsTruncated>true</IsTruncated>",  # no marker
        f"{COMPLETED}<IsTruncated>true</IsTruncated><Marker>again</Marker>",  # the same marker for ever
        COMPLETED.replace("ACTION_LEVEL", "SERVICE_LEVEL"),
        COMPLETED.replace("COMPLETED", "PAUSED"),
        COMPLETED.replace("<ServiceNamespace>s3</ServiceNamespace>", ""),
        COMPLETED.replace("<JobCompletionDate>2026-01-31T00:00:01Z</JobCompletionDate>", ""),
    ],
)
async def test_half_a_report_is_no_evidence(aws: LocalAws, between: Between, gateway: Gateway, broken: str) -> None:
    arn = make_role(aws)
    reader = await gateway()
    role = await reader.role(arn)
    between.answer("GetServiceLastAccessedDetails", broken)
    with pytest.raises(NoEvidenceError):
        await reader.evidence(role)


async def test_a_role_that_is_gone_is_not_found(aws: LocalAws, gateway: Gateway) -> None:
    arn = make_role(aws)
    reader = await gateway()
    role = await reader.role(arn)
    iam(aws).delete_role(RoleName="ApplicationRole")
    with pytest.raises(NotFoundError):
        await reader.evidence(role)


async def test_a_denial_is_told_as_one(aws: LocalAws, between: Between, gateway: Gateway) -> None:
    arn = make_role(aws)
    reader = await gateway()
    role = await reader.role(arn)
    between.refuse("GenerateServiceLastAccessedDetails", 403, "AccessDenied")
    with pytest.raises(DeniedError, match="iam:GenerateServiceLastAccessedDetails"):
        await reader.evidence(role)


async def test_what_aws_calls_an_error_in_a_policy_is_told(aws: LocalAws, between: Between, gateway: Gateway) -> None:
    reader = await gateway()
    assert await reader.validate(allow("s3:GetObject")) == ()
    bad = await reader.validate('{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*"}]}')
    assert len(bad) >= 1
    assert "(" in bad[0]
    finding = {"learnMoreLink": "l", "locations": []}
    between.json(
        "ValidatePolicy",
        {
            "findings": [
                {**finding, "findingType": "ERROR", "issueCode": "E", "findingDetails": "Wrong."},
                {**finding, "findingType": "SECURITY_WARNING", "issueCode": "W", "findingDetails": "Hm."},
            ]
        },
    )
    assert await reader.validate(allow("s3:*")) == ("Wrong. (E)",)


async def test_where_aws_may_not_be_asked_a_policy_has_no_errors(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    between.refuse("ValidatePolicy", 403, "AccessDeniedException")
    assert await (await gateway()).validate(json.dumps({"Statement": []})) == ()
    assert between.operations() == ["ValidatePolicy"]
