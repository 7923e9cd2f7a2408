"""The local AWS's IAM and STS hold documents to the byte, refuse what AWS refuses, and answer in botocore's shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import botocore.handlers
import pytest
from aiobotocore.session import get_session
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

import sandbox.aws
from sandbox.aws import HUB, MEMBER, LocalAws
from sandbox.aws.front import enum_problems

ODD = '{ "Version":"2012-10-17",\r\n\t"Statement" : [ {"Effect":"Allow","Action":"s3:Get*","Resource":"arn:aws:s3:::a%20b/Zürich+x&<y>"} ]  }\n'
WORLD = Path(sandbox.aws.__file__).parent / "world"
MEMBER_ROLE = f"arn:aws:iam::{MEMBER}:role/RefineMember"


def validate(parsed: dict[str, Any], model: Any, **_: Any) -> None:
    """Hold a parsed answer against botocore's model of it."""
    answer = {k: v for k, v in parsed.items() if k != "ResponseMetadata"}
    if "Error" in answer or model.output_shape is None:
        return
    report = ParamValidator().validate(answer, model.output_shape).generate_report()
    assert not report, f"{model.name}: {report}"
    assert not enum_problems(answer, model.output_shape)


def client(aws: LocalAws, service: str = "iam", **more: Any) -> Any:
    made = aws.client(service, **more)
    made.meta.events.register_first(f"after-call.{service}", validate)  # before documents are decoded
    return made


def raw(aws: LocalAws) -> Any:
    """Return a client that shows documents as they came, URL-encoded."""
    made = aws.client("iam")
    made.meta.events.unregister("after-call.iam", botocore.handlers.json_decode_policies)
    return made


def refused(call: Any, **params: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        call(**params)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]


def policy(size: int) -> str:
    """Return a policy of exactly so many characters, white space aside, and more with it."""
    head, tail = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"', '"}]}'
    filler = "arn:aws:s3:::" + "x" * (size - len(head) - len(tail) - 13)
    return (head + filler + tail).replace(",", ",  \n").replace("{", "{\t", 1)


def test_every_read_of_every_role_has_the_shape_of_aws(aws: LocalAws) -> None:
    seen = set()
    for account in (HUB, MEMBER):
        iam = client(aws, account=account)
        roles = [r for page in iam.get_paginator("list_roles").paginate(MaxItems=7) for r in page["Roles"]]
        assert len({r["Arn"] for r in roles}) == len(roles)
        for head in roles:
            name = head["RoleName"]
            seen.add(name)
            role = iam.get_role(RoleName=name)["Role"]
            assert role["AssumeRolePolicyDocument"] == head["AssumeRolePolicyDocument"]
            inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
            for each in inline:
                assert iam.get_role_policy(RoleName=name, PolicyName=each)["PolicyDocument"]["Statement"]
            attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
            assert inline or attached
            for each in attached:
                arn = each["PolicyArn"]
                managed = iam.get_policy(PolicyArn=arn)["Policy"]
                assert managed["AttachmentCount"] >= 1
                versions = iam.list_policy_versions(PolicyArn=arn)["Versions"]
                assert [v["VersionId"] for v in versions if v["IsDefaultVersion"]] == [managed["DefaultVersionId"]]
                for version in versions:
                    read = iam.get_policy_version(PolicyArn=arn, VersionId=version["VersionId"])["PolicyVersion"]
                    assert read["Document"]["Statement"]
                entities = iam.list_entities_for_policy(PolicyArn=arn)
                assert name in {r["RoleName"] for r in entities["PolicyRoles"]}
        assert iam.get_account_summary()["SummaryMap"]["PolicySizeQuota"] == 6144
        details = iam.get_account_authorization_details(Filter=["Role"])["RoleDetailList"]
        assert {d["RoleName"] for d in details} == {r["RoleName"] for r in roles}
    assert seen == {f.name.removesuffix(".json").split("@")[0] for f in WORLD.iterdir() if f.suffix == ".json"}


