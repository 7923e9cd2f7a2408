"""Every error that botocore can raise, held against what the gateway makes of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from string import Formatter

import aiohttp
import botocore.session
import pytest
from aiohttp.client_reqrep import ConnectionKey
from botocore import exceptions as boto

from bot import errors
from bot.aws.permissions import PERMISSIONS
from bot.aws.translate import translate, translated

NOTHING_SENT = {
    # before the connection stood
    "ConnectTimeoutError": errors.UnavailableError,
    "ProxyConnectionError": errors.UnavailableError,
    "SSLError": errors.UnavailableError,
    # no credentials to sign with
    "NoCredentialsError": errors.UnavailableError,
    "PartialCredentialsError": errors.UnavailableError,
    "CredentialRetrievalError": errors.UnavailableError,
    "MetadataRetrievalError": errors.UnavailableError,
    "TokenRetrievalError": errors.UnavailableError,
    "NoAuthTokenError": errors.UnavailableError,
    "SSOError": errors.UnavailableError,
    "SSOTokenLoadError": errors.UnavailableError,
    "UnauthorizedSSOTokenError": errors.UnavailableError,
    "LoginError": errors.UnavailableError,
    "LoginAuthorizationCodeError": errors.UnavailableError,
    "LoginInsufficientPermissions": errors.UnavailableError,
    "LoginRefreshRequired": errors.UnavailableError,
    "LoginTokenLoadError": errors.UnavailableError,
    "RefreshWithMFAUnsupportedError": errors.UnavailableError,
    "UnknownCredentialError": errors.UnavailableError,
    # refused by botocore itself
    "ParamValidationError": errors.RefusedError,
    "BaseEndpointResolverError": errors.RefusedError,
    "EndpointVariantError": errors.RefusedError,
    "NoRegionError": errors.RefusedError,
    "UnknownEndpointError": errors.RefusedError,
    "UnknownFIPSEndpointError": errors.RefusedError,
    "EndpointProviderError": errors.RefusedError,
    "EndpointResolutionError": errors.RefusedError,
    "UnknownEndpointResolutionBuiltInName": errors.RefusedError,
    "InvalidConfigError": errors.RefusedError,
    "InfiniteLoopConfigError": errors.RefusedError,
    "ConfigParseError": errors.RefusedError,
    "ProfileNotFound": errors.RefusedError,
    "InvalidRegionError": errors.RefusedError,
    "InvalidProxiesConfigError": errors.RefusedError,
}


def botocore_errors() -> list[type[boto.BotoCoreError]]:
    return sorted(
        {
            each
            for _, each in inspect.getmembers(boto, inspect.isclass)
            if issubclass(each, boto.BotoCoreError) and each.__module__ == boto.__name__
        },
        key=lambda each: each.__name__,
    )


def an(each: type[boto.BotoCoreError], **more: object) -> boto.BotoCoreError:
    fields = {name: "xoxb-secret" for _, name, _, _ in Formatter().parse(each.fmt) if name}
    if each is boto.WaiterError:
        fields["last_response"] = "xoxb-secret"
    return each(**{name.split(".")[0].split("[")[0]: value for name, value in fields.items()} | more)


@pytest.mark.parametrize("each", botocore_errors(), ids=lambda each: each.__name__)
def test_a_write_is_unknown_unless_it_is_proved_that_nothing_was_sent(each: type[boto.BotoCoreError]) -> None:
    answer = translate(an(each), "iam:PutRolePolicy", writing=True)
    assert type(answer) is NOTHING_SENT.get(each.__name__, errors.UnknownOutcomeError)


@pytest.mark.parametrize("each", botocore_errors(), ids=lambda each: each.__name__)
def test_a_read_is_never_of_unknown_outcome_and_tells_no_parameter(each: type[boto.BotoCoreError]) -> None:
    answer = translate(an(each), "iam:GetRole", "123456789012")
    assert type(answer) in {errors.UnavailableError, errors.RefusedError}
    assert "secret" not in answer.say()
    assert "iam:GetRole" in answer.sentence
    assert answer.next_step


def test_the_table_names_no_error_that_botocore_does_not_have() -> None:
    assert NOTHING_SENT.keys() <= {each.__name__ for each in botocore_errors()}


def modelled() -> Iterator[tuple[str, str, str, int]]:
    session = botocore.session.get_session()
    for each in PERMISSIONS:
        operation = session.get_service_model(each.service).operation_model(each.operation)
        for shape in operation.error_shapes:
            error = shape.metadata.get("error", {})
            yield each.service, each.operation, shape.error_code, error["httpStatusCode"]


EXPECTED = {
    "NoSuchEntity": errors.NotFoundError,
    "ResourceNotFoundException": errors.NotFoundError,
    "AccessDeniedException": errors.DeniedError,
    "RegionDisabledException": errors.DeniedError,
    "ThrottlingException": errors.ThrottledError,
    "ConcurrentModification": errors.ThrottledError,
    "ExpiredTokenException": errors.UnavailableError,
    "ServiceFailure": errors.UnknownOutcomeError,
    "PolicyEvaluation": errors.UnknownOutcomeError,
    "InternalServerException": errors.UnknownOutcomeError,
    **dict.fromkeys(
        (
            "InvalidInput",
            "InvalidParameterException",
            "UnprocessableEntityException",
            "MalformedPolicyDocument",
            "LimitExceeded",
            "EntityAlreadyExists",
            "UnmodifiableEntity",
            "PolicyNotAttachable",
            "DeleteConflict",
            "ValidationException",
            "PackedPolicyTooLarge",
            "PackedPolicyTooLargeException",
        ),
        errors.RefusedError,
    ),
}


@pytest.mark.parametrize(("service", "operation", "code", "status"), sorted(set(modelled())))
def test_every_error_in_the_models_of_the_calls_has_its_place(
    service: str, operation: str, code: str, status: int
) -> None:
    """A new error in botocore's models of what the gateway calls fails here until somebody has thought about it."""
    error = client_error(code, status)
    wanted = EXPECTED[code]
    assert type(translate(error, operation, writing=True)) is wanted
    reading = errors.UnavailableError if wanted is errors.UnknownOutcomeError else wanted
    assert type(translate(error, operation)) is reading


