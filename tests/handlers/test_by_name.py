"""Roles asked for by name, through the front door into the whole of Refine: `/refine`, and the two shortcuts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from bot.model import Case, CaseState
from tests.handlers.house import ANN, BEN, GUS, HUB, RITA, SECURITY, House, built, role_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[
        pytest.param("socket", marks=pytest.mark.xdist_group("name-socket")),
        pytest.param("http", marks=pytest.mark.xdist_group("name-http")),
    ],
)
async def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with built(tmp_path_factory.mktemp(request.param), request.param) as made:
        yield made


def there_is(house: House, name: str) -> str:
    role = role_of(name)
    house.aws.there[role.arn] = role
    return role.arn


async def typed(house: House, user: str, text: str) -> str:
    """Type `/refine TEXT`, and return what only this person was told."""
    house.forget(user)
    ack = await house.there.acts.command(user, text, channel=SECURITY)
    assert ack.ok, ack.error
    await house.quiet()
    return house.told(user)


async def case_of(house: House, arn: str) -> Case:
    case = await house.store.case_of_role(arn)
    assert case is not None
    return case


@pytest.mark.parametrize("form", ["{name}", "{arn}", "{account}/{name}", "`{name}`", "ask {name}", "  {arn} "])
async def test_a_role_by_name_arn_or_account_gets_a_proposal(house: House, form: str) -> None:
    """Whether Refine knew the role or not; asked again, it says where the proposal is, and makes no second one."""
    name = f"ByName{house.number}"
    house.number += 1
    arn = there_is(house, name)
    text = form.format(name=name, arn=arn, account=HUB)
    told = await typed(house, RITA, text)
    assert f"Reading what `{name}` really did" in told
    case = await case_of(house, arn)
    assert (case.state, case.asked_by) == (CaseState.WAITING, RITA)
    assert f"A proposal for `{name}` is waiting for approval." in await typed(house, ANN, text)
    assert (await case_of(house, arn)).revision == case.revision


async def test_a_name_that_nobody_has_brings_the_nearest(house: House) -> None:
    there_is(house, "ApplicationRole")
    told = await typed(house, RITA, "AplicationRole")
    assert "There is no role called 'AplicationRole'. Did you mean `ApplicationRole`?" in told
    assert "There is no role called 'AplicationRole'" in await typed(house, RITA, "history AplicationRole")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("histroy ApplicationRole", "Did you mean /refine history ApplicationRole?"),
        ("rollback", "/refine rollback needs the name of a role and a reason."),
        ("rollback ApplicationRole", "Try /refine rollback ApplicationRole its nightly export fails."),
        ("rollback ApplicationRloe it broke", "There is no role called 'ApplicationRloe'."),
        ("stauts", "The command is /refine status."),
        ("arn:aws:iam::123456789012:user/Ann", "That is not the ARN of a role."),
        ("arn:aws:s3:::bucket", "That is not the ARN of a role."),
        ("Role&Co", "That does not look like the name of a role."),
        ("1234/ApplicationRole", "1234 is no AWS account: those have 12 digits."),
        ("999988887777/partners/ApplicationRole", "There is no role called"),
    ],
)
async def test_what_is_mistyped_is_answered_with_what_was_meant(house: House, text: str, says: str) -> None:
    assert says in await typed(house, RITA, text)


async def test_list_status_history_and_help_answer_from_the_store(house: House) -> None:
    case = await house.case_in(CaseState.DECLINED)
    told = await typed(house, RITA, f"list {case.role_name}")
    assert case.role_name in told
    assert "Declined" in told
    assert "need a decision" in await typed(house, RITA, "status") or "put aside" in house.told(RITA)
    told = await typed(house, RITA, f"history {HUB}/{case.role_name}")
    assert f"History of `{case.role_name}`" in told
    assert "declined" in told
    assert "`/refine history ROLE`" in await typed(house, RITA, "help")
    assert "Guests may not act on a role." in await typed(house, GUS, f"history {case.role_name}")


async def test_a_change_is_rolled_back_by_name(house: House) -> None:
    """Under the button's rules, with the reason on record; also by two where the settings ask for it."""
    case = await house.case_in(CaseState.DONE)
    text = f"rollback {HUB}/{case.role_name} its export fails"
    assert "You are not one of the approvers." in await typed(house, RITA, text)
    assert "Guests may not act on a role." in await typed(house, GUS, text)
    settings = house.world.settings
    house.world.settings = settings.model_copy(update={"refine_rollback_four_eyes": True})
    try:
        told = await typed(house, ANN, text)
        assert f"Noted. A second approver has to ask for the rollback of `{case.role_name}` too." in told
        assert (await house.store.case(case.id)).state is CaseState.DONE
        told = await typed(house, BEN, text)
    finally:
        house.world.settings = settings
    assert f"Putting the old policies of `{case.role_name}` back" in told
    await house.quiet()
    back = await house.store.case(case.id)
    assert back.state is CaseState.ROLLED_BACK
    entry = next(e for e in await house.store.history(case.id) if e.what == "roll_back")
    assert (entry.who, dict(entry.detail)["reason"]) == (BEN, "its export fails")
    assert "nothing to roll back" in await typed(house, ANN, text)


async def test_pause_and_resume_are_for_approvers_and_status_says_who_paused(house: House) -> None:
    assert "You are not one of the approvers." in await typed(house, RITA, "pause")
    try:
        assert "Refine is paused" in await typed(house, ANN, "pause")
        assert f"by <@{ANN}> since" in await typed(house, RITA, "status")
    finally:
        assert "Refine is at work again." in await typed(house, ANN, "resume")
    assert "paused" not in await typed(house, RITA, "status")


async def test_the_shortcut_finds_a_role_by_a_part_of_its_name(house: House) -> None:
    case = await house.case_in(CaseState.NEW)
    house.forget(RITA)
    assert (await house.there.shortcut(RITA, "refine_role")).ok
    await house.quiet()
    view = house.there.view(RITA)
    assert view is not None
    options: list[dict[str, Any]] = await house.there.suggest(RITA, "pick", case.role_name[2:].lower())
    assert [o["value"] for o in options] == [f"{HUB}/{case.role_name}"]
    assert (await house.there.submit(RITA, {("role", "pick"): options[0]["value"]})).ok
    await house.quiet()
    assert f"Reading what `{case.role_name}` really did" in house.told(RITA)
    assert (await house.store.case(case.id)).state is CaseState.WAITING


async def test_the_message_shortcut_takes_the_arn_out_of_any_message(house: House) -> None:
    name = f"Named{house.number}"
    house.number += 1
    arn = there_is(house, name)
    message = house.there.say(ANN, f"GuardDuty says {arn}. Who knows it?")
    house.forget(RITA)
    assert (await house.there.message_shortcut(RITA, "refine_message", message["ts"])).ok
    await house.quiet()
    assert f"Reading what `{name}` really did" in house.told(RITA)
    assert (await case_of(house, arn)).state is CaseState.WAITING