def test_documents_come_back_to_the_byte(aws: LocalAws) -> None:
    iam, bare = client(aws), raw(aws)
    arn = iam.create_policy(PolicyName="Odd", PolicyDocument=ODD)["Policy"]["Arn"]
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=ODD + " ", SetAsDefault=True)
    iam.put_role_policy(RoleName="ApplicationRole", PolicyName="Odd", PolicyDocument=ODD)
    iam.attach_role_policy(RoleName="ApplicationRole", PolicyArn=arn)
    v1 = bare.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"]
    v2 = bare.get_policy_version(PolicyArn=arn, VersionId="v2")["PolicyVersion"]["Document"]
    inline = bare.get_role_policy(RoleName="ApplicationRole", PolicyName="Odd")["PolicyDocument"]
    assert [unquote(v1), unquote(v2), unquote(inline)] == [ODD, ODD + " ", ODD]
    shot = aws.snapshot(HUB, "ApplicationRole")
    assert shot["inline"] == {"Odd": ODD}
    assert shot["attached"][arn] == {
        "default_version": "v2",
        "document_text": ODD + " ",
        "versions": {"v1": ODD, "v2": ODD + " "},
    }


def test_trust_policies_come_back_to_the_byte(aws: LocalAws) -> None:
    text = aws.client("iam").get_role(RoleName="ApplicationRole")["Role"]["AssumeRolePolicyDocument"]
    text["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"] = "100%25 & <b>+"
    written = json.dumps(text, indent=3) + "\r\n"
    client(aws).update_assume_role_policy(RoleName="ApplicationRole", PolicyDocument=written)
    bare = raw(aws)
    details = bare.get_account_authorization_details(Filter=["Role"])["RoleDetailList"]
    for every in ([bare.get_role(RoleName="ApplicationRole")["Role"]], bare.list_roles()["Roles"], details):
        (mine,) = [unquote(r["AssumeRolePolicyDocument"]) for r in every if r["RoleName"] == "ApplicationRole"]
        assert mine == written


def test_the_worlds_texts_keep_their_carriage_returns(aws: LocalAws) -> None:
    text = unquote(raw(aws).get_role_policy(RoleName="NightlyBackup", PolicyName="SnapshotRotation")["PolicyDocument"])
    assert text.count("\r\n") == 8
    assert "\t\t" in text
    assert text == aws.snapshot(HUB, "NightlyBackup")["inline"]["SnapshotRotation"]


def test_application_role_is_the_one_of_the_mission(aws: LocalAws) -> None:
    shot = aws.snapshot(HUB, "ApplicationRole")
    (attached,) = shot["attached"].values()
    assert json.loads(attached["document_text"]) == {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "dynamodb:*", "Resource": "*"}],
    }
    assert list(shot["attached"]) == [f"arn:aws:iam::{HUB}:policy/DynamoDBAccess"]
    assert shot["inline"] == {}


def test_a_managed_policy_may_have_6144_characters_white_space_aside(aws: LocalAws) -> None:
    iam = client(aws)
    assert len(policy(6144)) > 6144
    arn = iam.create_policy(PolicyName="Full", PolicyDocument=policy(6144))["Policy"]["Arn"]
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=policy(6144))
    over = refused(iam.create_policy, PolicyName="Over", PolicyDocument=policy(6145))
    assert over == ("LimitExceeded", 409, "Cannot exceed quota for PolicySize: 6144")
    over = refused(iam.create_policy_version, PolicyArn=arn, PolicyDocument=policy(6145))
    assert over[:2] == ("LimitExceeded", 409)


def test_a_roles_inline_policies_may_have_10240_characters_together(aws: LocalAws) -> None:
    iam = client(aws)
    iam.put_role_policy(RoleName="ApplicationRole", PolicyName="A", PolicyDocument=policy(6000))
    iam.put_role_policy(RoleName="ApplicationRole", PolicyName="B", PolicyDocument=policy(4240))
    over = refused(iam.put_role_policy, RoleName="ApplicationRole", PolicyName="C", PolicyDocument=policy(150))
    assert over == ("LimitExceeded", 409, "Maximum policy size of 10240 bytes exceeded for role ApplicationRole")
    # The text that is replaced does not count.
    iam.put_role_policy(RoleName="ApplicationRole", PolicyName="A", PolicyDocument=policy(5990))
    assert (
        refused(iam.put_role_policy, RoleName="ApplicationRole", PolicyName="A", PolicyDocument=policy(6001))[1] == 409
    )


