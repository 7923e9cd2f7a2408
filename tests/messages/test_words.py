"""What the messages claim: counts that add up, honest headlines, who may approve, what became of it, and the files."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import timedelta

import jsonschema
import pytest
import yaml

from bot import messages
from bot.messages import cards, lists, sums
from bot.messages.slack import SCOPES
from bot.model import ActionVerdict, CaseState, Mode, PolicyKind, ProposalId, Trim, Verdict
from bot.rules import Team
from tests.messages.cases import (
    ANN,
    APPLICATION,
    COUNTS,
    NOW,
    PARTNER,
    RITA,
    TEAM,
    case_in,
    permits,
    proposed,
    reviewed,
)
from tests.messages.every import NOTICES, PROPOSED
from tests.messages.test_golden import walk


def trim_of(*verdicts: tuple[Verdict, bool]) -> Trim:
    made = proposed().trim
    actions = tuple(
        ActionVerdict(action=f"s3:A{n}", verdict=v, kept=kept, reason="…") for n, (v, kept) in enumerate(verdicts)
    )
    return replace(made, actions=actions)


def text_of(payload: dict) -> str:
    return "\n".join(n["text"] for n in walk(payload) if isinstance(n.get("text"), str))


# -------------------- counts


@pytest.mark.parametrize("verdict", Verdict)
def test_each_verdict_is_counted_once(verdict: Verdict) -> None:
    """Used, not used, cannot be known, without a call, protected: they add up to what is granted."""
    counts = sums.Counts.of(trim_of((verdict, True)).actions)
    assert counts.used + counts.unused + counts.hidden + counts.no_call + counts.protected == counts.granted == 1


def test_what_nobody_could_see_is_never_called_unused() -> None:
    hidden = trim_of((Verdict.UNTRACKED, True), (Verdict.UNKNOWN, False), (Verdict.INVISIBLE, True))
    assert sums.Counts.of(hidden.actions).hidden == 3
    assert sums.Counts.of(hidden.actions).unused == 0


def test_the_tally_names_the_window_and_adds_up() -> None:
    counts = sums.Counts.of(proposed().trim.actions)
    assert cards.tally(counts, 90) == "*2 used* in the last 90 days · *35 not used* · *43 cannot be known*"
    assert counts.granted == 80


@pytest.mark.parametrize(
    ("verdicts", "headline"),
    [
        ([(Verdict.UNUSED, False)], "Remove 1 unused action from R (not used in 90 days)"),
        (
            [(Verdict.STALE, False), (Verdict.SERVICE_UNUSED, False)],
            "Remove 2 unused actions from R (not used in 90 days)",
        ),
        (
            [(Verdict.UNUSED, False), (Verdict.UNTRACKED, False)],
            "Remove 2 actions from R (1 not used in 90 days, 1 whose use cannot be known)",
        ),
        ([(Verdict.NOT_NEEDED, False)], "Remove 1 action from R (1 without a call of their own)"),
        ([(Verdict.USED, True)], "Tidy the policies of R"),
    ],
)
def test_the_headline_says_unused_only_where_that_is_known(verdicts: list[tuple[Verdict, bool]], headline: str) -> None:
    made = replace(proposed(), trim=trim_of(*verdicts), role=replace(APPLICATION, name="R"))
    assert sums.headline(made) == headline


def services_of(review: dict) -> list[list[str]]:
    (table,) = [b for b in review["blocks"] if b["type"] == "table"]
    return [[c["text"] for c in row] for row in table["rows"][1:]]


def test_services_that_nobody_can_see_stand_apart_from_the_unused() -> None:
    """A service that the report does not cover is not one that was never used."""
    made = proposed(PARTNER).trim
    actions = tuple(replace(a, verdict=Verdict.UNKNOWN) if a.action.startswith("ec2:") else a for a in made.actions)
    rows = services_of(messages.review(reviewed(PARTNER), replace(made, actions=actions), NOW, window_days=90))
    assert ["ec2", "not known", "2 cannot be known"] in rows
    assert [r[0] for r in rows].index("ec2") < [r[0] for r in rows].index("sns")


def test_a_service_is_in_use_by_its_own_time() -> None:
    """KMS was called within the window, though none of its tracked actions was: it stands with those in use."""
    rows = services_of(messages.review(reviewed(PARTNER), proposed(PARTNER).trim, NOW, window_days=90))
    assert {r[0] for r in rows[:3]} == {"kms", "s3", "sqs"}
    assert rows[-1][:2] == ["ec2", "never"]


def test_a_review_names_what_was_used_and_not_what_was_not() -> None:
    """A wall of rows that say "not used" helps nobody: the picker opens them."""
    said = text_of(messages.review(reviewed(), proposed().trim, NOW, window_days=90))
    assert "• `dynamodb:DescribeTable`" in said
    assert "DeleteTable" not in said


@pytest.mark.parametrize(
    ("pick", "first", "number"),
    [
        ("dynamodb|unused", ["CreateBackup", "not used", "–"], 35),
        ("dynamodb|used", ["DescribeTable", "used", "2026-01-30 19:30 UTC, us-east-1"], 2),
        ("*|hidden", ["dynamodb:AssociateTableReplica", "IAM does not track it", "–"], 43),
        ("dynamodb|all", ["DescribeTable", "used", "2026-01-30 19:30 UTC, us-east-1"], 80),
        ("dynamodb", ["DescribeTable", "used", "2026-01-30 19:30 UTC, us-east-1"], 37),
        ("dynamodb|nonsense", ["DescribeTable", "used", "2026-01-30 19:30 UTC, us-east-1"], 37),
    ],
)
def test_a_report_can_be_filtered_as_in_the_console(pick: str, first: list[str], number: int) -> None:
    """By service and by what became known of an action; the counts of the filter are those of the review."""
    opened = messages.review_service(reviewed(), pick, proposed().trim)
    rows = services_of(opened)
    assert rows[0] == first
    assert len(rows) == number
    assert "*2 used* · *35 not used* · *43 cannot be known*" in text_of(opened)


# -------------------- cards


def test_a_card_without_a_proposal_counts_only_what_the_report_says() -> None:
    said = text_of(messages.card(reviewed(PARTNER), NOW, permits(PARTNER)))
    assert "3 of 5 services used" not in said  # sns was used too, longer ago: the report has a time
    assert "4 of 5 services used" in said
    assert "cannot be known" not in said


def test_a_card_counts_with_a_proposal_only_while_it_fits_the_role() -> None:
    """Once the policies moved, the old numbers would be about other policies."""
    case = case_in(CaseState.STALE)
    assert "35 not used" in text_of(messages.card(case, NOW, permits(APPLICATION)))
    moved = replace(case, role=PARTNER)
    assert "35 not used" not in text_of(messages.card(moved, NOW, permits(APPLICATION)))


def test_a_failed_card_says_what_is_in_force() -> None:
    case = case_in(CaseState.FAILED)
    blocks = messages.card(case, NOW, permits(APPLICATION))["blocks"]
    assert blocks[2]["text"] == {"type": "plain_text", "text": case.sentence, "emoji": False}


@pytest.mark.parametrize("state", CaseState)
def test_every_card_says_that_trimming_does_not_end_the_finding(state: CaseState) -> None:
    said = text_of(messages.card(case_in(state), NOW, permits(APPLICATION)))
    assert "Trimming does not end the finding: that follows the trust policy." in said


def test_an_earlier_change_in_force_is_said() -> None:
    again = case_in(CaseState.DECLINED, change=case_in(CaseState.WATCHING).change, steps_done=1)
    assert "is in force, and can be rolled back" in text_of(messages.card(again, NOW, permits(APPLICATION)))
    never = case_in(CaseState.DECLINED)
    assert "can be rolled back" not in text_of(messages.card(never, NOW, permits(APPLICATION)))


# -------------------- who approves


@pytest.mark.parametrize(
    ("team", "said"),
    [
        (TEAM, "Needs 1 approval by <@U0ANN> or <@U0BEN>."),
        (replace(TEAM, approvers=frozenset({ANN, RITA})), "Needs 1 approval by <@U0ANN>. <@U0RITA> proposed it, so somebody else has to approve."),
        (replace(TEAM, approvers=frozenset({ANN, RITA}), four_eyes=False), "Needs 1 approval by <@U0ANN> or <@U0RITA>."),
        (replace(TEAM, approvers=frozenset()), "Needs 1 approval, and nobody is set up who could give it: see `REFINE_APPROVERS`."),
        (replace(TEAM, approvers=frozenset({RITA})), "Needs 1 approval, and nobody is set up who could give it: see `REFINE_APPROVERS`."),
        (None, "Needs 1 approval by people set up as approvers."),
    ],
)  # fmt: skip
def test_it_says_whose_yes_is_needed(team: Team | None, said: str) -> None:
    assert cards.approval(case_in(CaseState.WAITING), team) == said


def test_a_half_approved_proposal_asks_those_who_have_not() -> None:
    half = case_in(CaseState.WAITING, approvals=case_in(CaseState.APPLYING).approvals, approvals_needed=2)
    assert cards.approval(half, TEAM) == "Needs 1 more approval by <@U0BEN>. Approved so far by <@U0ANN>."
    assert "1 of 2 approvals given." in messages.approved_line(half, ANN, "")["text"]


# -------------------- proposals and outcomes


@pytest.mark.parametrize("state", [s for s in PROPOSED if s is not CaseState.WAITING])
def test_a_proposal_that_waits_no_longer_says_what_became_of_it(state: CaseState) -> None:
    payload = messages.proposal(case_in(state), NOW, team=TEAM)
    assert not [b for b in payload["blocks"] if b["type"] == "actions"]
    assert payload["blocks"][1]["text"]["text"][0] in "⚪♻⚙🟢↩🔵🟥⏳"
    assert "Needs" not in text_of(payload)


def test_a_proposal_past_its_time_cannot_be_pressed() -> None:
    """Also before the clock has closed the case."""
    case = case_in(CaseState.WAITING)
    assert case.until is not None
    late = messages.proposal(case, case.until + timedelta(seconds=1))
    assert not [b for b in late["blocks"] if b["type"] == "actions"]
    assert "Expired" in text_of(late)


def test_the_oldest_version_that_goes_is_named() -> None:
    """Of five versions one makes room: that is part of what is approved."""
    said = text_of(messages.proposal(case_in(CaseState.WAITING, role=PARTNER), NOW))
    assert "it gets a new default version; `v5` stays beside it; `v1`, the oldest, is deleted to make room" in said


def test_a_shared_policy_is_left_alone() -> None:
    made = proposed(PARTNER, Mode.SAFE)
    shared = next(p for p in made.role.policies if p.name == "ExportKeys")
    role = replace(
        made.role,
        policies=tuple(replace(p, attachments=3) if p is shared else p for p in made.role.policies),
    )
    names = tuple(
        replace(o, name="ExportKeys-PartnerExport") if o.source == shared.key else o for o in made.trim.policies
    )
    made = replace(made, role=role, trim=replace(made.trim, policies=names))
    said = text_of(messages.proposal(case_in(CaseState.WAITING, role=PARTNER, proposal=made), NOW))
    assert "others use it too, so this role gets `ExportKeys-PartnerExport` in its place" in said


def test_a_proof_that_does_not_hold_is_not_claimed() -> None:
    made = proposed()
    broken = replace(made, trim=replace(made.trim, proof=replace(made.trim.proof, no_new_access=False)))
    said = text_of(messages.proposal(case_in(CaseState.WAITING, proposal=broken), NOW))
    assert "✗ Not proved: that nothing new is allowed." in said
    assert "✓ Nothing new" not in said


@pytest.mark.parametrize(
    ("state", "button"), [(CaseState.WATCHING, True), (CaseState.DONE, True), (CaseState.ROLLED_BACK, False)]
)
def test_only_a_change_in_force_can_be_rolled_back(state: CaseState, button: bool) -> None:
    found = [n for n in walk(messages.applied(case_in(state), NOW)) if n.get("action_id") == "case:roll_back"]
    assert bool(found) is button
    assert all(n["style"] == "danger" for n in found)


def test_an_outcome_does_not_borrow_the_numbers_of_a_newer_proposal() -> None:
    case = case_in(CaseState.WATCHING)
    assert case.proposal is not None
    assert "80 → 45 actions, approved by <@U0ANN>" in messages.applied(case, NOW)["text"]
    newer = case_in(CaseState.WATCHING, proposal=replace(case.proposal, id="c0ffee-9"))
    assert "80 → 45" not in text_of(messages.applied(newer, NOW))
    assert "approved by" not in text_of(messages.applied(newer, NOW))


def test_an_older_proposal_that_was_approved_is_not_called_replaced() -> None:
    """Applied and rolled back, it was followed by a newer one; only one that still waited was replaced."""
    applied, waiting = case_in(CaseState.ROLLED_BACK), case_in(CaseState.WAITING)
    assert applied.proposal is not None
    newer = replace(applied.proposal, id=ProposalId("c0ffee-9"), supersedes=applied.proposal.id, reason="A restore.")
    assert "Approved by <@U0ANN>. A newer" in text_of(messages.proposal(applied, NOW, newer=newer))
    said = text_of(messages.proposal(waiting, NOW, newer=newer))
    assert "*Replaced* by <@U0RITA>" in said
    assert "the proposal that keeps 45 of 80 actions is below in this thread" in said
    assert "Reason: A restore." in said


def test_a_rollback_is_proved_by_the_snapshots_digest() -> None:
    case = case_in(CaseState.ROLLED_BACK)
    assert case.change is not None
    said = text_of(messages.rolled_back(case, NOW))
    assert case.change.expected[:12] in said
    assert "Reason: The nightly export fails." in said


def test_a_rollback_beside_somebody_elses_work_does_not_claim_the_snapshots_digest() -> None:
    case = case_in(CaseState.ROLLED_BACK)
    said = text_of(messages.rolled_back(case, NOW, ["Extra"]))
    assert "all that the change touched in `ApplicationRole` is as before" in said
    assert "Left as somebody else made it since the change: `Extra`." in said
    assert "digest" not in said


def test_a_reminder_is_not_sent_for_what_is_decided() -> None:
    assert "no longer waits" in messages.reminder(case_in(CaseState.APPLYING), NOW)["text"]
    assert (
        "A proposal has waited for 1 hour: removing 35 unused actions from `ApplicationRole` (not used in 90 days). Needs"
        in messages.reminder(case_in(CaseState.WAITING), NOW)["text"]
    )


@pytest.mark.parametrize("name", NOTICES)
def test_a_notice_repeats_the_sentence_whole(name: str) -> None:
    sentence = "AWS refused *iam:CreatePolicyVersion* of `X`. Ask <somebody>."
    payload = messages.notice(name, sentence)
    assert payload["blocks"][1]["text"]["text"] == sentence
    assert payload["blocks"][1]["text"]["type"] == "plain_text"


def test_pausing_names_who_did_it_and_nobody_else() -> None:
    assert (
        "by <@U0ANN> since 2026-01-31 09:00 UTC"
        in messages.status(COUNTS, "by <@U0ANN> since 2026-01-31 09:00 UTC", NOW)["text"]
    )
    assert "<" not in messages.status(COUNTS, "by <!channel> since ever", NOW)["text"]


def test_every_state_is_counted_once() -> None:
    states = [s for _, group in lists.GROUPS for s in group]
    assert sorted(states) == sorted(CaseState)


def test_a_burst_says_how_many_cards_follow() -> None:
    worst = [case_in(CaseState.NEW)] * 3
    assert (
        "Cards follow for 3 roles, the worst first. The other 49:" in messages.burst_summary(52, COUNTS, worst)["text"]
    )
    assert messages.burst_summary(3, COUNTS, worst)["text"].endswith("Cards follow for 3 roles, the worst first.")
    assert "No cards follow. The other 52:" in messages.burst_summary(52, COUNTS, worst, cards=0)["text"]


def test_near_matches_are_near() -> None:
    names = ["ApplicationRole", "AppRunner", "PartnerExport", "partner-import", "Admin"]
    assert messages.near_matches("aplicationrole", names) == ("ApplicationRole",)
    assert messages.near_matches("partner", names)[:2] == ("PartnerExport", "partner-import")
    assert messages.near_matches("zzz", names) == ()
    assert messages.near_matches("", names) == ()


# -------------------- files


def test_the_documents_are_in_files_to_the_byte() -> None:
    case = case_in(CaseState.WAITING, role=PARTNER)
    assert case.proposal is not None
    files = {name: content for name, content, _ in messages.proposal_files(case)}
    for policy in case.proposal.role.policies:
        outcome = next(o for o in case.proposal.trim.policies if o.source == policy.key)
        if outcome.outcome.value == "unchanged":
            assert f"{policy.name}.old.json" not in files
            continue
        assert files[f"{policy.name}.old.json"] == policy.text.encode()
        assert files.get(f"{policy.name}.new.json", b"") == (outcome.text or "").encode()
    assert set(files) == {
        "ExportKeys.new.json", "ExportKeys.old.json", "ExportKeys.diff", "AmazonSNSReadOnlyAccess.old.json",
        "AmazonSNSReadOnlyAccess.diff", "Leftover.old.json", "Leftover.diff", "reasons.csv",
    }  # fmt: skip
    assert all(files.values())  # Slack takes no empty file


def test_policies_of_one_name_get_files_of_their_own() -> None:
    made = proposed(PARTNER)
    twin = next(p for p in made.role.policies if p.kind is PolicyKind.INLINE)
    policies = tuple(
        replace(p, name=twin.name) if p.name == "AmazonSNSReadOnlyAccess" else p for p in made.role.policies
    )
    made = replace(made, role=replace(made.role, policies=policies))
    names = [n for n, _, _ in messages.proposal_files(case_in(CaseState.WAITING, role=PARTNER, proposal=made))]
    assert len(names) == len({n.lower() for n in names})
    assert {"Leftover.old.json", "Leftover-2.old.json"} <= set(names)


def test_every_action_has_its_reason_in_the_file() -> None:
    case = case_in(CaseState.WAITING)
    assert case.proposal is not None
    content = {n: c for n, c, _ in messages.proposal_files(case)}["reasons.csv"]
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert [(r["action"], r["verdict"], r["kept"] == "yes", r["reason"]) for r in rows] == [
        (a.action, a.verdict.value, a.kept, a.reason) for a in case.proposal.trim.actions
    ]


def test_a_cell_never_starts_a_formula() -> None:
    """Spreadsheets run what starts with `=`; a policy may be called so."""
    made = proposed()
    actions = tuple(replace(a, policies=("=HYPERLINK(1)",), reason="@SUM(1)") for a in made.trim.actions)
    ((_, content, _),) = messages.review_files(reviewed(), replace(made.trim, actions=actions))
    assert all(
        not cell.startswith(("=", "+", "-", "@")) for row in csv.reader(io.StringIO(content.decode())) for cell in row
    )


def test_the_report_file_has_verdicts_where_they_are_known() -> None:
    ((name, content, title),) = messages.review_files(case_in(CaseState.WAITING))
    assert name == "ApplicationRole-last-accessed.csv"
    assert "80 rows" in title
    assert {r["verdict"] for r in csv.DictReader(io.StringIO(content.decode()))} >= {"used", "unused", "untracked"}
    ((_, bare, _),) = messages.review_files(reviewed())
    rows = list(csv.DictReader(io.StringIO(bare.decode())))
    assert rows[0] == {
        "service": "dynamodb", "action": "", "tracked": "yes", "last accessed (UTC)": "2026-01-30T19:30:00Z", "region": "us-east-1",
    }  # fmt: skip
    assert len(rows) == 38


# -------------------- the manifest

_TEXT = {"type": "string", "minLength": 1}
_YES = {"type": "boolean"}


def _object(required: dict, **optional: dict) -> dict:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


# The keys and limits of https://docs.slack.dev/reference/app-manifest, as far as they are used.
MANIFEST = _object(
    {
        "_metadata": _object({"major_version": {"const": 1}, "minor_version": {"const": 1}}),
        "display_information": _object(
            {"name": {**_TEXT, "maxLength": 35}},
            description={**_TEXT, "maxLength": 140},
            long_description={**_TEXT, "minLength": 174, "maxLength": 4000},
            background_color={"type": "string", "pattern": "^#[0-9a-f]{6}$"},
        ),
        "features": _object(
            {
                "app_home": _object(
                    {
                        "home_tab_enabled": {"const": True},
                        "messages_tab_enabled": {"const": True},
                        "messages_tab_read_only_enabled": _YES,
                    }
                ),
                "bot_user": _object({"display_name": {**_TEXT, "maxLength": 80}, "always_online": _YES}),
                "shortcuts": {
                    "type": "array",
                    "maxItems": 10,
                    "items": _object(
                        {
                            "name": {**_TEXT, "maxLength": 24},
                            "type": {"enum": ["global", "message"]},
                            "callback_id": {**_TEXT, "maxLength": 255},
                            "description": {**_TEXT, "maxLength": 150},
                        }
                    ),
                },
                "slash_commands": {
                    "type": "array",
                    "maxItems": 50,
                    "items": _object(
                        {
                            "command": {"type": "string", "pattern": "^/[a-z]{1,31}$"},
                            "description": {**_TEXT, "maxLength": 2000},
                            "should_escape": {"const": False},
                        },
                        usage_hint={**_TEXT, "maxLength": 1000},
                    ),
                },
            }
        ),
        "oauth_config": _object(
            {"scopes": _object({"bot": {"type": "array", "items": _TEXT, "uniqueItems": True, "maxItems": 255}})}
        ),
        "settings": _object(
            {
                "event_subscriptions": _object({"bot_events": {"const": ["app_home_opened"]}}),
                "interactivity": _object({"is_enabled": {"const": True}}),
                "org_deploy_enabled": {"const": False},
                "socket_mode_enabled": {"const": True},
                "token_rotation_enabled": {"const": False},
            }
        ),
    }
)


def test_the_manifest_is_what_slack_takes() -> None:
    """Every key is known, and the names are those that the handlers listen to."""
    manifest = yaml.safe_load(messages.manifest())
    jsonschema.Draft202012Validator(MANIFEST).validate(manifest)
    assert [s["callback_id"] for s in manifest["features"]["shortcuts"]] == ["refine_role", "refine_message"]


def test_the_manifest_asks_for_the_scopes_that_the_bot_uses() -> None:
    """No more and no fewer: the doctor checks the same list."""
    manifest = yaml.safe_load(messages.manifest())
    assert set(manifest["oauth_config"]["scopes"]["bot"]) == set(SCOPES)


def test_the_messages_are_made_of_nothing_but_their_arguments() -> None:
    """Drawn twice, a message is the same to the byte."""
    case = case_in(CaseState.WAITING)
    assert json.dumps(messages.proposal(case, NOW)) == json.dumps(messages.proposal(case, NOW))
