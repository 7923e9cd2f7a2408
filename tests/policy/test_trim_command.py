"""`refine trim`, through its front door: files in, an answer out."""

import functools
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from bot.__main__ import refine as command
from bot.model import Verdict
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
    "a key twice": (
        '{"Version":"2012-10-17",\n "Version":"2012-10-17","Statement":[]}',
        "'Version' twice in one object at line 2, column 2",
    ),
    "a key twice, deep down": (
        '{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"a":"1","\\u0061":"2"}}}]}',
        "'a' twice in one object at line 1, column 90",
    ),
    "a comment": (
        '{"Version":"2012-10-17",\n  // read only\n  "Statement":[]}',
        "line 2, column 3. JSON has no comments",
    ),
    "a comma too many": ('{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},]}', "The comma before it"),
    "a number that is none": ('{"Statement": [],\n"Version": NaN}', "at line 2, column 12"),
    "a number too big": ('{"Statement": [],\n"Version": 1e999}', "at line 2, column 12"),
    "nothing": ("", "line 1, column 1"),
    "a list": ("[]", "its $ is not a JSON object"),
    "too deep": ("[" * 5000, "nested too deeply"),
    "not UTF-8": (b'{"Version": "\xff"}', "not UTF-8"),
    "half a UTF-16": (b"\xff\xfe{", "not UTF-8"),
    "an element that would act on the terminal": (
        '{"\\u001b[2J\\u202e": 1}',
        "unknown element at $.\\u001b[2J\\u202e.",
    ),
    "a resource that is none": ('{"Statement":{"Effect":"Allow","Action":"*","Resource":[1]}}', "$.Statement.Resource"),
    "no resource": ('{"Statement":{"Effect":"Allow","Action":"*"}}', "Resource or NotResource"),
    "an effect that is none": ('{"Statement":[{"Effect":"allow","Action":"*","Resource":"*"}]}', "$.Statement[0]"),
    "an empty list of actions": ('{"Statement":{"Effect":"Allow","Action":[],"Resource":"*"}}', "$.Statement.Action"),
    "an element that is none": ('{"Statement":{"Effect":"Allow","Actoin":"*","Resource":"*"}}', "$.Statement.Actoin"),
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
    (folder / "DynamoDBAccess.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    done = refine(folder, "trim", "--policy", "DynamoDBAccess.json", "--last-accessed", "report.json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "DynamoDBAccess.json" in done.stderr
    assert where in done.stderr
    assert "Traceback" not in done.stderr


REPORTS = {
    "running": ({"JobStatus": "IN_PROGRESS"}, "still making"),
    "failed": ({"JobStatus": "FAILED", "Error": {"Code": "X", "Message": "boom"}}, "could not make"),
    "in a state nobody knows": ({**report(), "JobStatus": "DONE"}, "no JobStatus of COMPLETED"),
    "cut": ({**report(), "IsTruncated": True}, "more pages"),
    "a first page": ({**report(), "Marker": "next"}, "more pages"),
    "cut by the CLI": ({**report(), "NextToken": "next"}, "more pages"),
    "cut, in words": ({**report(), "IsTruncated": "true"}, "more pages"),
    "at service level": ({**report(), "JobType": "SERVICE_LEVEL"}, "ACTION_LEVEL"),
    "at no level": (
        {k: v for k, v in report(s3=("Amazon S3", (), ())).items() if k != "JobType"},
        "not made at action level",
    ),
    "without services": ({k: v for k, v in report().items() if k != "ServicesLastAccessed"}, "no ServicesLastAccessed"),
    "no services": ({**report(), "ServicesLastAccessed": None}, "without --query"),
    "of a group": (
        {
            **report(),
            "ServicesLastAccessed": [
                {"ServiceNamespace": n, "LastAuthenticatedEntity": f"arn:aws:iam::111122223333:user/{n}"}
                for n in ("s3", "sqs")
            ],
        },
        "tells of several principals",
    ),
    "something else": ({"hello": 1}, "no JobStatus"),
    "a service without a name": (
        {**report(), "ServicesLastAccessed": [{}]},
        "$.ServicesLastAccessed[0].ServiceNamespace",
    ),
    "a service that is none": ({**report(), "ServicesLastAccessed": [5]}, "$.ServicesLastAccessed[0] that is not"),
    "services that are none": ({**report(), "ServicesLastAccessed": 5}, "$.ServicesLastAccessed that is not a list"),
    "an action that is none": (
        {
            **report(),
            "ServicesLastAccessed": [{"ServiceNamespace": "s3", "TrackedActionsLastAccessed": [{"ActionName": "*"}]}],
        },
        "$.ServicesLastAccessed[0].TrackedActionsLastAccessed[0].ActionName",
    ),
    "a time that is none": (
        {**report(), "ServicesLastAccessed": [{"ServiceNamespace": "s3", "LastAuthenticated": "soon"}]},
        "$.ServicesLastAccessed[0].LastAuthenticated holds 'soon'",
    ),
    "a time before all others": ({**report(), "JobCompletionDate": "0001-01-01T00:00:00+14:00"}, "holds '0001-01-01T"),
    "a time after all others": ({**report(), "JobCompletionDate": "9999-12-31T23:59:59-12:00"}, "holds '9999-12-31T"),
    "a time before IAM": ({**report(), "JobCompletionDate": "0001-01-01T00:00:00Z"}, "no time of IAM's. It is like 20"),
    "milliseconds": ({**report(), "JobCompletionDate": 1769814000000}, "holds '1769814000000'"),
    "more seconds than there are": ({**report(), "JobCompletionDate": 1e300}, "holds '1e+300'"),
    "a time before IAM in a service": (
        {**report(), "ServicesLastAccessed": [{"ServiceNamespace": "s3", "LastAuthenticated": -1e10}]},
        "$.ServicesLastAccessed[0].LastAuthenticated holds '-10000000000.0'",
    ),
    "a Region that would act on the terminal": (
        {**report(), "ServicesLastAccessed": [{"ServiceNamespace": "s3", "LastAuthenticatedRegion": "\x1b[2J"}]},
        "$.ServicesLastAccessed[0].LastAuthenticatedRegion that is not a text",
    ),
    "no time at all": ({**report(), "JobCompletionDate": None}, "no JobCompletionDate"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_that_proves_nothing_is_refused(folder: Path, name: str) -> None:
    body, why = REPORTS[name]
    (folder / "report.json").write_text(json.dumps(body))
    done = refine(folder, "trim", "--policy", "DynamoDBAccess.json", "--last-accessed", "report.json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert why in done.stderr


ROLE = "arn:aws:iam::111122223333:role/app/ApplicationRole"


def details(role: str = ROLE) -> dict[str, Any]:
    """Return what get-account-authorization-details prints of a role with a shared managed and an inline policy."""
    arn = "arn:aws:iam::111122223333:policy/DynamoDBAccess"
    return {
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


def trim_details(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return refine(
        folder, "trim", "--account-details", "details.json", "--role", "ApplicationRole",
        "--last-accessed", "report.json", "--now", NOW, *more,
    )  # fmt: skip


def test_account_details_are_read_as_the_cli_writes_them(folder: Path) -> None:
    (folder / "details.json").write_text(json.dumps(details()))
    done = trim_details(folder, "--mode", "strict", "--format", "json")
    assert done.returncode == 0, done.stderr
    policies = json.loads(done.stdout)["policies"]
    # A policy that others use too is never changed: a copy is made for this role.
    assert {p["name"]: p["from"] for p in policies} == {
        "Refine-ApplicationRole-DynamoDBAccess": "DynamoDBAccess",
        "Extra": "Extra",
    }


@pytest.mark.parametrize(
    "deep", ["[" * 200_000, '{"a":' * 200_000, '{"ServicesLastAccessed":' + "[" * 90 + "]" * 90 + "}"]
)
def test_a_report_nested_too_deeply_is_refused(folder: Path, deep: str) -> None:
    (folder / "report.json").write_text(deep)
    done = refine(folder, "trim", "--policy", "DynamoDBAccess.json", "--last-accessed", "report.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "refine: report.json is nested too deeply.\n"


@pytest.mark.parametrize(
    ("who", "where", "taken"),
    [
        ("arn:aws:iam::111122223333:role/app/ApplicationRole", "LastAuthenticatedEntity", True),
        ("arn:aws:sts::111122223333:assumed-role/ApplicationRole/session", "LastAuthenticatedEntity", True),
        ("arn:aws:sts::111122223333:assumed-role/OtherRole/ApplicationRole", "LastAuthenticatedEntity", False),
        ("arn:aws:iam::111122223333:user/ApplicationRole", "LastAuthenticatedEntity", False),
        ("arn:aws:iam::111122223333:root", "LastAuthenticatedEntity", False),
        ("arn:aws:iam::111122223333:role/OtherRole", "LastAuthenticatedEntity", False),
        ("arn:aws:iam::999999999999:role/app/ApplicationRole", "LastAuthenticatedEntity", False),
        ("arn:aws:iam::111122223333:role/OtherRole", "LastAccessedEntity", False),
        ("nonsense", "LastAuthenticatedEntity", False),
    ],
)
def test_the_report_of_another_role_is_refused(folder: Path, who: str, where: str, taken: bool) -> None:
    """It would call unused what this role uses."""
    body = report(dynamodb=("Amazon DynamoDB", USED, ()))
    service = body["ServicesLastAccessed"][0]
    (service if where == "LastAuthenticatedEntity" else service["TrackedActionsLastAccessed"][0])[where] = who
    (folder / "report.json").write_text(json.dumps(body))
    (folder / "details.json").write_text(json.dumps(details()))
    done = trim_details(folder)
    assert (done.returncode, done.stdout != "") == ((0, True) if taken else (2, False)), done.stderr
    assert taken or f"tells of another principal than {ROLE}. Make it with --arn" in done.stderr


def test_explain_tells_of_one_action(folder: Path) -> None:
    args = ("--policy", "DynamoDBAccess.json", "--last-accessed", "report.json", "--now", NOW)
    done = refine(folder, "explain", *args, "dynamodb:createtable")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("dynamodb:CreateTable: unused, dropped. IAM tracks it")
    assert "Granted by DynamoDBAccess, statement 1, as dynamodb:*." in done.stdout
    assert "To keep it: --keep dynamodb:CreateTable." in done.stdout
    strange = refine(folder, "explain", *args, "s3:GetObject")
    assert (strange.returncode, strange.stdout) == (1, "")
    several = refine(folder, "explain", *args, "dynamodb:*Backup")
    assert several.stdout.count("Access level:") > 3


def test_explain_tells_of_an_action_that_the_catalogue_does_not_know(folder: Path) -> None:
    done = refine(folder, "explain", *ARGS, "dynamodb:BrandNew")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "dynamodb:BrandNew is not in the catalogue, so its use is not judged: DynamoDBAccess grants it (statement 1, "
        "dynamodb:*); the proposal no longer would. To keep it: --keep dynamodb:BrandNew.\n"
    )
    kept = refine(folder, "explain", *ARGS, "--keep", "dynamodb:BrandNew", "dynamodb:BrandNew")
    assert kept.stdout.startswith("dynamodb:BrandNew: protected, kept.")
    for strange in ("s3:BrandNew", "dynamodb", "dynamodb:", "*"):
        done = refine(folder, "explain", *ARGS, strange)
        assert (done.returncode, done.stdout) == (1, ""), strange
        assert "is not granted" in done.stderr


ARGS = ("--policy", "DynamoDBAccess.json", "--last-accessed", "report.json", "--now", NOW)
WRONG = {
    "no days": (("trim", *ARGS, "--window", "-5"), "'--window'"),
    "an unknown mode": (("trim", *ARGS, "--mode", "bold"), "'--mode'"),
    "a time of no use": (("trim", *ARGS[:4], "--now", "0001-01-01"), "--now holds '0001-01-01', which is no time of"),
    "half a pattern": (("trim", *ARGS, "--keep", "s3:"), "--keep s3: is not an action pattern."),
    "a pattern of three": (("trim", *ARGS, "--keep", "s3:Get:x"), "--keep s3:Get:x is not an action pattern."),
    "a file twice": (("trim", *ARGS, "--policy", "Other=DynamoDBAccess.json"), "DynamoDBAccess.json is given twice."),
    "standard input twice": (("trim", "--policy", "-", "--last-accessed", "-"), "Standard input is given twice."),
    "a name that is none": (("trim", *ARGS[2:], "--policy", "=DynamoDBAccess.json"), "Name it: NAME=FILE."),
    "a name that acts": (("trim", *ARGS[2:], "--policy", "\x1b[2J=DynamoDBAccess.json"), "Name it: NAME=FILE."),
    "a file that acts": (("trim", *ARGS, "--inline-policy", "A=\x1b[2J.json"), "\\u001b[2J.json cannot be read"),
    "a folder": (("trim", *ARGS, "--inline-policy", "A=."), ". cannot be read: Is a directory."),
    "a role without details": (("trim", *ARGS, "--role", "R"), "--role goes with --account-details."),
    "no policy": (("trim", "--last-accessed", "report.json"), "No policy was given."),
    "no such file": (("trim", "--policy", "no.json", "--last-accessed", "report.json"), "no.json cannot be read"),
    "no time": (("trim", *ARGS[:4], "--now", "yesterday"), "--now holds 'yesterday'"),
    "no pattern": (("trim", *ARGS, "--keep", "GetObject"), "--keep GetObject is not an action pattern."),
    "no code": (("trim", *ARGS, "--refuse", "too_hot"), "--refuse too_hot is no warning there is. There are role_too"),
    "a refusal": (("trim", *ARGS[:4], "--now", "2026-03-01T00:00:00Z", "--refuse", "report_too_old"), "hours old"),
    "one name twice": (("trim", *ARGS, "--policy", "./DynamoDBAccess.json"), "Two policies are called DynamoDBAccess."),
    "details without a role": (
        ("trim", "--account-details", "x.json", "--last-accessed", "report.json"),
        "needs --role",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_ends_with_status_2_and_says_what_to_do(folder: Path, name: str) -> None:
    args, why = WRONG[name]
    done = refine(folder, *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr


DETAILS = {
    "no details": ("{}", "no $.RoleDetailList"),
    "a list": ("[]", "its $ is not an object"),
    "a role that is none": ('{"RoleDetailList": [5]}', "its $.RoleDetailList[0] is not an object"),
    "roles that are none": ('{"RoleDetailList": {"RoleName": "R"}}', "its $.RoleDetailList is not a list"),
    "another role": ('{"RoleDetailList": []}', "holds no role called R"),
    "half a role": ('{"RoleDetailList": [{"RoleName": "R", "AttachedManagedPolicies": [{}]}]}', "$.RoleDetailList[0]"),
    "a policy left out": (
        '{"RoleDetailList": [{"RoleName": "R", "AttachedManagedPolicies": [{"PolicyName": "P", "PolicyArn": "arn"}]}]}',
        "does not hold arn",
    ),
    "no policies": ('{"RoleDetailList": [{"RoleName": "R"}]}', "nothing to trim"),
}


@pytest.mark.parametrize("name", DETAILS)
def test_account_details_that_are_none_are_told(folder: Path, name: str) -> None:
    text, why = DETAILS[name]
    (folder / "details.json").write_text(text)
    done = refine(
        folder, "trim", "--account-details", "details.json", "--role", "R", "--last-accessed", "report.json"
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
    assert "Traceback" not in done.stderr


ODD: tuple[Any, ...] = (None, True, -1, 1.5, 10**400, "", "\x1b[2J", [], [5], {}, {"a": 5})


TOLD = ("$.", "does not hold", "holds no role", "nothing to trim", "a number that JSON does not have")


def test_account_details_with_odd_values_are_told_by_their_path(folder: Path) -> None:
    """Every value of the details in turn becomes every odd one: an answer, or one sentence with the path."""
    places: list[tuple[str, ...]] = []

    def walk(tree: Any, path: tuple[Any, ...]) -> None:
        places.append(path)
        for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
            if key != "Document" and key != "PolicyDocument":
                walk(tree[key], (*path, key))

    walk(details(), ())
    told = 0
    for path in places[1:]:
        for odd in ODD:
            tree = details()
            *above, last = path
            functools.reduce(lambda t, k: t[k], above, tree)[last] = odd
            (folder / "details.json").write_text(json.dumps(tree))
            done = CliRunner().invoke(
                command,
                ["trim", "--account-details", str(folder / "details.json"), "--role", "ApplicationRole",
                 "--last-accessed", str(folder / "report.json"), "--now", NOW],
            )  # fmt: skip
            assert done.exit_code in {0, 2}, (path, odd, done.exception)
            assert "\x1b" not in done.output
            if done.exit_code == 2:
                told += 1
                assert done.stdout == ""
                assert len(done.stderr.splitlines()) == 1
                assert any(word in done.stderr for word in TOLD), (path, odd, done.stderr)
    assert told > 80


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
def test_files_that_windows_wrote_are_read(folder: Path, encoding: str) -> None:
    for file in folder.iterdir():
        text = file.read_text()
        file.write_bytes(("\ufeff" + text).encode(encoding))
    for form in ("text", "json", "diff"):
        done = refine(folder, "trim", *ARGS, "--mode", "strict", "--format", form)
        assert done.returncode == 0, done.stderr
        assert "DescribeTable" in done.stdout
        assert "\ufeff" not in done.stdout


def test_nothing_of_a_file_acts_on_the_terminal(folder: Path) -> None:
    """Every string of a policy that may hold anything holds escape sequences, C0, C1 and a bidirectional mark."""
    acts = "\x1b[2J\x07\x9b2J\x7f\u202e\x85"
    body = {"Version": "2012-10-17", "Id": acts, "Statement": [
        {"Sid": acts, "Effect": "Allow", "Action": "dynamodb:*", "Resource": f"arn:aws:dynamodb:*:*:table/{acts}",
         "Condition": {"StringEquals": {f"aws:{acts}": acts}}}]}  # fmt: skip
    (folder / "DynamoDBAccess.json").write_text(json.dumps(body, ensure_ascii=False))
    for form in ("text", "json", "diff"):
        done = refine(folder, "trim", *ARGS, "--mode", "strict", "--format", form)
        assert done.returncode == 0, done.stderr
        assert {c for c in done.stdout if not c.isprintable()} == {"\n"}
        if form == "json":
            [policy] = json.loads(done.stdout)["policies"]
            assert policy["document"]["Statement"][0]["Sid"] == acts
    done = refine(folder, "explain", *ARGS, "s3:\x1b[2J")
    assert (done.returncode, done.stdout) == (1, "")
    assert "\x1b" not in done.stderr


def test_an_answer_that_cannot_be_written_is_no_success(folder: Path) -> None:
    for args in (["trim", *ARGS], ["trim", *ARGS, "--format", "json"], ["--help"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "bot", *args], cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True,
                check=False,
            )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr == "refine: The answer could not be written: No space left on device.\n"


def test_a_reader_who_left_gets_no_traceback(folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "bot", "trim", *ARGS], cwd=folder, stdout=writing, stderr=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_closed_standard_streams_are_told(folder: Path) -> None:
    for redirect, why in ((">&-", "Standard output is closed"), ("<&-", "Standard input cannot be read")):
        policy = "-" if redirect == "<&-" else "DynamoDBAccess.json"
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" -m bot trim --policy {policy} --last-accessed report.json {redirect}',
             sys.executable],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode in {1, 2}
        assert why in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_what_get_policy_version_prints_is_read_too(folder: Path) -> None:
    inner = {"PolicyVersion": {"Document": ALL_OF_DYNAMODB, "VersionId": "v3", "IsDefaultVersion": True}}
    (folder / "DynamoDBAccess.json").write_text(json.dumps(inner))
    assert trim(folder, "--mode", "strict")["totals"]["kept"] == 2


def test_half_a_character_in_a_policy_breaks_no_output(folder: Path) -> None:
    """JSON may hold half of a surrogate pair as an escape: it goes out as it came in."""
    text = json.dumps(ALL_OF_DYNAMODB).replace('"Resource": "*"', '"Resource": "arn:aws:dynamodb:*:*:table/\\ud83d"')
    (folder / "DynamoDBAccess.json").write_text(text)
    for form in ("text", "json", "diff"):
        done = refine(folder, "trim", *ARGS, "--mode", "strict", "--format", form)
        assert done.returncode == 0, done.stderr
        assert form == "text" or "table/\\ud83d" in done.stdout


def test_a_number_goes_out_as_it_came_in(folder: Path) -> None:
    rest = '"Resource": "*", "Condition": {"NumericLessThan": {"dynamodb:Limit": 1e1}}'
    text = json.dumps(ALL_OF_DYNAMODB).replace('"Resource": "*"', rest)
    (folder / "DynamoDBAccess.json").write_text(text)
    said = refine(folder, "trim", *ARGS, "--mode", "strict", "--format", "json").stdout
    assert '"dynamodb:Limit": 1e1\n' in said
    assert "10.0" not in said
    assert "10.0" not in refine(folder, "trim", *ARGS, "--mode", "strict", "--format", "diff").stdout


def test_a_proof_that_fails_ends_with_status_3_and_shows_no_proposal(folder: Path) -> None:
    script = (
        "import bot.policy.engine as e; from bot.model import Proof; from bot.__main__ import main; "
        "e.check = lambda *a: Proof(no_new_access=False, nothing_used_lost=True, problems=('a hole',)); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "trim", *ARGS], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "a hole" in done.stderr


def test_colour_is_for_terminals_only(folder: Path) -> None:
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "bot", "trim", *ARGS, "--format", "diff"], cwd=folder, stdout=follower, stderr=follower
    ) as process:
        os.close(follower)
        seen = b""
        while True:
            try:
                seen += os.read(leader, 65536)
            except OSError:
                break
        assert process.wait() == 0
    assert b"\x1b[32m+" in seen
    assert b"\x1b[31m-" in seen
    assert "\x1b" not in refine(folder, "trim", *ARGS, "--format", "diff").stdout


SCHEMA = {
    "type": "object",
    "required": ["policies", "actions", "services", "warnings", "totals", "proof"],
    "additionalProperties": False,
    "properties": {
        "policies": {
            "items": {
                "required": ["name", "kind", "from", "outcome", "tier", "document", "characters"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string"},
                    "from": {"type": "string"},
                    "kind": {"enum": ["inline", "managed"]},
                    "outcome": {"enum": ["unchanged", "trimmed", "removed", "split"]},
                    "tier": {"type": "integer", "minimum": 0, "maximum": 5},
                    "document": {"type": ["object", "null"]},
                    "characters": {"type": "integer"},
                },
            }
        },
        "actions": {
            "items": {
                "required": ["action", "verdict", "kept", "last_accessed", "region", "policies"],
                "properties": {
                    "verdict": {"enum": [v.value for v in Verdict]},
                    "kept": {"type": "boolean"},
                    "last_accessed": {"type": ["string", "null"], "format": "date-time"},
                    "policies": {"type": "array", "minItems": 1},
                    "reason": {"type": "string", "pattern": r"\.$"},
                },
            }
        },
        "services": {"items": {"required": ["namespace", "last_accessed", "granted", "kept", "tracked"]}},
        "warnings": {"items": {"required": ["code", "message"], "maxProperties": 2}},
        "totals": {"required": ["granted", "kept", "removed"], "maxProperties": 3},
        "proof": {"const": {"no_new_access": True, "nothing_used_lost": True}},
    },
}


def test_the_json_is_what_the_contract_says(folder: Path) -> None:
    (folder / "Inline.json").write_text(
        json.dumps({"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}})
    )
    for mode in ("safe", "strict"):
        answer = trim(folder, "--inline-policy", "Extra=Inline.json", "--mode", mode)
        jsonschema.validate(answer, SCHEMA)
        assert {p["name"]: p["kind"] for p in answer["policies"]} == {"DynamoDBAccess": "managed", "Extra": "inline"}
        kept = sum(a["kept"] for a in answer["actions"])
        assert answer["totals"] == {
            "granted": len(answer["actions"]),
            "kept": kept,
            "removed": len(answer["actions"]) - kept,
        }
        [service] = [s for s in answer["services"] if s["namespace"] == "dynamodb"]
        assert (service["granted"], service["tracked"]) == (80, 3)