def test_a_trust_policy_may_have_2048_characters(aws: LocalAws) -> None:
    iam = client(aws)
    trust = json.loads(json.dumps(iam.get_role(RoleName="ApplicationRole")["Role"]["AssumeRolePolicyDocument"]))
    trust["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"] = "x" * 2048
    over = refused(iam.update_assume_role_policy, RoleName="ApplicationRole", PolicyDocument=json.dumps(trust))
    assert over[:2] == ("LimitExceeded", 409)


def test_an_eleventh_attachment_is_refused_and_a_second_of_the_same_is_none(aws: LocalAws) -> None:
    iam = client(aws)
    for i in range(9):
        arn = iam.create_policy(PolicyName=f"P{i}", PolicyDocument=ODD)["Policy"]["Arn"]
        iam.attach_role_policy(RoleName="ApplicationRole", PolicyArn=arn)
        iam.attach_role_policy(RoleName="ApplicationRole", PolicyArn=arn)
        assert iam.get_policy(PolicyArn=arn)["Policy"]["AttachmentCount"] == 1
    over = refused(
        iam.attach_role_policy, RoleName="ApplicationRole", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess"
    )
    assert over == ("LimitExceeded", 409, "Cannot exceed quota for PoliciesPerRole: 10")


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("put_role_policy", {"PolicyName": "X", "PolicyDocument": ODD}),
        ("delete_role_policy", {"PolicyName": "X"}),
        ("attach_role_policy", {"PolicyArn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}),
        (
            "detach_role_policy",
            {"PolicyArn": "arn:aws:iam::aws:policy/aws-service-role/AutoScalingServiceRolePolicy"},
        ),
        ("update_assume_role_policy", {"PolicyDocument": ODD}),
        ("update_role", {"Description": "mine"}),
        ("delete_role", {}),
    ],
)
def test_a_service_linked_role_is_unmodifiable(aws: LocalAws, operation: str, params: dict[str, str]) -> None:
    before = aws.snapshot(HUB, "AWSServiceRoleForAutoScaling")
    call = getattr(client(aws), operation)
    code, status, message = refused(call, RoleName="AWSServiceRoleForAutoScaling", **params)
    assert (code, status) == ("UnmodifiableEntity", 400)
    assert "only modifiable by AWS" in message
    assert aws.snapshot(HUB, "AWSServiceRoleForAutoScaling") == before


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("create_policy_version", {"PolicyDocument": ODD}),
        ("set_default_policy_version", {"VersionId": "v1"}),
        ("delete_policy_version", {"VersionId": "v1"}),
        ("delete_policy", {}),
    ],
)
def test_aws_managed_policies_cannot_be_changed(aws: LocalAws, operation: str, params: dict[str, str]) -> None:
    arn = "arn:aws:iam::aws:policy/AdministratorAccess"
    assert refused(getattr(client(aws), operation), PolicyArn=arn, **params)[:2] == ("AccessDenied", 403)


def test_five_versions_are_kept_until_room_is_made(aws: LocalAws) -> None:
    iam = client(aws)
    arn = f"arn:aws:iam::{HUB}:policy/PartnerReportingAccess"
    assert [v["VersionId"] for v in iam.list_policy_versions(PolicyArn=arn)["Versions"]] == [
        "v7",
        "v6",
        "v5",
        "v4",
        "v3",
    ]
    assert refused(iam.create_policy_version, PolicyArn=arn, PolicyDocument=ODD)[:2] == ("LimitExceeded", 409)
    assert refused(iam.delete_policy_version, PolicyArn=arn, VersionId="v7")[:2] == ("DeleteConflict", 409)
    iam.delete_policy_version(PolicyArn=arn, VersionId="v3")
    made = iam.create_policy_version(PolicyArn=arn, PolicyDocument=ODD, SetAsDefault=True)["PolicyVersion"]
    assert (made["VersionId"], made["IsDefaultVersion"]) == ("v8", True)
    assert iam.get_policy(PolicyArn=arn)["Policy"]["UpdateDate"] == made["CreateDate"]
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v7")
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v7")
    assert aws.snapshot(HUB, "PartnerReporting")["attached"][arn]["default_version"] == "v7"
    assert refused(iam.delete_policy, PolicyArn=arn)[:2] == ("DeleteConflict", 409)


