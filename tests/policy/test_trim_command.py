"""`refine trim`, through its front door: files in, an answer out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.policy.data import ALL_OF_DYNAMODB, report

USED = {"dynamodb:DescribeTable", "dynamodb:DescribeKinesisStreamingDestination"}
NOW = "2026-01-31T00:00:00Z"


def refine(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bot", *args], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "DynamoDBAccess.json").write_text(json.dumps(ALL_OF_DYNAMODB))
    (tmp_path / "report.json").write_text(
        json.dumps(report(dynamodb=("Amazon DynamoDB", USED, {"dynamodb:CreateTable"})))
    )
    return tmp_path


def trim(folder: Path, *more: str) -> dict:
    done = refine(
        folder, "trim", "--policy", "DynamoDBAccess.json", "--last-accessed", "report.json", "--now", NOW,
        "--format", "json", *more,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_missions_example_in_strict_mode_keeps_exactly_the_two_used_actions(folder: Path) -> None:
    answer = trim(folder, "--mode", "strict")
    [policy] = answer["policies"]
    assert set(policy["document"]["Statement"][0]["Action"]) == USED
    assert policy["outcome"] == "trimmed"
    assert policy["from"] == "DynamoDBAccess"
    assert answer["totals"]["kept"] == 2
    assert answer["proof"] == {"no_new_access": True, "nothing_used_lost": True}


def test_safe_mode_keeps_what_iam_does_not_track_and_says_so(folder: Path) -> None:
    answer = trim(folder)
    actions = {a["action"]: a for a in answer["actions"]}
    assert actions["dynamodb:CreateTable"]["kept"] is False
    assert actions["dynamodb:CreateTable"]["verdict"] == "unused"
    hidden = actions["dynamodb:GetItem"]
    assert hidden["kept"] is True
    assert hidden["verdict"] in {"untracked", "invisible"}
    assert "Safe mode keeps it." in hidden["reason"]
    assert "dynamodb:GetItem" in answer["policies"][0]["document"]["Statement"][0]["Action"]


def test_the_same_files_give_the_same_bytes(folder: Path) -> None:
    args = ("trim", "--policy", "DynamoDBAccess.json", "--last-accessed", "report.json", "--now", NOW, "--format")
    for form in ("text", "json", "diff"):
        first, second = refine(folder, *args, form), refine(folder, *args, form)
        assert first.stdout == second.stdout != ""


def test_a_diff_shows_what_goes_and_what_comes(folder: Path) -> None:
    done = refine(
        folder, "trim", "--policy", "DynamoDBAccess.json", "--last-accessed", "report.json", "--now", NOW,
        "--mode", "strict", "--format", "diff",
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert [x.strip(' -",') for x in lines if x.startswith("-  ")] == ['Action": "dynamodb:*']
    added = {x.strip(' +",') for x in lines if x.startswith("+  ")}
    assert added - {'Action": [', "]"} == USED


BAD = {
    "not JSON": ("{", "line 1, column 2"),
    "no statement": ('{"Version": "2012-10-17"}', "no Statement at $."),
    "a key twice": ('{"Version":"2012-10-17","Version":"2012-10-17","Statement":[]}', "'Version' twice"),
    "a trust policy": (
        '{"Statement": {"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}}',
        "Principal at $.Statement",
    ),
    "an action that is none": (
        '{"Statement": [{"Effect":"Allow","Action":["s3:GetObject","nonsense"],"Resource":"*"}]}',
        "$.Statement[0].Action[1]",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_policy_is_told_with_its_place_and_nothing_is_printed(folder: Path, name: str) -> None:
    text, where = BAD[name]
    (folder / "DynamoDBAccess.json").write_text(text)
    done = refine(folder, "trim", "--policy", "DynamoDBAccess.json", "--last-accessed", "report.json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "DynamoDBAccess.json" in done.stderr
    assert where in done.stderr
    assert "Traceback" not in done.stderr


REPORTS = {
    "running": ({"JobStatus": "IN_PROGRESS"}, "still making"),
    "failed": ({"JobStatus": "FAILED", "Error": {"Code": "X", "Message": "boom"}}, "could not make"),
    "cut": ({**report(), "IsTruncated": True}, "more pages"),
    "at service level": ({**report(), "JobType": "SERVICE_LEVEL"}, "ACTION_LEVEL"),
    "something else": ({"hello": 1}, "no JobStatus"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_that_proves_nothing_is_refused(folder: Path, name: str) -> None:
    body, why = REPORTS[name]
    (folder / "report.json").write_text(json.dumps(body))
    done = refine(folder, "trim", "--policy", "DynamoDBAccess.json", "--last-accessed", "report.json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert why in done.stderr


def test_account_details_are_read_as_the_cli_writes_them(folder: Path) -> None:
    role = "arn:aws:iam::111122223333:role/app/ApplicationRole"
    arn = "arn:aws:iam::111122223333:policy/DynamoDBAccess"
    details = {
        "RoleDetailList": [
            {
                "RoleName": "ApplicationRole", "Arn": role, "CreateDate": "2024-01-01T00:00:00+00:00",
                "AttachedManagedPolicies": [{"PolicyName": "DynamoDBAccess", "PolicyArn": arn}],
                "RolePolicyList": [{"PolicyName": "Extra", "PolicyDocument": ALL_OF_DYNAMODB}],
            }
        ],
        "Policies": [
            {
                "Arn": arn, "PolicyName": "DynamoDBAccess", "AttachmentCount": 2,
                "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": True, "Document": ALL_OF_DYNAMODB}],
            }
        ],
    }  # fmt: skip
    (folder / "details.json").write_text(json.dumps(details))
    done = refine(
        folder, "trim", "--account-details", "details.json", "--role", "ApplicationRole",
        "--last-accessed", "report.json", "--now", NOW, "--mode", "strict", "--format", "json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    policies = json.loads(done.stdout)["policies"]
    # A policy that others use too is never changed: a copy is made for this role.
    assert {p["name"]: p["from"] for p in policies} == {
        "Refine-ApplicationRole-DynamoDBAccess": "DynamoDBAccess",
        "Extra": "Extra",
    }


def test_explain_tells_of_one_action(folder: Path) -> None:
    args = ("--policy", "DynamoDBAccess.json", "--last-accessed", "report.json", "--now", NOW)
    done = refine(folder, "explain", *args, "dynamodb:createtable")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("dynamodb:CreateTable: unused, dropped. IAM tracks it")
    assert refine(folder, "explain", *args, "s3:GetObject").returncode == 1
