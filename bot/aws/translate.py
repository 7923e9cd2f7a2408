"""AWS's and botocore's errors, translated in this one place. What is not known here is never taken for a refusal.

The question that matters is what became of a write: refused (nothing changed), never sent (nothing changed), or
unknown. Only an answer from AWS below 500, or an error from before the connection stood, is proof that nothing changed.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import aiohttp
from botocore import exceptions as boto

from bot.errors import (
    DeniedError,
    NotFoundError,
    RefineError,
    RefusedError,
    ThrottledError,
    UnavailableError,
    UnknownOutcomeError,
)

# Source of the codes: botocore.retries.standard, and
# https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html
THROTTLED: Final = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "SlowDown",
        "EC2ThrottledException",
    }
)
DENIED: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "NotAuthorized",
        "AuthorizationError",
        "RegionDisabledException",
        "OptInRequired",
    }
)
# The bot's own credentials are not accepted: no word about the request, and a renewal heals it.
CREDENTIALS: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "IncompleteSignature",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "AuthFailure",
    }
)
NOT_FOUND: Final = frozenset({"NoSuchEntity", "NoSuchEntityException", "ResourceNotFoundException"})
# Another request has the very thing in hand: refused, and worth another try in a moment.
# Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutRolePolicy.html
BUSY: Final = frozenset({"EntityTemporarilyUnmodifiable", "ConcurrentModification"})
# AWS gave up on the request half-way: whatever the status is, nobody knows.
UNFINISHED: Final = frozenset(
    {"RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete", "ServiceFailure", "InternalFailure"}
)

_NO_CREDENTIALS: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.MetadataRetrievalError,
    boto.TokenRetrievalError,
    boto.NoAuthTokenError,
    boto.SSOError,
    boto.LoginError,
    boto.RefreshWithMFAUnsupportedError,
    boto.UnknownCredentialError,
)
_NOT_REACHED: Final = (boto.ConnectTimeoutError, boto.ProxyConnectionError, boto.SSLError)
_NEVER_SENT: Final = (
    boto.ParamValidationError,
    boto.BaseEndpointResolverError,
    boto.EndpointProviderError,
    boto.InvalidConfigError,
    boto.ConfigParseError,
    boto.ProfileNotFound,
    boto.InvalidRegionError,
    boto.InvalidProxiesConfigError,
)
_BY_AWS: Final = (boto.BotoCoreError, boto.ClientError, aiohttp.ClientError, OSError)


@contextmanager
def translated(action: str, account: str = "", *, writing: bool = False) -> Iterator[None]:
    """Raise what the block raises as an error of `bot.errors`; `action` is what IAM calls that which is done.

    A write's whole block is translated: whatever goes wrong after it was sent leaves its outcome unknown.
    """
    try:
        yield
    except RefineError:
        raise
    except Exception as error:
        if not writing and not isinstance(error, _BY_AWS):
            raise
        # The cause is left out: botocore's own texts may repeat parameters.
        raise translate(error, action, account, writing=writing) from None


def translate(error: Exception, action: str, account: str = "", *, writing: bool = False) -> RefineError:
    """Return the error of ours that tells the same; never one that says more than is known."""
    if isinstance(error, boto.ClientError):
        return _answer(error, action, account, writing=writing)
    if isinstance(error, _NO_CREDENTIALS):
        return UnavailableError(
            f"The bot has no AWS credentials ({type(error).__name__}), so {action} was not called.",
            "Give it a role, a profile or keys, as for the AWS CLI.",
        )
    if isinstance(error, _NEVER_SENT):
        return RefusedError(
            f"{action} could not be sent ({type(error).__name__}), so nothing was changed.",
            "Check the AWS settings: Region, profile, endpoint.",
        )
    if isinstance(error, _NOT_REACHED) or _never_connected(error):
        return UnavailableError(f"AWS could not be reached for {action}.", "Check the network; Refine tries again.")
    if writing:
        return UnknownOutcomeError(
            f"{action} was sent and AWS gave no answer ({type(error).__name__}).", "Read back what is in force."
        )
    return UnavailableError(f"AWS did not answer {action} ({type(error).__name__}).", "Refine tries again.")


def _answer(error: boto.ClientError, action: str, account: str, *, writing: bool) -> RefineError:
    code = _code(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    where = f" in account {account}" if account else ""
    if code in THROTTLED or status == 429:
        return ThrottledError(f"AWS asks to slow down: {action}{where} was throttled.", "Try again in a minute.")
    if code.removesuffix("Exception") in BUSY:
        return ThrottledError(
            f"AWS is busy with what {action}{where} was about ({code}), so nothing was changed.", "Refine tries again."
        )
    if code in CREDENTIALS:
        return UnavailableError(
            f"AWS does not accept the bot's credentials ({code}), so {action} was not done.", "Renew them."
        )
    if code in DENIED or status == 403:
        return DeniedError(
            f"AWS denied {action}{where} to Refine.", "Allow it to Refine's role: deploy/ holds the policies."
        )
    if code in NOT_FOUND or status == 404:
        return NotFoundError(f"AWS does not know what {action}{where} was about ({code}).", "It may be deleted.")
    if 400 <= status < 500 and code not in UNFINISHED:
        return RefusedError(f"AWS refused {action}{where} ({code}): {_message(error)}", "Nothing was changed by it.")
    if writing:
        return UnknownOutcomeError(
            f"{action}{where} was sent and AWS answered with an error of its own ({code}).",
            "Read back what is in force.",
        )
    return UnavailableError(f"AWS answered {action}{where} with an error of its own ({code}).", "Refine tries again.")


def _code(error: boto.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code") or "no code")


def _message(error: boto.ClientError) -> str:
    text = " ".join(str(error.response.get("Error", {}).get("Message") or "no reason given").split())
    text = text if len(text) <= 300 else f"{text[:299]}…"
    return text if text.endswith((".", "…", "!", "?")) else f"{text}."


def _never_connected(error: Exception) -> bool:
    # aiobotocore raises EndpointConnectionError for a connection that was reset after the request was sent, too: only
    # aiohttp's own error, inside, tells whether it ever stood.
    cause: Any = error.kwargs.get("error") if isinstance(error, boto.BotoCoreError) else error
    return isinstance(cause, aiohttp.ClientConnectorError | socket.gaierror)
