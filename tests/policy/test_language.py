"""The reader: what is no policy is refused with its place, and what is one is counted and written as IAM does."""

from __future__ import annotations

import json

import pytest

from bot.errors import PolicyError
from bot.model import ActionUse, Evidence, Mode, Outcome, PolicyKind, PolicyOutcome, ServiceUse
from bot.policy import check, parse, size
from bot.policy.language import weigh, write
from bot.terminal import plain
from tests.policy.test_trim_command import BAD
from tests.policy.world import NOW, policy, run


@pytest.mark.parametrize("name", [n for n in BAD if isinstance(BAD[n][0], str)])
def test_what_is_no_policy_is_refused_with_its_place(name: str) -> None:
    text, where = BAD[name]
    assert isinstance(text, str)
    with pytest.raises(PolicyError) as caught:
        parse(text, "P.json")
    assert where in plain(caught.value.say())
    assert "P.json" in caught.value.sentence


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ({"Effect": "Allow", "Action": "*", "NotAction": "*", "Resource": "*"}, "Action or NotAction, and not both"),
        ({"Effect": "Allow", "Resource": "*"}, "Action or NotAction, and not both"),
        ({"Effect": "Allow", "Action": "*", "Resource": "*", "NotResource": "*"}, "Resource or NotResource, and not"),
        ({"Effect": "Allow", "Action": "*", "Resource": []}, "$.Statement[0].Resource"),
        ({"Effect": "Allow", "Action": "*", "NotResource": {}}, "$.Statement[0].NotResource"),
        ({"Effect": "Allow", "Action": {}, "Resource": "*"}, "$.Statement[0].Action"),
        ({"Effect": "Allow", "NotAction": [1], "Resource": "*"}, "$.Statement[0].NotAction"),
        ({"Effect": "Allow", "Action": "s3", "Resource": "*"}, "'s3' at $.Statement[0].Action,"),
        ({"Effect": "Allow", "Action": "s3:", "Resource": "*"}, "'s3:' at $.Statement[0].Action,"),
        ({"Effect": "Allow", "Action": "s*:Get", "Resource": "*"}, "'s*:Get' at $.Statement[0].Action,"),
        ({"Effect": "Allow", "Action": "s3:Get ", "Resource": "*"}, "'s3:Get ' at $.Statement[0].Action,"),
        ({"Effect": "Allow", "Action": ["s3:a", "s3:b:c"], "Resource": "*"}, "'s3:b:c' at $.Statement[0].Action[1]"),
        ({"Effect": "Allow", "Action": "*", "Resource": "*", "Sid": 5}, "$.Statement[0].Sid"),
        ({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": []}, "$.Statement[0].Condition"),
        ({"Effect": "Allow", "Action": "*", "Resource": "*", "NotPrincipal": "*"}, "NotPrincipal at $.Statement[0]"),
        ({"Effect": ["Allow"], "Action": "*", "Resource": "*"}, "no Effect"),
        ("Allow", "$.Statement[0] that is not an object"),
    ],
)
def test_what_is_no_statement_is_refused_with_its_path(statement: object, where: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    assert where in caught.value.say()


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ({"Statement": 5}, "$.Statement that is neither"),
        ({"Version": "2012-10-18", "Statement": []}, "$.Version"),
        ({"Version": [], "Statement": []}, "$.Version"),
        ({"version": "2012-10-17", "Statement": []}, "$.version"),
    ],
)
def test_what_is_no_document_is_refused_with_its_path(document: object, where: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(json.dumps(document))
    assert where in caught.value.say()


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('{"Statement": [],}', "The comma before it is one too many."),
        ('{"Statement": [1,\n]}', "The comma before it is one too many."),
        ('{"Statement": [], x}', ""),
        ('{"Statement" }', ""),
        ('{"Statement": [] // all\n}', "JSON has no comments: take them out."),
        ('{ # all\n"Statement": []}', "JSON has no comments: take them out."),
        ('{ /* all */ "Statement": []}', "JSON has no comments: take them out."),
        ('{"Statement": [] "Id": "http://x"}', ""),
    ],
)
def test_a_slip_that_people_make_is_told_from_others(text: str, hint: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(text)
    assert caught.value.next_step == hint


def test_the_place_of_a_second_key_is_the_place_of_its_second_name() -> None:
    text = '{\n "Statement": [\n  {"Sid": "a:b{}", "Effect": "Allow",\n   "Sid": "c"}]}'
    with pytest.raises(PolicyError) as caught:
        parse(text)
    assert "'Sid' twice in one object at line 4, column 4." in caught.value.sentence


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (
            '{"Statement": {"Effect": "Allow", "Sid": "a", "Sid": "b"}}',
            "'Sid' twice in one object at line 1, column 47.",
        ),
        ('{"Statement": {"Sid": "a", "Condition": {"x": {}},\n"Sid": "b"}}', "at line 2, column 1."),
    ],
)
def test_the_key_that_is_there_twice_is_named_and_no_other(text: str, where: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(text)
    assert where in caught.value.sentence


def test_a_place_is_counted_from_the_first_character() -> None:
    with pytest.raises(PolicyError) as caught:
        parse('\n{"Statement": [], "Statement": []}')
    assert "at line 2, column 19." in caught.value.sentence


def test_the_same_key_in_two_objects_is_no_second_key() -> None:
    text = '{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"*","Resource":"*"}]}'
    assert len(parse(text).statements) == 2


def test_sixty_levels_are_read_and_more_are_not() -> None:
    def nested(levels: int) -> str:
        value = "[" * levels + "]" * levels
        return f'{{"Statement":{{"Effect":"Deny","Action":"*","Resource":"*","Condition":{{"a":{value}}}}}}}'

    assert parse(nested(57)).single
    with pytest.raises(PolicyError, match="nested too deeply"):
        parse(nested(58))


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse('\ufeff{"Statement":[]}').statements == ()


@pytest.mark.parametrize(
    ("text", "characters"),
    [
        ('{ "a" :\n\t[1, 2] }', len('{"a":[1,2]}')),
        ('{"a": "two  words"}', len('{"a":"two  words"}')),
        (r'{"a": "a \" b", "c": 1}', len(r'{"a":"a \" b","c":1}')),
        (r'{"a": "\\", "b": " "}', len(r'{"a":"\\","b":" "}')),
    ],
)
def test_iam_does_not_count_white_space_between_things(text: str, characters: int) -> None:
    assert size(text) == characters


def test_what_is_written_weighs_what_it_counts() -> None:
    value = {"Statement": [{"Sid": "é日\ud83d😀", "n": [1.5, True, None, {}]}]}
    assert size(write(value)) == weigh(value)
    assert json.loads(write(value)) == value
    # Beyond U+00FF IAM takes only escapes.
    assert all(ord(c) <= 0xFF for c in write(value))
    assert "é" in write(value)
    assert r"\u65e5" in write(value)


NUMBERS = ("1", "-7", "0", "-0", "1.0", "1.10", "1e3", "1E+3", "0.1e-7", "1e22", "9" * 30, "7" * 5000, "0." + "1" * 40)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_keeps_its_spelling_in_what_is_written(number: str) -> None:
    about = f'"Resource": "*", "Condition": {{"NumericLessThan": {{"s3:max-keys": [{number}, {number}]}}}}'
    text = f'{{"Statement": [{{"Effect": "Deny", "Action": "*", {about}}}, {{"Effect": "Allow", "Action": ["s3:*"], {about}}}]}}'
    read = parse(text)
    written = write(read.raw)
    assert written.count(number) == 4
    assert size(written) == size(text) == weigh(read.raw)
    assert parse(written) == read


def test_a_number_in_another_spelling_is_another_scope() -> None:
    def scope(value: str) -> str:
        rest = f'"Resource": "*", "Condition": {{"NumericEquals": {{"a:b": {value}}}}}'
        return parse(f'{{"Statement": {{"Effect": "Allow", "Action": "*", {rest}}}}}').statements[0].scope()

    values = ["1000", "1e3", "1000.0", '"1e3"', '"1000"', "true"]
    assert len({scope(v) for v in values}) == len(values)


def test_a_trimmed_document_keeps_its_numbers_and_the_proof_holds() -> None:
    about = '"Resource": "*", "Condition": {"NumericLessThan": {"s3:max-keys": 1e1}}'
    text = f'{{"Statement": [{{"Effect": "Deny", "Action": "*", {about}}}, {{"Effect": "Allow", "Action": "s3:*", {about}}}]}}'
    report = Evidence(
        services=(ServiceUse(namespace="s3", actions=(ActionUse(action="GetObject", last_accessed=NOW),)),), made_at=NOW
    )
    answer = run([policy(0, PolicyKind.INLINE, text)], report, Mode.STRICT)
    assert answer is not None
    assert answer.proof.holds
    assert (answer.policies[0].text or "").count('"s3:max-keys": 1e1\n') == 2


def test_the_checker_sees_a_number_that_was_spelled_anew() -> None:
    def text(value: str) -> str:
        rest = f'"Resource": "*", "Condition": {{"NumericLessThan": {{"s3:max-keys": {value}}}}}'
        return f'{{"Statement": [{{"Effect": "Deny", "Action": "*", {rest}}}]}}'

    old = policy(0, PolicyKind.INLINE, text("1e1"))
    for value, holds in (("1e1", True), ("10.0", False), ("10", False), ('"1e1"', False)):
        new = PolicyOutcome(
            name="P0", kind=old.kind, source=old.key, outcome=Outcome.TRIMMED, tier=1, text=text(value), characters=1
        )
        assert check([old], [new], ()).holds is holds
