"""The local AWS's last accessed reports: granted and tracked, in jobs that only their maker may read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from sandbox.aws import HUB, MEMBER, LocalAws, start
from tests.sandbox.test_aws_iam import client, refused


@pytest.fixture(scope="module")
def server() -> Iterator[LocalAws]:
    aws = start()
    aws.report_seconds = 0.0
    yield aws
    aws.stop()


@pytest.fixture
def aws(server: LocalAws) -> LocalAws:
    server.reset()
    server.report_seconds = 0.0
    return server


def role_arn(name: str, account: str = HUB) -> str:
    return f"arn:aws:iam::{account}:role/{name}"


def report(iam: Any, arn: str, granularity: str = "ACTION_LEVEL") -> dict[str, dict[str, Any]]:
    """Return a whole report by service, read to its last page."""
    job = iam.generate_service_last_accessed_details(Arn=arn, Granularity=granularity)["JobId"]
    services: list[dict[str, Any]] = []
    marker: dict[str, str] = {}
    while True:
        page = iam.get_service_last_accessed_details(JobId=job, **marker)
        assert page["JobStatus"] == "COMPLETED"
        services += page["ServicesLastAccessed"]
        if not page["IsTruncated"]:
            return {s["ServiceNamespace"]: s for s in services}
        marker = {"Marker": page["Marker"]}


def actions(service: dict[str, Any]) -> dict[str, datetime | None]:
    return {a["ActionName"]: a.get("LastAccessedTime") for a in service.get("TrackedActionsLastAccessed", [])}


def grant(aws: LocalAws, *statements: dict[str, Any], used: dict[str, Any] | None = None) -> str:
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": HUB}, "Action": "sts:AssumeRole"}],
    }
    aws.add_role("Made", {"createdDaysAgo": 9, "trust": trust, "inline": {"P": document}, "used": used or {}})
    return role_arn("Made")


def allow(*names: str, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(names), "Resource": "*", **more}


def deny(*names: str, **more: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": list(names), "Resource": "*", **more}


def test_the_missions_role_used_two_of_what_is_tracked(aws: LocalAws) -> None:
    services = report(client(aws), role_arn("ApplicationRole"))
    assert list(services) == ["dynamodb"]
    dynamodb = services["dynamodb"]
    used = {name: at for name, at in actions(dynamodb).items() if at}
    assert set(used) == {"DescribeTable", "DescribeKinesisStreamingDestination"}
    assert dynamodb["LastAuthenticated"] == max(used.values())
    assert dynamodb["LastAuthenticatedEntity"] == role_arn("ApplicationRole")
    assert dynamodb["LastAuthenticatedRegion"] == "us-east-1"
    assert dynamodb["ServiceName"] == "Amazon DynamoDB"
    listed = set(actions(dynamodb))
    assert listed > {"CreateTable", "DeleteTable", "ListTables", "UpdateTable"}
    assert not listed & {"GetItem", "PutItem", "Query", "Scan", "BatchGetItem", "TagResource", "ListTagsOfResource"}


def test_a_job_is_in_progress_first_and_says_no_more_than_that(aws: LocalAws) -> None:
    aws.report_seconds = 0.3
    iam = aws.client("iam")  # the model requires members that real answers lack
    job = iam.generate_service_last_accessed_details(Arn=role_arn("ApplicationRole"))["JobId"]
    assert len(job) == 36
    first = iam.get_service_last_accessed_details(JobId=job)
    assert {k for k in first if k != "ResponseMetadata"} == {"JobStatus", "JobCreationDate", "IsTruncated"}
    assert first["JobStatus"] == "IN_PROGRESS"
    deadline = time.monotonic() + 5
    while (last := iam.get_service_last_accessed_details(JobId=job))["JobStatus"] == "IN_PROGRESS":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (last["JobStatus"], last["JobType"]) == ("COMPLETED", "SERVICE_LEVEL")
    assert last["JobCompletionDate"] > last["JobCreationDate"]


def test_a_report_of_more_than_a_hundred_services_has_pages(aws: LocalAws) -> None:
    iam = client(aws)
    job = iam.generate_service_last_accessed_details(Arn=role_arn("PlatformInventory"), Granularity="ACTION_LEVEL")
    pages, params = [], {"JobId": job["JobId"], "MaxItems": 60}
    while True:
        page = iam.get_service_last_accessed_details(**params)
        pages.append([s["ServiceNamespace"] for s in page["ServicesLastAccessed"]])
        if not page["IsTruncated"]:
            assert "Marker" not in page
            break
        params["Marker"] = page["Marker"]
    names = [n for p in pages for n in p]
    assert [len(p) for p in pages[:-1]] == [60, 60]
    assert len(names) == len(set(names)) > 100
    first = iam.get_service_last_accessed_details(JobId=job["JobId"])
    assert len(first["ServicesLastAccessed"]) == 100
    assert first["IsTruncated"]


def test_a_marker_of_another_job_is_invalid(aws: LocalAws) -> None:
    iam = client(aws)
    jobs = [iam.generate_service_last_accessed_details(Arn=role_arn("PlatformInventory"))["JobId"] for _ in range(2)]
    marker = iam.get_service_last_accessed_details(JobId=jobs[0], MaxItems=5)["Marker"]
    for wrong in (marker, "nonsense"):
        answer = refused(iam.get_service_last_accessed_details, JobId=jobs[1], Marker=wrong)
        assert answer == ("InvalidInput", 400, "The marker passed in the request was invalid.")


def test_only_the_session_that_made_a_job_may_read_it(aws: LocalAws) -> None:
    sts = client(aws, "sts")

    def session() -> Any:
        keys = sts.assume_role(
            RoleArn=role_arn("RefineMember", MEMBER), RoleSessionName="refine", ExternalId="refine-sandbox"
        )["Credentials"]
        return boto3.client(
            "iam",
            region_name="us-east-1",
            endpoint_url=aws.url,
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
        )

    one, other = session(), session()
    job = one.generate_service_last_accessed_details(Arn=role_arn("WarehouseLoader", MEMBER))["JobId"]
    assert one.get_service_last_accessed_details(JobId=job)["JobStatus"] == "COMPLETED"
    answer = refused(other.get_service_last_accessed_details, JobId=job)
    assert answer == ("NoSuchEntity", 404, f"Job {job} does not exist.")


def test_another_accounts_role_is_denied_and_an_unknown_one_is_not_there(aws: LocalAws) -> None:
    iam = client(aws)
    call = iam.generate_service_last_accessed_details
    assert refused(call, Arn=role_arn("WarehouseLoader", MEMBER))[:2] == ("AccessDenied", 403)
    assert refused(call, Arn=role_arn("Nobody"))[:2] == ("NoSuchEntity", 404)
    assert refused(call, Arn="arn:aws:s3:::a-bucket-of-ours")[:2] == ("InvalidInput", 400)


def test_the_path_of_a_role_does_not_matter(aws: LocalAws) -> None:
    iam = client(aws)
    real = report(iam, role_arn("ci/GitHubActionsDeploy"))
    assert real == report(iam, role_arn("GitHubActionsDeploy")) == report(iam, role_arn("x/y/GitHubActionsDeploy"))


def test_service_level_reports_have_no_actions(aws: LocalAws) -> None:
    services = report(client(aws), role_arn("ApplicationRole"), "SERVICE_LEVEL")
    assert "TrackedActionsLastAccessed" not in services["dynamodb"]
    assert services["dynamodb"]["TotalAuthenticatedEntities"] == 1


def test_a_service_denied_outright_is_hidden_and_a_conditional_deny_hides_nothing(aws: LocalAws) -> None:
    services = report(client(aws), role_arn("MediaTranscoder"))
    assert set(services) == {"events", "mediaconvert", "s3"}
    assert "DeleteBucket" not in actions(services["s3"])
    assert "GetBucketLocation" in actions(services["s3"])


def test_a_deny_on_some_resources_hides_nothing(aws: LocalAws) -> None:
    arn = grant(aws, allow("sqs:*"), deny("sqs:*", Resource="arn:aws:sqs:*:*:secret"))
    assert "CreateQueue" in actions(report(client(aws), arn)["sqs"])


def test_unknown_actions_and_services_grant_nothing_that_is_reported(aws: LocalAws) -> None:
    arn = grant(aws, allow("s3:NotYetInvented", "nonesuch:Read", "S3:GETBUCKETLOCATION"))
    services = report(client(aws), arn)
    assert {n: list(actions(s)) for n, s in services.items()} == {"s3": ["GetBucketLocation"]}


def test_not_action_grants_everything_else(aws: LocalAws) -> None:
    services = report(client(aws), role_arn("BreakGlassSupport"))
    assert len(services) > 400
    assert not services.keys() & {"account", "sso"}
    assert list(actions(services["iam"])) == ["GetRole", "ListRoles"]


def test_untracked_use_counts_for_the_service_alone(aws: LocalAws) -> None:
    arn = grant(
        aws,
        allow("dynamodb:*", "sns:*", "iam:PassRole"),
        used={"dynamodb:GetItem": {"daysAgo": 1, "region": "eu-west-1"}, "dynamodb:ListTables": {"daysAgo": 50}},
    )
    services = report(client(aws), arn)
    dynamodb = services["dynamodb"]
    assert datetime.now(UTC) - dynamodb["LastAuthenticated"] < timedelta(days=1, minutes=5)
    assert dynamodb["LastAuthenticatedRegion"] == "eu-west-1"
    assert [n for n, at in actions(dynamodb).items() if at] == ["ListTables"]
    for silent in ("sns", "iam"):
        assert services[silent] == {
            "ServiceName": services[silent]["ServiceName"],
            "ServiceNamespace": silent,
            "TotalAuthenticatedEntities": 0,
        }


def test_the_tracking_period_ends_after_400_days(aws: LocalAws) -> None:
    services = report(client(aws), role_arn("LegacyMigration"))
    assert {"ec2", "rds", "s3"} <= set(services)
    assert not any(s.get("LastAuthenticated") for s in services.values())
    assert "LastUsedDate" not in client(aws).get_role(RoleName="LegacyMigration")["Role"]["RoleLastUsed"]


def test_a_report_follows_the_live_policies_and_new_use(aws: LocalAws) -> None:
    iam = client(aws)
    arn = f"arn:aws:iam::{HUB}:policy/DynamoDBAccess"
    trimmed = {"Version": "2012-10-17", "Statement": [allow("dynamodb:DescribeTable", "dynamodb:Query")]}
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(trimmed), SetAsDefault=True)
    aws.use("ApplicationRole", "dynamodb:DescribeTable")
    (only,) = report(iam, role_arn("ApplicationRole")).values()
    (used,) = actions(only).items()
    assert used[0] == "DescribeTable"
    assert datetime.now(UTC) - used[1] < timedelta(minutes=1)


def test_a_shared_policys_report_unites_those_who_have_it(aws: LocalAws) -> None:
    services = report(client(aws), f"arn:aws:iam::{HUB}:policy/data-platform/DataLakeAccess")
    assert services["s3"]["TotalAuthenticatedEntities"] == 4
    assert [n for n, at in actions(services["kinesis"]).items() if at] == [
        "DescribeStreamSummary",
        "GetRecords",
        "PutRecords",
    ]


def test_every_use_in_the_world_is_of_a_known_action_that_its_role_is_granted(aws: LocalAws) -> None:
    """A typing error in a world file must not look like an action that nobody uses."""
    from sandbox.aws.policy import granted
    from sandbox.aws.state import documents_of

    state = aws.state
    wrong = []
    for arn, uses in state.used.items():
        role = state.role(arn)
        assert role is not None
        can = {f"{service}:{name}" for service, names in granted(documents_of(role)).items() for name in names}
        wrong += [(role.name, action) for action in uses if action not in can]
    assert wrong == []


def test_a_missing_job_is_not_there(aws: LocalAws) -> None:
    with pytest.raises(ClientError, match="does not exist"):
        client(aws).get_service_last_accessed_details(JobId="0" * 36)
