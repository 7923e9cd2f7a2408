"""Every error there is. `str(error)` is one plain sentence for a person; `next_step` says what they can do about it."""

from __future__ import annotations


class RefineError(Exception):
    """The base: a sentence for people, a next step for people, and nothing secret in either."""

    code = "error"

    def __init__(self, sentence: str, next_step: str = "") -> None:
        super().__init__(sentence)
        self.next_step = next_step

    @property
    def sentence(self) -> str:
        return str(self)

    def say(self) -> str:
        """Return the sentence and the next step as one line of text."""
        return f"{self.sentence} {self.next_step}".strip()


class ConfigError(RefineError):
    """A setting is missing or wrong; the sentence names the variable."""

    code = "config"


class InputError(RefineError):
    """A file or argument of the command line cannot be read; the sentence names the file and the place in it."""

    code = "input"


class PolicyError(RefineError):
    """A policy document is not one that IAM would take, or cannot be trimmed at all."""

    code = "policy"


class TooBigError(PolicyError):
    """The kept permissions do not fit within IAM's quotas, in any tier."""

    code = "too_big"


class ProofError(RefineError):
    """The checker refused a proposal of the engine: a bug, never the user's fault."""

    code = "proof"


class NoEvidenceError(RefineError):
    """The last accessed report failed, timed out or was not complete: nothing may be called unused."""

    code = "no_evidence"


class NotFoundError(RefineError):
    """AWS, or the store, does not know the thing."""

    code = "not_found"


class DeniedError(RefineError):
    """AWS refused the call for want of permission; the sentence names the action."""

    code = "aws_denied"


class ThrottledError(RefineError):
    """AWS or Slack asked to slow down, or to come back, longer than we were ready to wait: nothing was changed."""

    code = "throttled"


class RefusedError(RefineError):
    """AWS refused a request for what was in it; nothing was changed."""

    code = "aws_refused"


class UnknownOutcomeError(RefineError):
    """A write was sent and no answer came: read back before anything else."""

    code = "unknown_outcome"


class UnavailableError(RefineError):
    """AWS cannot be reached or answers with server errors; a read, so nothing changed."""

    code = "unavailable"


class NotAllowedError(RefineError):
    """A rule forbids this person, or this moment, the action; the sentence says which."""

    code = "not_allowed"


class LimitError(NotAllowedError):
    """As many changes began within the last hour as may begin in one."""

    code = "limit"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} changes started within the last hour, which is the limit.",
            "Wait, or raise REFINE_CHANGES_PER_HOUR.",
        )


class StaleError(RefineError):
    """The world moved since the person looked: the live policy, the evidence, or a button of an older card."""

    code = "stale"


class LostRaceError(StaleError):
    """Somebody else decided first; the sentence says who and when."""

    code = "lost_race"


class StoreError(RefineError):
    """The database is away, full or locked: nothing was recorded, or the sentence says that nobody knows."""

    code = "store"
