"""The values that travel. Frozen, keyword-only, typed ids; times are aware, in UTC; documents travel as raw text.

Made in one place, stored before anyone sees them, never edited: the next is made from the last.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, NewType

CaseId = NewType("CaseId", str)
ProposalId = NewType("ProposalId", str)
ChangeId = NewType("ChangeId", str)
Digest = NewType("Digest", str)
UserId = NewType("UserId", str)  # a Slack user id, or "refine" for the bot's own doing


def digest(value: object) -> Digest:
    r"""Return the SHA-256 of a JSON value in canonical form, as 64 lower-case hex digits.

    The form: one JSON text in UTF-8; the keys of objects sorted by code point, lists in the order given; no white space
    outside strings; in strings only `"`, `\` and the characters below U+0020 escaped (the short escape where JSON has
    one, else `\u00xx` in lower case), all others as they are.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Digest(hashlib.sha256(text.encode()).hexdigest())


# -------------------- who may get in


class PrincipalKind(StrEnum):
    """Who an external access finding names, in the words of Access Analyzer's principal map."""

    PUBLIC = "public"
    ACCOUNT = "account"
    FEDERATED = "federated"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalPrincipal:
    """One principal of a finding, with the condition keys that Access Analyzer says bind it."""

    kind: PrincipalKind
    value: str  # an account id, an ARN, a provider's ARN or host, or "*"
    conditions: tuple[tuple[str, str], ...] = ()
    actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One external access finding for an `AWS::IAM::Role`.

    Source: https://docs.aws.amazon.com/access-analyzer/latest/APIReference/API_GetFindingV2.html
    """

    id: str
    analyzer_arn: str
    region: str
    role_arn: str
    account: str
    status: Literal["ACTIVE", "ARCHIVED", "RESOLVED"]
    principals: tuple[ExternalPrincipal, ...]
    created_at: datetime
    updated_at: datetime
    error: str = ""  # Access Analyzer could not look at the resource


# -------------------- what the role may do


class PolicyKind(StrEnum):
    INLINE = "inline"
    CUSTOMER = "customer"  # a customer managed policy
    AWS = "aws"  # an AWS managed policy: nobody but AWS can change it


@dataclass(frozen=True, slots=True, kw_only=True)
class RolePolicy:
    """A permissions policy of a role. `text` is the document as IAM holds it, to the byte (URL-decoded)."""

    name: str
    kind: PolicyKind
    text: str
    arn: str = ""
    attachments: int = 1  # principals that a managed policy is attached to, this role among them
    boundary_uses: int = 0  # principals that it bounds
    default_version: str = ""
    versions: tuple[str, ...] = ()  # every version id, the oldest first
    oldest_text: str = ""  # where no further version fits: the document of the oldest one that is not in force
    version_created_at: datetime | None = None
    path: str = "/"
    description: str = ""
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """What tells it apart on its role: inline and managed policies may share a name."""
        return self.arn or f"inline/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """IAM's limits as `GetAccountSummary` reports them for the account; sizes in characters, white space not counted.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    """

    managed_policy_size: int = 6144
    role_policies_size: int = 10240  # a role's inline policies together
    attached_policies: int = 10
    policy_versions: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role with everything that bears on it, as read at `read_at`."""

    arn: str
    name: str
    account: str
    path: str
    role_id: str  # AROA…: the same name made anew has another one
    created_at: datetime
    trust_text: str
    policies: tuple[RolePolicy, ...]
    read_at: datetime
    description: str = ""
    boundary_arn: str = ""
    boundary_text: str = ""
    last_used_at: datetime | None = None
    last_used_region: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    quotas: Quotas = Quotas()
    stack: str = ""  # the CloudFormation stack that owns it

    def live_digest(self) -> Digest:
        """Digest of what the role may do now; see `live_digest`."""
        return live_digest(self.policies, self.role_id, self.boundary_arn)


def live_digest(policies: tuple[RolePolicy, ...], role_id: str, boundary_arn: str) -> Digest:
    """Digest of `{"boundary": ARN or "", "policies": [[key, kind, version, text], …], "role": id}`, policies sorted.

    The key is the policy's ARN, or `inline/` and its name; the kind `inline`, `customer` or `aws`; the version the id
    of the one in force, empty for an inline policy; the text the document as IAM holds it, to the byte.
    """
    return digest(
        {
            "role": role_id,
            "boundary": boundary_arn,
            "policies": sorted([p.key, p.kind.value, p.default_version, p.text] for p in policies),
        }
    )


def permissions_digest(policies: tuple[RolePolicy, ...]) -> Digest:
    """Digest of `[[key, kind, text], …]`, sorted: as `live_digest`, versions aside, what a rollback must bring back."""
    return digest(sorted([p.key, p.kind.value, p.text] for p in policies))


# -------------------- what the role did


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionUse:
    """A tracked action of a report; no time means no attempt in the tracking period."""

    action: str  # as IAM spells it, without the service: "DescribeTable"
    last_accessed: datetime | None = None
    region: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUse:
    """A service of a report, with the actions that IAM tracks for it (none: no action-level tracking)."""

    namespace: str
    name: str = ""
    last_accessed: datetime | None = None
    region: str = ""
    entity: str = ""  # ARN of who accessed it last
    actions: tuple[ActionUse, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One complete last accessed report at action level. An incomplete one is never made into this value.

    Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetServiceLastAccessedDetails.html
    """

    services: tuple[ServiceUse, ...]
    made_at: datetime  # JobCompletionDate
    tracking_days: int = 400
    role_arn: str = ""
    role_created_at: datetime | None = None

    def digest(self) -> Digest:
        """Digest of `[[namespace, time or null, [[action, time or "", Region or ""], …]], …]`, all sorted.

        A time is in UTC, `2026-01-31T09:00:00+00:00`, with six digits of a second where it has a fraction. When the
        report was made is left out: two looks at an idle role are the same evidence.
        """
        return digest(
            [
                [
                    s.namespace,
                    _iso(s.last_accessed),
                    sorted([a.action, _iso(a.last_accessed) or "", a.region] for a in s.actions),
                ]
                for s in sorted(self.services, key=lambda s: s.namespace)
            ]
        )


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


# -------------------- a proposal


class Mode(StrEnum):
    SAFE = "safe"
    STRICT = "strict"


class Verdict(StrEnum):
    """Why an action is kept or dropped; the order is that of the table in the policy engine's contract."""

    USED = "used"
    PROTECTED = "protected"
    STALE = "stale"
    UNUSED = "unused"
    NEEDED = "needed"
    NOT_NEEDED = "not needed"
    INVISIBLE = "invisible"
    SERVICE_UNUSED = "service unused"
    UNTRACKED = "untracked"
    UNKNOWN = "unknown"


class AccessLevel(StrEnum):
    """AWS's own access levels, as the service authorization reference has them."""

    LIST = "List"
    READ = "Read"
    WRITE = "Write"
    PERMISSIONS = "Permissions management"
    TAGGING = "Tagging"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimSettings:
    """What the engine is told beside policies and evidence."""

    mode: Mode = Mode.SAFE
    window_days: int = 90
    keep: tuple[str, ...] = ()  # action patterns that are always kept
    keep_by_hand: tuple[str, ...] = ()  # actions kept for this one proposal
    max_report_age_hours: int = 24
    refuse: tuple[str, ...] = ()  # warning codes that make a refusal
    quotas: Quotas = Quotas()
    now: datetime  # passed in: the engine has no clock


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionVerdict:
    """One granted action, its one verdict, and whether the proposal keeps it."""

    action: str  # "dynamodb:DescribeTable"
    verdict: Verdict
    kept: bool
    reason: str  # one sentence for people
    level: AccessLevel = AccessLevel.UNKNOWN
    last_accessed: datetime | None = None
    region: str = ""
    sensitive: str = ""  # why its removal deserves a second look; empty where it does not
    policies: tuple[str, ...] = ()  # names of the policies that grant it


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSummary:
    namespace: str
    name: str
    last_accessed: datetime | None
    granted: int
    kept: int
    tracked: int  # how many of the granted actions IAM tracks
    region: str = ""


class Outcome(StrEnum):
    UNCHANGED = "unchanged"
    TRIMMED = "trimmed"
    REMOVED = "removed"
    SPLIT = "split"
    GIVEN_BACK = "given back"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOutcome:
    """What becomes of one old policy. A split, and a give-back, can yield several outcomes with the same `source`."""

    name: str  # of the new policy; the old one's, or derived from it for parts of a split
    kind: PolicyKind
    source: str  # RolePolicy.key of the old policy
    outcome: Outcome
    tier: int  # 1 explicit names … 5 infix patterns; 0 where nothing was written
    text: str | None  # the new document; None where the policy goes
    characters: int  # as IAM counts, white space aside


@dataclass(frozen=True, slots=True, kw_only=True)
class Warning_:  # noqa: N801  # the builtin keeps its name
    """Something a person must see before saying yes; codes are stable, messages are for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the checker found; `problems` is empty exactly where both hold."""

    no_new_access: bool
    nothing_used_lost: bool
    problems: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return self.no_new_access and self.nothing_used_lost and not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Trim:
    """The engine's answer: documents, a verdict per granted action, warnings and the proof."""

    policies: tuple[PolicyOutcome, ...]
    actions: tuple[ActionVerdict, ...]  # sorted by action
    services: tuple[ServiceSummary, ...]  # sorted by namespace
    warnings: tuple[Warning_, ...]
    proof: Proof

    @property
    def granted(self) -> int:
        return len(self.actions)

    @property
    def kept(self) -> int:
        return sum(a.kept for a in self.actions)

    @property
    def removed(self) -> int:
        return self.granted - self.kept

    @property
    def changes(self) -> bool:
        return any(p.outcome is not Outcome.UNCHANGED for p in self.policies)

    def documents_digest(self) -> Digest:
        """Digest of `[[key of the old policy, name, kind, outcome, text or null], …]`, in the proposal's order.

        These are all the documents that it would write or leave; null is a policy that goes.
        """
        return digest([[p.source, p.name, p.kind.value, p.outcome.value, p.text] for p in self.policies])


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBack:
    """What a proposal gives back of what a change took away, and to which policies."""

    change: ChangeId  # the one that took it away: nothing is given that its snapshot did not grant
    actions: tuple[str, ...]
    # `source` of each outcome that stems from a policy which the change touched, with that policy's key.
    origin: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A trim of one role at one moment, or a give-back of a part of one, stored whole, approved by its digest.

    Of a give-back, `trim` has the verdicts of what the snapshot granted, and the documents for the live policies.
    """

    id: ProposalId
    case_id: CaseId
    role: Role  # the live policies it starts from
    evidence: Evidence
    settings: TrimSettings
    trim: Trim
    proposed_by: UserId
    proposed_at: datetime
    supersedes: ProposalId | None = None
    reason: str = ""  # why it was adjusted, in the words of whoever asked for it
    give_back: GiveBack | None = None

    @property
    def live_digest(self) -> Digest:
        return self.role.live_digest()

    @property
    def change_id(self) -> ChangeId:
        """The id of the change that carries it out: one proposal is applied once, whoever starts it."""
        return ChangeId(f"{self.id}-apply")

    @property
    def removed(self) -> int:
        """How many actions it takes away; of a give-back, less than none."""
        return -len(self.give_back.actions) if self.give_back is not None else self.trim.removed

    def gives(self) -> dict[str, str]:
        """Return what the audit log is told of a give-back; of all else nothing."""
        return {"give_back": " ".join(self.give_back.actions)} if self.give_back is not None else {}

    def must_keep(self) -> tuple[str, ...]:
        """What a change has to go on allowing, wherever it was allowed."""
        kept = {Verdict.USED, Verdict.PROTECTED}
        return tuple(a.action for a in self.trim.actions if a.verdict in kept)

    def digest(self) -> Digest:
        """What an approval names: the role, the live policies, the evidence and the documents; and what is given."""
        parts = [self.role.arn, self.live_digest, self.evidence.digest(), self.trim.documents_digest()]
        if self.give_back is not None:
            parts += [self.give_back.change, *self.give_back.actions]
        return digest(parts)


# -------------------- a case and its end


class CaseState(StrEnum):
    NEW = "new"
    WORKING = "working"  # reading evidence, making a proposal
    CANNOT_TELL = "cannot_tell"  # the evidence failed one of its tests
    WAITING = "waiting"  # for approval
    STALE = "stale"
    APPLYING = "applying"
    WATCHING = "watching"  # applied and verified, still under watch
    DONE = "done"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    DECLINED = "declined"
    EXPIRED = "expired"
    SNOOZED = "snoozed"
    ACCEPTED = "accepted"
    RESOLVED = "resolved"  # the findings ended at AWS
    NOTHING = "nothing"  # nothing to trim: everything is in use, or cannot be known


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A Slack user as `users.info` tells it, at the moment of the click.

    Source: https://docs.slack.dev/reference/objects/user-object
    """

    id: UserId
    name: str
    team: str
    deleted: bool = False
    bot: bool = False
    guest: bool = False
    stranger: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A person's yes to one proposal's digest."""

    proposal_id: ProposalId
    digest: Digest
    by: UserId
    at: datetime
    reason: str = ""


class StepState(StrEnum):
    PLANNED = "planned"
    STARTED = "started"  # on disk before the write is sent
    DONE = "done"
    UNDONE = "undone"


class StepKind(StrEnum):
    """The only writes there are."""

    CREATE_POLICY = "create_policy"
    CREATE_VERSION = "create_version"  # new default version
    DELETE_VERSION = "delete_version"  # makes room; its document is in the journal
    SET_DEFAULT_VERSION = "set_default_version"
    ATTACH = "attach"
    DETACH = "detach"
    PUT_INLINE = "put_inline"
    DELETE_INLINE = "delete_inline"
    DELETE_POLICY = "delete_policy"  # only ever one that Refine itself made


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One journalled write. `before` is the full document that it replaces: on disk before the step runs."""

    number: int
    kind: StepKind
    policy_name: str
    policy_arn: str = ""
    text: str = ""  # what it writes
    before: str = ""  # what was there
    version: str = ""  # the version it makes default, deletes, or made (known after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The ordered writes that carry out an approved proposal, or take one back."""

    id: ChangeId
    case_id: CaseId
    proposal_id: ProposalId
    kind: Literal["apply", "rollback"]
    role_arn: str
    steps: tuple[Step, ...]
    by: UserId
    at: datetime
    before: Role  # the snapshot
    expected: Digest  # permissions_digest once it is done
    undoes: ChangeId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A check around a change, and what came of it; where it was not made, why."""

    name: str  # whose it is: AWS's operation, or Refine's checker
    made: bool
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One externally accessible role from its first finding to its end: all that a card or a view is drawn from."""

    id: CaseId
    role_arn: str
    account: str
    state: CaseState
    revision: int  # grows by one with every change of state; a button of an older revision is stale
    opened_at: datetime
    updated_at: datetime
    findings: tuple[Finding, ...] = ()  # empty where somebody asked by name for a role without a finding
    role: Role | None = None  # as last read
    evidence: Evidence | None = None
    proposal: Proposal | None = None  # the latest
    approvals: tuple[Approval, ...] = ()  # of that proposal
    approvals_needed: int = 1
    change: Change | None = None  # the latest
    steps_done: int = 0
    channel: str = ""
    thread_ts: str = ""  # of the card: the thread's root
    asked_by: UserId = UserId("")  # who moved it to its state
    reason: str = ""  # the reason they gave
    sentence: str = ""  # what a person must know: why it failed, what is in force now, what to do next
    until: datetime | None = None  # snoozed or accepted until, a proposal's expiry, the end of a watch
    resume: CaseState | None = None  # the state to go back to after WORKING where nothing comes of it
    # Canonical JSON of what WORKING works on ({"do": "propose", "mode": …}), so that it can be resumed, or of what was
    # accepted ({"do": "accept", "owner": …}).
    task: str = ""

    @property
    def role_name(self) -> str:
        return self.role_arn.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who did what to which case, when, on which digests; chained by HMAC in the store."""

    seq: int
    at: datetime
    who: UserId
    what: str
    case_id: CaseId | None
    detail: tuple[tuple[str, str], ...] = field(default=())
    mac: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What came of the work within a span of time, or in all."""

    opened: int = 0  # cases
    closed: int = 0  # cases that are resolved at AWS, accepted, or trimmed and past their watch
    trimmed: int = 0  # changes in force
    removed: int = 0  # actions that those took away
    rolled_back: int = 0  # changes