def test_a_shared_policy_says_who_shares_it_and_whom_it_bounds(aws: LocalAws) -> None:
    iam = client(aws)
    arn = f"arn:aws:iam::{HUB}:policy/data-platform/DataLakeAccess"
    head = iam.get_policy(PolicyArn=arn)["Policy"]
    assert (head["AttachmentCount"], head["PermissionsBoundaryUsageCount"]) == (4, 1)
    uses = {
        usage: [
            r["RoleName"] for r in iam.list_entities_for_policy(PolicyArn=arn, PolicyUsageFilter=usage)["PolicyRoles"]
        ]
        for usage in ("PermissionsPolicy", "PermissionsBoundary")
    }
    assert uses == {
        "PermissionsPolicy": ["DataLakeIngest", "EtlWorker", "GlueCrawler", "LakeExplorer"],
        "PermissionsBoundary": ["LakeExplorer"],
    }
    first = iam.list_entities_for_policy(PolicyArn=arn, MaxItems=3)
    assert first["IsTruncated"]
    rest = iam.list_entities_for_policy(PolicyArn=arn, MaxItems=3, Marker=first["Marker"])
    assert [r["RoleName"] for r in rest["PolicyRoles"]] == ["LakeExplorer"]


@pytest.mark.parametrize(
    "document",
    [
        "{",
        '{"Version":"2012-10-17"}',
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":[],"Resource":"*"}]}',
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s*:Get*","Resource":"*"}]}',
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"GetObject","Resource":"*"}]}',
    ],
)
def test_malformed_documents_are_refused(aws: LocalAws, document: str) -> None:
    iam = client(aws)
    answer = refused(iam.put_role_policy, RoleName="ApplicationRole", PolicyName="X", PolicyDocument=document)
    assert answer[:2] == ("MalformedPolicyDocument", 400)
    assert aws.snapshot(HUB, "ApplicationRole")["inline"] == {}


def test_characters_beyond_latin_1_are_refused(aws: LocalAws) -> None:
    iam = client(aws)
    text = ODD.replace("ü", "\u0416")
    answer = refused(iam.put_role_policy, RoleName="ApplicationRole", PolicyName="X", PolicyDocument=text)
    assert answer[:2] == ("ValidationError", 400)


def test_what_is_not_there_is_named(aws: LocalAws) -> None:
    iam = client(aws)
    assert refused(iam.get_role, RoleName="Nobody") == (
        "NoSuchEntity",
        404,
        "The role with name Nobody cannot be found.",
    )
    missing = f"arn:aws:iam::{HUB}:policy/Nothing"
    assert refused(iam.get_policy, PolicyArn=missing)[0] == "NoSuchEntity"
    params = {"RoleName": "ApplicationRole", "PolicyName": "Nothing"}
    assert refused(iam.delete_role_policy, **params)[0] == "NoSuchEntity"
    assert refused(iam.detach_role_policy, RoleName="ApplicationRole", PolicyArn=missing)[0] == "NoSuchEntity"


def test_an_operation_that_is_not_there_fails_loudly(aws: LocalAws) -> None:
    answer = refused(client(aws).simulate_custom_policy, PolicyInputList=["{}"], ActionNames=["s3:GetObject"])
    assert answer == ("InvalidAction", 400, "The local AWS does not have iam:SimulateCustomPolicy.")


# -------------------- the simulator


def decisions(aws: LocalAws, *actions: str, **more: Any) -> dict[str, str]:
    params = {"PolicySourceArn": f"arn:aws:iam::{HUB}:role/Simulated", "ActionNames": list(actions), **more}
    pages = client(aws).get_paginator("simulate_principal_policy").paginate(**params)
    return {r["EvalActionName"]: r["EvalDecision"] for page in pages for r in page["EvaluationResults"]}


def simulated(aws: LocalAws, *statements: dict[str, Any]) -> None:
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}
    made = client(aws)
    made.create_role(RoleName="Simulated", AssumeRolePolicyDocument=json.dumps(trust))
    text = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    made.put_role_policy(RoleName="Simulated", PolicyName="p", PolicyDocument=text)


