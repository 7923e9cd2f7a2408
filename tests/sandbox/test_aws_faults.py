"""What goes wrong on purpose goes wrong as set, and only that; the log tells every call; a reset forgets it all."""

from __future__ import annotations

import json
import threading
import time
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from sandbox.aws import HUB, MEMBER, LocalAws, start
from tests.sandbox.test_aws_iam import ODD, client, refused

POLICY = f"arn:aws:iam::{HUB}:policy/DynamoDBAccess"
ORG = f"arn:aws:access-analyzer:us-east-1:{HUB}:analyzer/refine-org"


def versions(aws: LocalAws) -> list[str]:
    return list(aws.snapshot(HUB, "ApplicationRole")["attached"][POLICY]["versions"])


def new_version(aws: LocalAws, **config: Any) -> Any:
    return client(aws, **config).create_policy_version(PolicyArn=POLICY, PolicyDocument=ODD, SetAsDefault=True)


def control(aws: LocalAws, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{aws.url}/_sandbox/{path}", data, {"Content-Type": "application/json"}, method=method)
    with urlopen(request, timeout=5) as answer:
        return json.load(answer)


def refusal(aws: LocalAws, path: str, body: Any) -> str:
    """Return what a control request that must be refused is told."""
    with pytest.raises(HTTPError) as caught:
        control(aws, "POST", path, body)
    with caught.value:
        assert caught.value.code == 400
        return json.load(caught.value)["error"]


def test_a_throttled_write_has_no_effect(aws: LocalAws) -> None:
    aws.fault(operation="CreatePolicyVersion", kind="throttle", times=1)
    assert refused(lambda: new_version(aws)) == ("Throttling", 400, "Rate exceeded")
    assert versions(aws) == ["v1"]
    new_version(aws)
    assert versions(aws) == ["v1", "v2"]


def test_a_write_is_refused_with_the_code_that_was_asked_for(aws: LocalAws) -> None:
    aws.fault(operation="CreatePolicyVersion", kind="refused", code="EntityTemporarilyUnmodifiable", times=1)
    assert refused(lambda: new_version(aws))[:2] == ("EntityTemporarilyUnmodifiable", 409)
    assert versions(aws) == ["v1"]
    with pytest.raises(ValueError, match="with the code of an error"):
        aws.fault(kind="refused")
    with pytest.raises(ValueError, match="with the code of an error"):
        aws.fault(kind="denied", code="LimitExceeded")


def test_botocore_knows_a_throttle_and_tries_again(aws: LocalAws) -> None:
    aws.fault(operation="CreatePolicyVersion", kind="throttle", times=2)
    new_version(aws, retries={"total_max_attempts": 3, "mode": "standard"})
    assert versions(aws) == ["v1", "v2"]
    outcomes = [c["outcome"] for c in aws.calls(operation="CreatePolicyVersion")]
    assert outcomes == ["Throttling", "Throttling", "ok"]


def test_an_error_before_has_no_effect_and_an_error_after_has_it(aws: LocalAws) -> None:
    aws.fault(operation="CreatePolicyVersion", kind="error_before", times=1)
    assert refused(lambda: new_version(aws))[:2] == ("ServiceFailure", 500)
    assert versions(aws) == ["v1"]
    aws.fault(operation="CreatePolicyVersion", kind="error_after", times=1)
    assert refused(lambda: new_version(aws))[:2] == ("ServiceFailure", 500)
    assert versions(aws) == ["v1", "v2"]


def test_a_lost_reply_has_its_effect(aws: LocalAws) -> None:
    aws.fault(operation="CreatePolicyVersion", kind="lost_reply", times=1)
    with pytest.raises(ConnectionClosedError):
        new_version(aws)
    assert versions(aws) == ["v1", "v2"]
    (call,) = aws.calls(operation="CreatePolicyVersion")
    assert (call["outcome"], call["faults"]) == ("lost_reply", ["lost_reply"])


def test_latency_delays_one_operation_and_blocks_no_other(aws: LocalAws) -> None:
    aws.fault(operation="GetRole", kind="latency", seconds=1.5)
    iam = client(aws)
    spent: list[float] = []

    def slow() -> None:
        began = time.monotonic()
        client(aws).get_role(RoleName="ApplicationRole")
        spent.append(time.monotonic() - began)

    thread = threading.Thread(target=slow)
    thread.start()
    iam.list_role_policies(RoleName="ApplicationRole")
    assert not spent  # it answered while the other still waited
    thread.join()
    assert spent[0] >= 1.5


def test_a_rate_hits_about_its_share(aws: LocalAws) -> None:
    aws.fault(kind="throttle", rate=0.3)
    iam, outcomes = client(aws), []
    for _ in range(100):
        try:
            iam.list_role_policies(RoleName="ApplicationRole")
            outcomes.append(True)
        except ClientError:
            outcomes.append(False)
    assert 10 <= outcomes.count(False) <= 50


def test_reads_lag_behind_writes_for_as_long_as_set(aws: LocalAws) -> None:
    aws.fault(kind="lag", seconds=0.7)
    iam = client(aws)
    new_version(aws)
    wrote = time.monotonic()
    head = iam.get_policy(PolicyArn=POLICY)["Policy"]
    if time.monotonic() - wrote < 0.6:
        assert head["DefaultVersionId"] == "v1"
        assert refused(iam.get_policy_version, PolicyArn=POLICY, VersionId="v2")[0] == "NoSuchEntity"
    assert versions(aws) == ["v1", "v2"]  # the truth
    deadline = wrote + 5
    while iam.get_policy(PolicyArn=POLICY)["Policy"]["DefaultVersionId"] != "v2":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert time.monotonic() - wrote >= 0.6


def test_writes_do_not_lag(aws: LocalAws) -> None:
    aws.fault(kind="lag", seconds=60)
    iam = client(aws)
    new_version(aws)
    new_version(aws)
    iam.delete_policy_version(PolicyArn=POLICY, VersionId="v1")
    assert versions(aws) == ["v2", "v3"]
    assert [v["VersionId"] for v in iam.list_policy_versions(PolicyArn=POLICY)["Versions"]] == ["v1"]
    aws.clear_faults()
    assert [v["VersionId"] for v in iam.list_policy_versions(PolicyArn=POLICY)["Versions"]] == ["v3", "v2"]


def test_a_fault_hits_its_service_alone(aws: LocalAws) -> None:
    aws.fault(service="accessanalyzer", kind="throttle")
    aws.fault(service="sts", operation="AssumeRole", kind="error_before")
    client(aws).get_role(RoleName="ApplicationRole")
    client(aws, "sts").get_caller_identity()
    api = client(aws, "accessanalyzer")
    assert refused(api.list_findings_v2, analyzerArn=ORG)[:2] == ("ThrottlingException", 429)
    call = client(aws, "sts").assume_role
    assert refused(call, RoleArn=f"arn:aws:iam::{MEMBER}:role/RefineMember", RoleSessionName="refine")[1] == 500


def test_access_analyzers_server_error_is_modelled(aws: LocalAws) -> None:
    aws.fault(service="accessanalyzer", operation="ListAnalyzers", kind="error_before", times=1)
    api = client(aws, "accessanalyzer")
    with pytest.raises(api.exceptions.InternalServerException):
        api.list_analyzers()
    assert api.list_analyzers()["analyzers"]


def test_faults_are_set_and_cleared_over_http(aws: LocalAws) -> None:
    rules = [
        {"service": "iam", "operation": "GetRole", "kind": "throttle", "times": 1},
        {"service": "iam", "operation": "*", "kind": "latency", "seconds": 0.01},
    ]
    assert control(aws, "POST", "faults", rules) == {"ok": True}
    assert [r["kind"] for r in control(aws, "GET", "faults")] == ["throttle", "latency"]
    assert refused(client(aws).get_role, RoleName="ApplicationRole")[0] == "Throttling"
    assert [r["kind"] for r in control(aws, "GET", "faults")] == ["latency"]
    control(aws, "DELETE", "faults")
    assert control(aws, "GET", "faults") == []


@pytest.mark.parametrize("rule", [{"kind": "explode"}, {"kind": "throttle", "rate": 2}, {"kind": "lag", "colour": 1}])
def test_a_wrong_fault_is_refused(aws: LocalAws, rule: dict[str, Any]) -> None:
    assert refusal(aws, "faults", rule)
    assert control(aws, "GET", "faults") == []


def test_the_log_tells_every_call_with_its_outcome(aws: LocalAws) -> None:
    iam = client(aws)
    iam.get_role(RoleName="ApplicationRole")
    refused(iam.get_role, RoleName="Nobody")
    new_version(aws)
    log = [(c["service"], c["operation"], c["outcome"]) for c in aws.calls()]
    assert log == [("iam", "GetRole", "ok"), ("iam", "GetRole", "NoSuchEntity"), ("iam", "CreatePolicyVersion", "ok")]
    over_http = control(aws, "GET", "calls?service=iam&operation=CreatePolicyVersion")
    assert [c["params"]["PolicyArn"] for c in over_http] == [POLICY]
    assert (over_http[0]["account"], over_http[0]["faults"]) == (HUB, [])
    control(aws, "DELETE", "calls")
    assert aws.calls() == []


def test_a_reset_brings_the_world_back(aws: LocalAws) -> None:
    before = aws.snapshot(HUB, "ApplicationRole")
    role_id = client(aws).get_role(RoleName="ApplicationRole")["Role"]["RoleId"]
    new_version(aws)
    client(aws).detach_role_policy(RoleName="ApplicationRole", PolicyArn=POLICY)
    aws.fault(kind="throttle")
    control(aws, "POST", "reset")
    assert aws.snapshot(HUB, "ApplicationRole") == before
    assert control(aws, "GET", f"snapshot?account={HUB}&role=ApplicationRole") == before
    assert aws.calls() == []
    assert client(aws).get_role(RoleName="ApplicationRole")["Role"]["RoleId"] == role_id


def test_an_empty_world_is_empty(aws: LocalAws) -> None:
    aws.reset(world=False)
    assert client(aws).list_roles()["Roles"] == []
    assert client(aws, "accessanalyzer").list_findings_v2(analyzerArn=ORG)["findings"] == []


def test_a_role_made_anew_has_another_id(aws: LocalAws) -> None:
    iam = client(aws)
    old = iam.get_role(RoleName="ApplicationRole")["Role"]
    iam.detach_role_policy(RoleName="ApplicationRole", PolicyArn=POLICY)
    iam.delete_role(RoleName="ApplicationRole")
    trust = json.dumps(old["AssumeRolePolicyDocument"])
    iam.create_role(RoleName="ApplicationRole", AssumeRolePolicyDocument=trust)
    new = iam.get_role(RoleName="ApplicationRole")["Role"]
    assert new["Arn"] == old["Arn"]
    assert new["RoleId"] != old["RoleId"]


def test_roles_and_use_are_added_while_it_runs(aws: LocalAws) -> None:
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}
    data = {"createdDaysAgo": 5, "trust": trust, "attached": ["DynamoDBAccess"], "account": HUB}
    control(aws, "POST", "roles", {"Newcomer": data})
    control(aws, "POST", "use", {"role_name": "Newcomer", "action": "dynamodb:ListTables", "days_ago": 2})
    role = client(aws).get_role(RoleName="Newcomer")["Role"]
    assert role["RoleLastUsed"]["Region"] == "us-east-1"
    assert client(aws).get_policy(PolicyArn=POLICY)["Policy"]["AttachmentCount"] == 2
    assert "colour" in refusal(aws, "roles", {"Other": {**data, "colour": "red"}})
    assert "Nobody" in refusal(aws, "use", {"role_name": "Nobody", "action": "s3:GetObject"})


def test_two_local_clouds_do_not_meet(aws: LocalAws) -> None:
    other = start(world=False)
    try:
        assert client(other).list_roles()["Roles"] == []
        assert client(aws).list_roles()["Roles"]
    finally:
        other.stop()


def test_it_starts_in_less_than_three_seconds() -> None:
    began = time.monotonic()
    start().stop()
    assert time.monotonic() - began < 3


def test_a_thousand_roles_are_listed_in_reasonable_time(aws: LocalAws) -> None:
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}
    for i in range(1000):
        aws.add_role(f"R{i}", {"createdDaysAgo": 5, "trust": trust})
    pages = client(aws, "accessanalyzer").get_paginator("list_findings_v2").paginate(analyzerArn=ORG)
    began = time.monotonic()
    assert sum(len(p["findings"]) for p in pages) == 1021
    assert time.monotonic() - began < 5