@pytest.mark.parametrize(
    ("code", "status", "wanted"),
    [
        # https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html
        ("Throttling", 400, errors.ThrottledError),
        ("ThrottlingException", 400, errors.ThrottledError),
        ("SlowDown", 503, errors.ThrottledError),
        ("TooManyRequests", 429, errors.ThrottledError),
        ("EntityTemporarilyUnmodifiable", 409, errors.ThrottledError),
        ("ConcurrentModificationException", 409, errors.ThrottledError),
        ("AccessDenied", 403, errors.DeniedError),
        ("SomethingNew", 403, errors.DeniedError),
        ("OptInRequired", 403, errors.DeniedError),
        ("InvalidClientTokenId", 403, errors.UnavailableError),
        ("ExpiredToken", 403, errors.UnavailableError),
        ("SignatureDoesNotMatch", 403, errors.UnavailableError),
        ("RequestExpired", 400, errors.UnavailableError),
        ("ValidationError", 400, errors.RefusedError),
        ("InternalFailure", 500, errors.UnknownOutcomeError),
        ("ServiceUnavailable", 503, errors.UnknownOutcomeError),
        ("RequestTimeout", 400, errors.UnknownOutcomeError),
        ("ServiceFailure", 400, errors.UnknownOutcomeError),
        ("500", 500, errors.UnknownOutcomeError),
        ("MovedPermanently", 301, errors.UnknownOutcomeError),
        ("Unheard", 0, errors.UnknownOutcomeError),
    ],
)
def test_a_write_that_aws_answered(code: str, status: int, wanted: type[errors.RefineError]) -> None:
    assert type(translate(client_error(code, status), "iam:PutRolePolicy", writing=True)) is wanted


def client_error(code: str, status: int, message: str = "no") -> boto.ClientError:
    return boto.ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Any"
    )


def test_a_refusal_repeats_what_aws_said_on_one_line_and_cut() -> None:
    answer = translate(
        client_error("MalformedPolicyDocument", 400, "Syntax\n  errors " + "x" * 500), "iam:CreatePolicy"
    )
    assert answer.sentence.startswith("AWS refused iam:CreatePolicy (MalformedPolicyDocument): Syntax errors xxx")
    assert len(answer.sentence) < 400


def test_an_endpoint_error_proves_nothing_where_the_connection_had_stood() -> None:
    """aiobotocore raises EndpointConnectionError for both: only the error inside tells them apart."""
    key = ConnectionKey("iam.amazonaws.com", 443, True, True, None, None, None)
    refused = an(boto.EndpointConnectionError, error=aiohttp.ClientConnectorError(key, OSError(111, "refused")))
    reset = an(boto.EndpointConnectionError, error=aiohttp.ClientOSError(104, "Connection reset by peer"))
    assert type(translate(refused, "iam:PutRolePolicy", writing=True)) is errors.UnavailableError
    assert type(translate(reset, "iam:PutRolePolicy", writing=True)) is errors.UnknownOutcomeError


def test_our_own_mistakes_are_not_taken_for_news_of_aws_when_reading() -> None:
    with pytest.raises(KeyError), translated("iam:GetRole"):
        raise KeyError("bug")


def test_whatever_goes_wrong_around_a_write_leaves_it_unknown() -> None:
    with pytest.raises(errors.UnknownOutcomeError), translated("iam:PutRolePolicy", writing=True):
        raise KeyError("bug")
