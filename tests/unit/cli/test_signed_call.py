"""What commands do about a server that is busy, and how they call themselves."""

from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from tests.unit.cli.canned import served
from whimbrel.cli import signed_call
from whimbrel.cli.refusals import refuse
from whimbrel.cli.report import ExitCode
from whimbrel.core.errors import Kind

BUSY = (
    503,
    b"<ErrorResponse><Error><Code>ServiceUnavailable</Code><Message>x</Message></Error></ErrorResponse>",
)
THROTTLED = (
    400,
    b"<ErrorResponse><Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>",
)
KMS_THROTTLED = (400, b'{"__type": "ThrottlingException", "message": "Rate exceeded"}')
USERS = (200, b"<R><ListUsersResult><Users/></ListUsersResult></R>")
MADE = (200, b"<R><CreateUserResult><User><UserName>a</UserName></User></CreateUserResult></R>")
KEYS = (200, b'{"Keys": [], "Truncated": false}')


@contextmanager
def answering(*answers):
    """Runs a server that gives these answers in turn, the last one for ever; yields it with its requests' headers."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            status, body = answers[min(len(self.server.asked), len(answers) - 1)]
            self.server.asked.append(self.headers)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with served(Handler) as server:
        yield server


class Waits:
    """In place of waiting: keeps how long was to be waited."""

    asked: list[float]

    def wait(self, duration_s):
        """Notes it."""
        Waits.asked.append(duration_s)


@pytest.fixture
def run(whimbrel, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDTESTS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-tests-only-0123456789")
    monkeypatch.setattr(signed_call, "Event", Waits)
    Waits.asked = []

    def run(server, *arguments):
        url = f"http://127.0.0.1:{server.server_port}"
        return whimbrel(*arguments, "--endpoint-url", url)

    return run


@pytest.mark.parametrize(
    ("answers", "arguments"),
    [
        ((THROTTLED, BUSY, USERS), ("iam", "user", "list")),
        ((THROTTLED, THROTTLED, MADE), ("iam", "user", "create", "a")),
        ((KMS_THROTTLED, (429, b"{}"), KEYS), ("kms", "list")),
    ],
)
def test_a_busy_server_is_asked_again_after_longer_and_longer(run, answers, arguments):
    with answering(*answers) as server:
        assert run(server, *arguments).code == 0
        assert len(server.asked) == 3
    first, second = Waits.asked
    assert 0 < first <= second


def test_what_creates_is_not_done_twice_where_it_may_have_happened(run):
    with answering(BUSY, MADE) as server:
        assert run(server, "iam", "user", "create", "a").code == ExitCode.UNAVAILABLE
        assert len(server.asked) == 1


def test_a_server_that_stays_busy_is_given_up(run):
    with answering(THROTTLED) as server:
        result = run(server, "iam", "user", "list")
        assert len(server.asked) == signed_call.ATTEMPT_COUNT_MAX
    assert result.code == ExitCode.UNAVAILABLE
    assert "wait longer" in result.err


def test_what_answers_no_api_is_said_to(run):
    with answering((200, b"hello")) as server:
        assert "not one of IAM" in run(server, "iam", "user", "list").err
        assert "not one of KMS" in run(server, "kms", "list").err


def test_requests_say_whose_they_are(run):
    with answering(USERS) as server:
        run(server, "iam", "user", "list")
        (headers,) = server.asked
    assert headers["user-agent"].startswith("whimbrel/")
    assert "user-agent" not in headers["authorization"]


@pytest.mark.parametrize(
    ("status", "code", "service", "kind", "hint"),
    [
        (
            409,
            "LimitExceeded",
            "iam",
            Kind.CONFLICT,
            "docs/operations/identities.md has the limits",
        ),
        (409, "DeleteConflict", "iam", Kind.CONFLICT, "remove first"),
        (400, "ValidationError", "iam", Kind.INVALID, "the value that the message names"),
        (400, "Throttling", "iam", Kind.UNAVAILABLE, "wait longer"),
        (
            400,
            "LimitExceededException",
            "kms",
            Kind.CONFLICT,
            "docs/reference/kms.md has the limits",
        ),
        (400, "AccessDeniedException", "kms", Kind.DENIED, "policies do not allow"),
        (400, "InvalidSignatureException", "kms", Kind.DENIED, "AWS_SECRET_ACCESS_KEY"),
        (400, "NotFoundException", "kms", Kind.NOT_FOUND, "whimbrel kms list"),
        (404, "NotFoundException", "", Kind.NOT_FOUND, "check the name"),
        (418, "Teapot", "", Kind.BUG, "the server's log"),
    ],
)
def test_a_code_says_what_to_do(status, code, service, kind, hint):
    error = refuse(status, code, "no", service=service)
    assert (str(error), error.kind) == ("no", kind)
    assert hint in error.hint