def test_the_simulator_evaluates_what_the_role_has(aws: LocalAws) -> None:
    simulated(
        aws,
        {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"},
        {"Effect": "Deny", "Action": "s3:Delete?bject", "Resource": "*"},
        {"Effect": "Allow", "Action": "iam:Get*", "Resource": f"arn:aws:iam::{HUB}:role/mine-*"},
    )
    asked = ("s3:GetObject", "s3:DeleteObject", "iam:GetRole", "iam:PassRole")
    assert decisions(aws, *asked) == {
        "s3:GetObject": "allowed",
        "s3:DeleteObject": "explicitDeny",
        "iam:GetRole": "implicitDeny",  # "any resource" is more than the policy names
        "iam:PassRole": "implicitDeny",
    }
    assert decisions(aws, *asked, PaginationConfig={"PageSize": 1}) == decisions(aws, *asked)
    mine = [f"arn:aws:iam::{HUB}:role/mine-1"]
    assert decisions(aws, "iam:GetRole", ResourceArns=mine) == {"iam:GetRole": "allowed"}


def test_the_simulator_names_the_condition_keys_that_it_was_not_told(aws: LocalAws) -> None:
    condition = {"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}
    simulated(aws, {"Effect": "Allow", "Action": "sqs:*", "Resource": "*", "Condition": condition})
    role = f"arn:aws:iam::{HUB}:role/Simulated"
    answer = client(aws).simulate_principal_policy(PolicySourceArn=role, ActionNames=["sqs:SendMessage"])
    (result,) = answer["EvaluationResults"]
    assert (result["EvalDecision"], result["MissingContextValues"]) == ("implicitDeny", ["aws:RequestedRegion"])
    told = {"ContextKeyName": "aws:RequestedRegion", "ContextKeyType": "string", "ContextKeyValues": ["eu-west-1"]}
    assert decisions(aws, "sqs:SendMessage", ContextEntries=[told]) == {"sqs:SendMessage": "allowed"}


def test_the_simulator_tells_a_boundary_apart(aws: LocalAws) -> None:
    simulated(aws, {"Effect": "Allow", "Action": "*", "Resource": "*"})
    text = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})
    arn = client(aws).create_policy(PolicyName="Bound", PolicyDocument=text)["Policy"]["Arn"]
    client(aws).put_role_permissions_boundary(RoleName="Simulated", PermissionsBoundary=arn)
    role = f"arn:aws:iam::{HUB}:role/Simulated"
    answer = client(aws).simulate_principal_policy(
        PolicySourceArn=role, ActionNames=["s3:GetObject", "sqs:SendMessage"]
    )
    assert [
        (r["EvalDecision"], r["PermissionsBoundaryDecisionDetail"]["AllowedByPermissionsBoundary"])
        for r in answer["EvaluationResults"]
    ] == [("allowed", True), ("implicitDeny", False)]


def test_the_simulator_refuses_what_it_does_not_know(aws: LocalAws) -> None:
    simulate = client(aws).simulate_principal_policy
    missing = f"arn:aws:iam::{HUB}:role/Nobody"
    assert refused(simulate, PolicySourceArn=missing, ActionNames=["s3:GetObject"])[0] == "NoSuchEntity"
    assert (
        refused(simulate, PolicySourceArn="the role with this name", ActionNames=["s3:GetObject"])[0] == "InvalidInput"
    )
    there = f"arn:aws:iam::{HUB}:role/ApplicationRole"
    assert refused(simulate, PolicySourceArn=there, ActionNames=["GetObject"])[0] == "InvalidInput"


# -------------------- STS


def test_the_member_account_is_reached_with_the_external_id(aws: LocalAws) -> None:
    sts = client(aws, "sts")
    assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{HUB}:user/refine"
    got = sts.assume_role(
        RoleArn=MEMBER_ROLE,
        RoleSessionName="refine",
        ExternalId="refine-sandbox",
        SourceIdentity="U0ANN",
        DurationSeconds=900,
    )
    keys = got["Credentials"]
    session = {
        "endpoint_url": aws.url,
        "region_name": "us-east-1",
        "aws_access_key_id": keys["AccessKeyId"],
        "aws_secret_access_key": keys["SecretAccessKey"],
        "aws_session_token": keys["SessionToken"],
    }
    import boto3

    inside = boto3.client("sts", **session).get_caller_identity()
    assert inside["Arn"] == f"arn:aws:sts::{MEMBER}:assumed-role/RefineMember/refine"
    assert inside["Account"] == MEMBER
    names = {r["RoleName"] for r in boto3.client("iam", **session).list_roles()["Roles"]}
    assert names == {"EdgeTelemetry", "RefineMember", "WarehouseLoader"}


