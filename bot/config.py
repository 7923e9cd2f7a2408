"""All settings, typed, read once from the environment. An error names the variable and says what would be right."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bot.errors import ConfigError
from bot.model import Mode


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


S = TypeVar("S", bound=BaseSettings)
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class StoreSettings(BaseSettings):
    """The settings of what is stored: all that the commands over it need."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, case_sensitive=False)

    refine_data_dir: Path = Field(Path("var"), description="Where the SQLite database and the audit key are kept.")
    refine_database_url: SecretStr | None = Field(
        None,
        description="`postgresql://user:password@host/database` for several replicas; default: a SQLite file in the "
        "data directory.",
    )
    refine_audit_key: SecretStr | None = Field(
        None,
        description="Key of the audit chain; default: a file made in the data directory. Replicas need the same one.",
    )

    def audit_key(self) -> bytes:
        """Return the audit key, made on first use with mode 0600 where none is set: it must not be in the database.

        Raises:
            ConfigError: the file is empty, or gone while the database that was written with it is there.
        """
        if self.refine_audit_key is not None:
            return self.refine_audit_key.get_secret_value().encode()
        try:
            self.refine_data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(
                f"REFINE_DATA_DIR names a folder that cannot be made: {error.strerror}.",
                "Set it to one that this user may write to.",
            ) from None
        path = self.refine_data_dir / "audit.key"
        # In this order: another process that starts just now makes the key before the database.
        if (self.refine_data_dir / "bot.db").exists() and not path.exists():
            raise ConfigError(
                f"The audit key file {path.name} is gone from REFINE_DATA_DIR, and the database there was written with "
                "it: with a new key its audit log would look forged.",
                "Restore the file from your backup, or set REFINE_AUDIT_KEY to what was in it.",
            )
        with (
            suppress(FileExistsError),
            os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
        ):
            file.write(secrets.token_hex(32).encode() + b"\n")
        key = path.read_bytes().strip()
        if not key:
            raise ConfigError(
                f"The audit key file {path.name} in REFINE_DATA_DIR is empty.", "Restore it from your backup."
            )
        return key

    def database_url(self) -> str:
        if self.refine_database_url is not None:
            return self.refine_database_url.get_secret_value()
        return f"sqlite:///{self.refine_data_dir / 'bot.db'}"


