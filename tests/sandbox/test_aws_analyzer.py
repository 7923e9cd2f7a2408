"""The local AWS's Access Analyzer: findings follow the live trust policies, and its checks find what they should."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox.aws import HUB, MEMBER, LocalAws
from sandbox.aws.policy import actions
from sandbox.aws.state import ORGANIZATION
from tests.sandbox.test_aws_iam import client, refused

ORG = f"arn:aws:access-analyzer:us-east-1:{HUB}:analyzer/refine-org"
ACCOUNT = f"arn:aws:access-analyzer:eu-west-1:{HUB}:analyzer/refine-account"


def analyzer(aws: LocalAws, arn: str = ORG, **more: Any) -> Any:
    return client(aws, "accessanalyzer", region=arn.split(":")[3], **more)


def listed(aws: LocalAws, arn: str = ORG, **filters: list[str]) -> list[dict[str, Any]]:
    pages = analyzer(aws, arn).get_paginator("list_findings_v2")
    criteria = {key: {"eq": value} for key, value in filters.items()}
    return [f for page in pages.paginate(analyzerArn=arn, filter=criteria) for f in page["findings"]]


def details(aws: LocalAws, name: str, arn: str = ORG) -> list[dict[str, Any]]:
    """Return what the active findings of a role say, without their heads."""
    found = []
    for head in listed(aws, arn, status=["ACTIVE"]):
        if head["resource"].endswith(f"/{name}"):
            whole = analyzer(aws, arn).get_finding_v2(analyzerArn=arn, id=head["id"])
            assert whole["resource"] == head["resource"]
            (detail,) = whole["findingDetails"]
            found.append(detail["externalAccessDetails"])
    return found


def trusting(aws: LocalAws, *statements: dict[str, Any], account: str = HUB) -> str:
    aws.add_role(
        "Door",
        {"createdDaysAgo": 3, "trust": {"Version": "2012-10-17", "Statement": list(statements)}},
        account=account,
    )
    return "Door"


def let_in(principal: Any, **condition: Any) -> dict[str, Any]:
    made = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return {**made, "Condition": condition} if condition else made


def test_each_region_has_its_analyzer(aws: LocalAws) -> None:
    (org,) = analyzer(aws).list_analyzers()["analyzers"]
    (account,) = analyzer(aws, ACCOUNT).list_analyzers()["analyzers"]
    assert (org["arn"], org["type"], org["status"]) == (ORG, "ORGANIZATION", "ACTIVE")
    assert (account["arn"], account["type"], account["status"]) == (ACCOUNT, "ACCOUNT", "ACTIVE")
    assert analyzer(aws).list_analyzers(type="ACCOUNT")["analyzers"] == []
    assert client(aws, "accessanalyzer", region="eu-north-1").list_analyzers()["analyzers"] == []
    assert client(aws, "accessanalyzer", account=MEMBER).list_analyzers()["analyzers"] == []
    assert analyzer(aws).get_analyzer(analyzerName="refine-org")["analyzer"]["arn"] == ORG


def test_an_unknown_analyzer_or_finding_is_not_found(aws: LocalAws) -> None:
    api = analyzer(aws)
    with pytest.raises(api.exceptions.ResourceNotFoundException) as caught:
        api.list_findings_v2(analyzerArn=ACCOUNT)  # of another Region
    assert caught.value.response["resourceId"] == ACCOUNT
    with pytest.raises(api.exceptions.ResourceNotFoundException):
        api.get_finding_v2(analyzerArn=ORG, id="00000000-0000-0000-0000-000000000000")
    with pytest.raises(api.exceptions.ResourceNotFoundException):
        api.get_analyzer(analyzerName="nonesuch")


def test_the_world_has_the_doors_it_should_have(aws: LocalAws) -> None:
    everywhere = {f["resource"].rsplit("/", 1)[-1] for f in listed(aws, status=["ACTIVE"])}
    assert everywhere == {
        "ApplicationRole",
        "BillingExport",
        "BreakGlassSupport",
        "CiArtifactPublisher",
        "CloudPostureScanner",
        "DataLakeIngest",
        "EdgeTelemetry",
        "GitHubActionsDeploy",
        "LegacyMigration",
        "MediaTranscoder",
        "MspAdministrator",
        "NewVendorPilot",
        "NightlyBackup",
        "ObservabilityForwarder",
        "OktaDataAnalyst",
        "OrderEventsConsumer",
        "PartnerReporting",
        "PlatformInventory",
        "PublicDatasetReader",
        "WarehouseLoader",
    }
    in_hub = {f["resource"].rsplit("/", 1)[-1] for f in listed(aws, ACCOUNT, status=["ACTIVE"])}
    assert everywhere - in_hub == {"EdgeTelemetry", "WarehouseLoader"}
    assert in_hub <= everywhere
    assert {f["resourceOwnerAccount"] for f in listed(aws, resourceOwnerAccount=[MEMBER])} == {MEMBER}


def test_the_same_role_has_a_finding_of_its_own_in_each_region(aws: LocalAws) -> None:
    ids = [
        f["id"]
        for arn in (ORG, ACCOUNT)
        for f in listed(aws, arn, resource=[f"arn:aws:iam::{HUB}:role/ApplicationRole"])
    ]
    assert len(set(ids)) == 2
    aws.reset()
    again = [f["id"] for f in listed(aws, resource=[f"arn:aws:iam::{HUB}:role/ApplicationRole"])]
    assert again == ids[:1]  # the same in every run


@pytest.mark.parametrize(
    ("role", "principal", "public", "condition"),
    [
        ("ApplicationRole", {"AWS": "999988887777"}, False, {}),
        ("PublicDatasetReader", {"AWS": "*"}, True, {}),
        ("NightlyBackup", {"AWS": "arn:aws:iam::222233334444:role/vault-runner"}, False, {}),
        (
            "GitHubActionsDeploy",
            {"Federated": f"arn:aws:iam::{HUB}:oidc-provider/token.actions.githubusercontent.com"},
            False,
            {},
        ),
        ("OktaDataAnalyst", {"Federated": f"arn:aws:iam::{HUB}:saml-provider/Okta"}, False, {}),
        (
            "EdgeTelemetry",
            {"Federated": "cognito-identity.amazonaws.com"},
            False,
            {"cognito-identity.amazonaws.com:aud": "eu-west-1:0f6c7a52-3f3e-4a57-8d0e-6a8f1f3a1c11"},
        ),
        (
            "CiArtifactPublisher",
            {"AWS": "arn:aws:iam::343434343434:role/build-farm"},
            False,
            {"aws:SourceIp": "203.0.113.0/24,198.51.100.7/32"},
        ),
    ],
)
def test_a_finding_names_the_principal_and_the_conditions_that_access_analyzer_knows(
    aws: LocalAws, role: str, principal: dict[str, str], public: bool, condition: dict[str, str]
) -> None:
    (detail,) = details(aws, role)
    assert detail["principal"] == principal
    assert detail["isPublic"] is public
    assert detail["condition"] == condition


def test_two_accounts_in_one_statement_are_two_findings(aws: LocalAws) -> None:
    found = details(aws, "OrderEventsConsumer")
    assert sorted(d["principal"]["AWS"] for d in found) == ["111122223333", "777788889999"]


@pytest.mark.parametrize(
    "statement",
    [
        let_in({"Service": "lambda.amazonaws.com"}),
        let_in({"AWS": f"arn:aws:iam::{HUB}:root"}),
        let_in({"AWS": MEMBER}),
        let_in("*", StringEquals={"aws:PrincipalOrgID": ORGANIZATION}),
        let_in({"AWS": "*"}, StringEquals={"aws:PrincipalAccount": [HUB, MEMBER]}),
        let_in({"AWS": "*"}, ArnLike={"aws:PrincipalArn": f"arn:aws:iam::{HUB}:role/x-*"}),
        {**let_in({"AWS": "999988887777"}), "Effect": "Deny"},
    ],
)
def test_nobody_inside_the_organization_makes_a_finding(aws: LocalAws, statement: dict[str, Any]) -> None:
    assert details(aws, trusting(aws, statement)) == []


@pytest.mark.parametrize(
    ("statement", "public"),
    [
        (let_in("*"), True),
        (let_in({"AWS": "*"}, StringEquals={"sts:ExternalId": "x"}), True),
        (let_in({"AWS": "*"}, StringEquals={"aws:PrincipalOrgID": "o-strangers"}), False),
        (let_in({"AWS": "*"}, StringNotEquals={"aws:PrincipalOrgID": ORGANIZATION}), True),
        (let_in({"AWS": ["999988887777"]}), False),
    ],
)
def test_somebody_from_outside_makes_one(aws: LocalAws, statement: dict[str, Any], public: bool) -> None:
    (detail,) = details(aws, trusting(aws, statement))
    assert detail["isPublic"] is public


def test_the_account_analyzer_takes_the_member_account_for_outside(aws: LocalAws) -> None:
    trusting(aws, let_in({"AWS": MEMBER}), let_in("*", StringEquals={"aws:PrincipalOrgID": ORGANIZATION}))
    assert details(aws, "Door", ORG) == []
    found = details(aws, "Door", ACCOUNT)
    assert sorted(d["principal"]["AWS"] for d in found) == ["*", MEMBER]


def test_a_changed_trust_policy_resolves_the_finding_and_the_old_one_brings_it_back(aws: LocalAws) -> None:
    iam, arn = client(aws), f"arn:aws:iam::{HUB}:role/ApplicationRole"
    (before,) = listed(aws, resource=[arn])
    trust = iam.get_role(RoleName="ApplicationRole")["Role"]["AssumeRolePolicyDocument"]
    closed = json.dumps({**trust, "Statement": [let_in({"AWS": HUB})]})
    iam.update_assume_role_policy(RoleName="ApplicationRole", PolicyDocument=closed)
    (resolved,) = listed(aws, resource=[arn])
    assert (resolved["id"], resolved["status"]) == (before["id"], "RESOLVED")
    assert resolved["updatedAt"] > before["updatedAt"]
    iam.update_assume_role_policy(RoleName="ApplicationRole", PolicyDocument=json.dumps(trust))
    analyzer(aws).start_resource_scan(analyzerArn=ORG, resourceArn=arn)
    (back,) = listed(aws, resource=[arn])
    assert (back["id"], back["status"]) == (before["id"], "ACTIVE")


def test_trimming_permissions_resolves_nothing(aws: LocalAws) -> None:
    before = {f["id"]: f["status"] for f in listed(aws)}
    client(aws).detach_role_policy(RoleName="ApplicationRole", PolicyArn=f"arn:aws:iam::{HUB}:policy/DynamoDBAccess")
    assert {f["id"]: f["status"] for f in listed(aws)} == before


def test_findings_are_archived_by_id_and_by_role(aws: LocalAws) -> None:
    api, role = analyzer(aws), f"arn:aws:iam::{HUB}:role/OrderEventsConsumer"
    one, other = (f["id"] for f in listed(aws, resource=[role]))
    api.update_findings(analyzerArn=ORG, status="ARCHIVED", ids=[one])
    assert {f["id"]: f["status"] for f in listed(aws, resource=[role])} == {one: "ARCHIVED", other: "ACTIVE"}
    api.update_findings(analyzerArn=ORG, status="ARCHIVED", resourceArn=role)
    assert listed(aws, resource=[role], status=["ACTIVE"]) == []
    api.update_findings(analyzerArn=ORG, status="ACTIVE", resourceArn=role)
    assert len(listed(aws, resource=[role], status=["ACTIVE"])) == 2
    assert refused(api.update_findings, analyzerArn=ORG, status="ARCHIVED")[0] == "ValidationException"


def test_a_resolved_finding_forgets_that_it_was_archived(aws: LocalAws) -> None:
    api, iam, role = analyzer(aws), client(aws), f"arn:aws:iam::{HUB}:role/ApplicationRole"
    trust = json.dumps(iam.get_role(RoleName="ApplicationRole")["Role"]["AssumeRolePolicyDocument"])
    api.update_findings(analyzerArn=ORG, status="ARCHIVED", resourceArn=role)
    closed = json.dumps({"Version": "2012-10-17", "Statement": [let_in({"AWS": HUB})]})
    for text, status in ((closed, "RESOLVED"), (trust, "ACTIVE")):
        iam.update_assume_role_policy(RoleName="ApplicationRole", PolicyDocument=text)
        assert [f["status"] for f in listed(aws, resource=[role])] == [status]


def test_findings_come_in_pages(aws: LocalAws) -> None:
    api, params = analyzer(aws), {"analyzerArn": ORG, "maxResults": 6}
    ids: list[str] = []
    sizes = []
    while True:
        page = api.list_findings_v2(**params)
        sizes.append(len(page["findings"]))
        ids += [f["id"] for f in page["findings"]]
        if "nextToken" not in page:
            break
        params["nextToken"] = page["nextToken"]
    assert sizes == [6, 6, 6, 3]
    assert len(set(ids)) == 21
    assert refused(api.list_findings_v2, analyzerArn=ORG, nextToken="nonsense")[0] == "ValidationException"


def test_filters_say_eq_neq_contains_and_exists(aws: LocalAws) -> None:
    api = analyzer(aws)

    def names(**criteria: Any) -> set[str]:
        got = api.list_findings_v2(analyzerArn=ORG, filter=criteria)["findings"]
        return {f["resource"].rsplit("/", 1)[-1] for f in got}

    assert names(isPublic={"eq": ["true"]}) == {"PublicDatasetReader"}
    assert names(**{"principal.Federated": {"exists": True}}) == {
        "EdgeTelemetry",
        "GitHubActionsDeploy",
        "OktaDataAnalyst",
    }
    assert names(resource={"contains": ["role/ci/"]}) == {"CiArtifactPublisher", "GitHubActionsDeploy"}
    assert names(resourceOwnerAccount={"neq": [HUB]}) == {"EdgeTelemetry", "WarehouseLoader"}
    assert names(resourceType={"eq": ["AWS::S3::Bucket"]}) == set()
    many = [f"arn:aws:iam::{HUB}:role/r{i}" for i in range(21)]
    wrong = refused(api.list_findings_v2, analyzerArn=ORG, filter={"resource": {"eq": many}})
    assert wrong[:2] == ("ValidationException", 400)
    unknown = refused(api.list_findings_v2, analyzerArn=ORG, filter={"colour": {"eq": ["red"]}})
    assert unknown[0] == "ValidationException"


def test_findings_are_sorted_as_asked(aws: LocalAws) -> None:
    api = analyzer(aws)
    got = api.list_findings_v2(analyzerArn=ORG, sort={"attributeName": "createdAt", "orderBy": "ASC"})["findings"]
    times = [f["createdAt"] for f in got]
    assert times == sorted(times)
    assert got[-1]["resource"].endswith("NewVendorPilot")


# -------------------- checks of policies


def problems(aws: LocalAws, *statements: dict[str, Any]) -> list[str]:
    document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    api = analyzer(aws)
    got = api.validate_policy(policyDocument=document, policyType="IDENTITY_POLICY")["findings"]
    return sorted(f"{f['findingType']} {f['issueCode']}" for f in got)


def statement(*names: str, effect: str = "Allow", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": list(names), "Resource": resource, **more}


def test_validate_policy_has_nothing_to_say_about_a_good_one(aws: LocalAws) -> None:
    assert problems(aws, statement("dynamodb:DescribeTable", "s3:Get*")) == []


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (statement("s3:NotYetInvented"), "ERROR INVALID_ACTION"),
        (statement("nonesuch:Read"), "ERROR INVALID_SERVICE_IN_ACTION"),
        (statement(), "ERROR EMPTY_ARRAY_ACTION"),
        (statement("iam:PassRole"), "SECURITY_WARNING PASS_ROLE_WITH_STAR_IN_RESOURCE"),
        (statement("s3:GetObject", "s3:Get*"), "SUGGESTION REDUNDANT_ACTION"),
        (statement("s3:GetObject", effect="Permit"), "ERROR MISSING_EFFECT"),
        ({"Effect": "Allow", "Action": "s3:GetObject"}, "ERROR MISSING_RESOURCE"),
    ],
)
def test_validate_policy_finds_what_is_wrong(aws: LocalAws, bad: dict[str, Any], problem: str) -> None:
    assert problems(aws, bad) == [problem]


def test_validate_policy_reads_json_strictly(aws: LocalAws) -> None:
    (finding,) = analyzer(aws).validate_policy(policyDocument="{", policyType="IDENTITY_POLICY")["findings"]
    assert finding["issueCode"] == "JSON_SYNTAX_ERROR"


NARROW = {"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}


@pytest.mark.parametrize(
    ("old", "new", "result"),
    [
        ([statement("dynamodb:*")], [statement("dynamodb:DescribeTable")], "PASS"),
        ([statement("dynamodb:*")], [statement("dynamodb:Describe*", "dynamodb:List*")], "PASS"),
        ([statement("dynamodb:*")], [statement("DynamoDB:DESCRIBETABLE")], "PASS"),
        ([statement("dynamodb:Describe*")], [statement("dynamodb:*")], "FAIL"),
        ([statement("dynamodb:DescribeTable")], [statement("dynamodb:DescribeTable*")], "FAIL"),
        ([statement("s3:GetObject")], [statement("s3:NotYetInvented")], "FAIL"),
        ([statement("s3:Get*", resource="arn:aws:s3:::a/*")], [statement("s3:GetObject")], "FAIL"),
        ([statement("s3:Get*")], [statement("s3:GetObject", resource="arn:aws:s3:::a/*")], "PASS"),
        ([statement("s3:Get*", Condition=NARROW)], [statement("s3:GetObject")], "FAIL"),
        ([statement("s3:Get*", Condition=NARROW)], [statement("s3:GetObject", Condition=NARROW)], "PASS"),
        ([statement("s3:*"), statement("s3:Put*", effect="Deny")], [statement("s3:Get*")], "FAIL"),
        (
            [statement("s3:*"), statement("s3:Put*", effect="Deny")],
            [statement("s3:Get*"), statement("s3:Put*", effect="Deny")],
            "PASS",
        ),
        (
            [{"Effect": "Allow", "NotAction": ["iam:*"], "Resource": "*"}],
            [{"Effect": "Allow", "NotAction": ["iam:*", "s3:Put*"], "Resource": "*"}],
            "PASS",
        ),
        (
            [{"Effect": "Allow", "NotAction": ["iam:*", "s3:Put*"], "Resource": "*"}],
            [{"Effect": "Allow", "NotAction": ["iam:*"], "Resource": "*"}],
            "FAIL",
        ),
        ([statement("*")], [{"Effect": "Allow", "NotAction": ["iam:*"], "Resource": "*"}], "PASS"),
        ([statement("s3:*")], [statement("*")], "FAIL"),
        # A pattern may mean actions that AWS has yet to add; the list of all that there are cannot.
        ([statement(*(f"sts:{name}" for name, _ in actions("sts").values()))], [statement("sts:*")], "FAIL"),
    ],
)
def test_check_no_new_access(aws: LocalAws, old: list[Any], new: list[Any], result: str) -> None:
    texts = [json.dumps({"Version": "2012-10-17", "Statement": each}) for each in (old, new)]
    got = analyzer(aws).check_no_new_access(
        existingPolicyDocument=texts[0], newPolicyDocument=texts[1], policyType="IDENTITY_POLICY"
    )
    assert got["result"] == result
    assert bool(got["reasons"]) is (result == "FAIL")


def test_check_no_new_access_refuses_what_is_no_policy(aws: LocalAws) -> None:
    api = analyzer(aws)
    answer = refused(
        api.check_no_new_access, existingPolicyDocument="[]", newPolicyDocument="{", policyType="IDENTITY_POLICY"
    )
    assert answer[:2] == ("InvalidParameterException", 400)


# -------------------- CloudFormation


def test_the_stack_that_owns_a_role_is_found_in_its_region_alone(aws: LocalAws) -> None:
    (found,) = client(aws, "cloudformation").describe_stack_resources(PhysicalResourceId="BillingExport")[
        "StackResources"
    ]
    assert (found["StackName"], found["LogicalResourceId"]) == ("finops-billing-export", "ExportRole")
    elsewhere = client(aws, "cloudformation", region="eu-west-1")
    answer = refused(elsewhere.describe_stack_resources, PhysicalResourceId="BillingExport")
    assert answer == ("ValidationError", 400, "Stack for BillingExport does not exist")
    assert refused(client(aws, "cloudformation").describe_stack_resources, PhysicalResourceId="ApplicationRole")