@pytest.mark.parametrize(
    "params",
    [
        {"RoleArn": MEMBER_ROLE},
        {"RoleArn": MEMBER_ROLE, "ExternalId": "wrong"},
        {"RoleArn": f"arn:aws:iam::{MEMBER}:role/NoSuchRole", "ExternalId": "refine-sandbox"},
        {"RoleArn": f"arn:aws:iam::{MEMBER}:role/wrong/path/RefineMember", "ExternalId": "refine-sandbox"},
        {"RoleArn": f"arn:aws:iam::{HUB}:role/ApplicationRole", "ExternalId": "acme-orders-2f9c"},
        {"RoleArn": f"arn:aws:iam::{HUB}:role/AWSServiceRoleForAutoScaling"},
        {"RoleArn": "arn:aws:iam::999988887777:role/Elsewhere"},
    ],
)
def test_assume_role_asks_the_trust_policy(aws: LocalAws, params: dict[str, str]) -> None:
    code, status, message = refused(client(aws, "sts").assume_role, RoleSessionName="refine", **params)
    assert (code, status) == ("AccessDenied", 403)
    assert message.endswith(f"not authorized to perform: sts:AssumeRole on resource: {params['RoleArn']}")


def test_a_source_identity_needs_a_permission_of_its_own(aws: LocalAws) -> None:
    aws.add_role(
        "Strict",
        {
            "createdDaysAgo": 1,
            "trust": {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Principal": {"AWS": HUB}, "Action": "sts:AssumeRole"}],
            },
        },
    )
    sts = client(aws, "sts")
    arn = f"arn:aws:iam::{HUB}:role/Strict"
    assert sts.assume_role(RoleArn=arn, RoleSessionName="refine")["AssumedRoleUser"]["Arn"].endswith("Strict/refine")
    answer = refused(sts.assume_role, RoleArn=arn, RoleSessionName="refine", SourceIdentity="U0ANN")
    assert "sts:SetSourceIdentity" in answer[2]
    long = refused(sts.assume_role, RoleArn=arn, RoleSessionName="refine", DurationSeconds=7200)
    assert long[0] == "ValidationError"


def test_a_deny_in_a_trust_policy_wins(aws: LocalAws) -> None:
    aws.add_role(
        "Closed",
        {
            "createdDaysAgo": 1,
            "trust": {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Principal": {"AWS": HUB}, "Action": "sts:*"},
                    {
                        "Effect": "Deny",
                        "Principal": "*",
                        "Action": "sts:AssumeRole",
                        "Condition": {"StringNotEquals": {"aws:PrincipalOrgID": "o-another"}},
                    },
                ],
            },
        },
    )
    call = client(aws, "sts").assume_role
    assert refused(call, RoleArn=f"arn:aws:iam::{HUB}:role/Closed", RoleSessionName="refine")[0] == "AccessDenied"


async def test_aiobotocore_walks_the_same_road(aws: LocalAws) -> None:
    session = get_session()
    options = {"aws_access_key_id": "AKIASANDBOX000000000", "aws_secret_access_key": "sandbox"}
    async with session.create_client("iam", "us-east-1", endpoint_url=aws.url, **options) as iam:
        arn = f"arn:aws:iam::{HUB}:policy/DynamoDBAccess"
        made = await iam.create_policy_version(PolicyArn=arn, PolicyDocument=ODD, SetAsDefault=True)
        assert made["PolicyVersion"]["VersionId"] == "v2"
        head = await iam.get_policy(PolicyArn=arn)
    assert head["Policy"]["DefaultVersionId"] == "v2"
    assert aws.snapshot(HUB, "ApplicationRole")["attached"][arn]["document_text"] == ODD