class Settings(StoreSettings):
    """Every setting, by the name of its environment variable. Lists are separated by commas."""

    slack_bot_token: SecretStr = Field(description="The bot token of the Slack app (`xoxb-…`).")
    slack_app_token: SecretStr | None = Field(
        None, description="The app-level token (`xapp-…`) for Socket Mode. Without it Refine listens for signed HTTP."
    )
    slack_signing_secret: SecretStr | None = Field(
        None, description="The signing secret: needed for signed HTTP, where there is no app-level token."
    )
    slack_api_url: str = Field("https://slack.com/api/", description="Base URL of Slack's Web API.")

    refine_channel: str = Field(description="Id of the channel that the cards go to (`C…`). Invite the bot to it.")
    refine_approvers: Words = Field(
        (), description="Who may approve: ids of users (`U…`) and user groups (`S…`). Empty means nobody."
    )
    refine_approvals_needed: int = Field(1, ge=1, le=10, description="How many approvers have to say yes.")
    refine_four_eyes: bool = Field(True, description="Whether the proposer may not approve their own proposal.")
    refine_rollback_four_eyes: bool = Field(
        False,
        description="Whether two approvers have to press Roll back, the second within `REFINE_EXPIRY_HOURS`. Off: one "
        "is enough, because a rollback must be quick.",
    )
    refine_check_no_new_access: bool = Field(
        True,
        description="Whether AWS compares old and new documents before a write (CheckNoNewAccess, which AWS bills for "
        "each changed policy). Refine's own proof is made in any case.",
    )

    refine_mode: Mode = Field(
        Mode.SAFE, description="`safe` keeps what IAM cannot tell about, `strict` keeps only what was seen."
    )
    refine_window_days: int = Field(90, ge=1, le=400, description="An action used within this many days is kept.")
    refine_keep: Words = Field((), description="Action patterns that are always kept, such as `s3:Get*`.")
    refine_refuse: Words = Field(
        (), description="Warning codes that make a refusal, such as `role_too_young` (see `refine trim --help`)."
    )
    refine_max_report_age_hours: int = Field(24, ge=1, le=720, description="An older report is read anew.")
    refine_expiry_hours: int = Field(24, ge=1, le=720, description="A proposal nobody approved by then expires.")
    refine_reminder_hours: int = Field(
        4,
        ge=1,
        le=720,
        description="When to remind the thread of a waiting proposal; each further pause is twice as long.",
    )
    refine_watch_hours: int = Field(72, ge=1, le=720, description="How long an applied change stays under watch.")
    refine_changes_per_hour: int = Field(20, ge=1, le=1000, description="No more changes than this start in an hour.")
    refine_protected_roles: Words = Field(
        (),
        description="Patterns of roles that are never touched: of names (`prod-*`) or, with a slash, of paths "
        "(`/prod/*`).",
    )
    refine_protected_tag: str = Field("refine:protected", description="A role with this tag is never touched.")

    refine_regions: Words = Field((), description="Regions to look for analyzers in; default: the session's own.")
    refine_analyzers: Words = Field((), description="ARNs of the analyzers to read; default: every active one found.")
    refine_member_role: str = Field("RefineMember", description="Name of the role assumed in member accounts.")
    refine_external_id: SecretStr | None = Field(None, description="External id for assuming that role.")
    refine_poll_seconds: int = Field(300, ge=1, description="How often Access Analyzer is asked for findings.")
    refine_settle_seconds: float = Field(20, ge=0, description="How long to wait for IAM's reads to follow a write.")
    refine_report_timeout_seconds: int = Field(600, ge=1, description="How long to wait for a last accessed report.")
    refine_burst: int = Field(
        10, ge=1, le=100, description="More new roles than this at once are posted as one summary and the worst cards."
    )
    refine_burst_cards: int = Field(
        10, ge=0, description="How many cards, the worst first, follow such a summary; the others come on demand."
    )

    refine_post_seconds: float = Field(
        1.0, ge=0, le=60, description="Seconds between two posts to one channel: Slack takes about one a second."
    )

    refine_port: int = Field(
        8080, ge=0, le=65535, description="Port of `/healthz`, `/readyz`, `/metrics`, and of `/slack/events` for HTTP."
    )
    refine_log: str = Field("json", pattern="^(json|text)$", description="`json`, or `text` for a terminal.")
    refine_log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="What is logged.")


def read_settings(**overrides: Any) -> Settings:
    """Return the settings of the environment.

    Raises:
        ConfigError: with one sentence for each variable that is missing or wrong; values are not repeated, for they
            may be secrets.
    """
    settings = _read(Settings, overrides)
    if settings.slack_app_token is None and settings.slack_signing_secret is None:
        raise ConfigError(
            "Neither SLACK_APP_TOKEN nor SLACK_SIGNING_SECRET is set.",
            "Set the first for Socket Mode, or the second for signed HTTP.",
        )
    return settings


def read_store_settings() -> StoreSettings:
    """Return the settings of the environment that are about what is stored; raises ConfigError as `read_settings`."""
    return _read(StoreSettings, {})


def _read(kind: type[S], overrides: dict[str, Any]) -> S:
    try:
        return kind(**overrides)
    except ValidationError as error:
        problems = []
        for each in error.errors(include_input=False, include_url=False):
            name = str(each["loc"][0]).upper() if each["loc"] else "?"
            if each["type"] == "missing":
                problems.append(f"{name} is not set.")
            else:
                problems.append(f"{name} is wrong: {each['msg'].lower()}.")
        raise ConfigError(" ".join(problems), "The README lists every setting.") from None
