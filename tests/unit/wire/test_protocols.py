"""What the endpoint can be asked for: every route has an action, and every request finds one API."""

import re
from collections import Counter

import pytest

from tests.unit.wire.endpoint import Endpoint
from whimbrel.wire.admission import Lanes
from whimbrel.wire.extension_model import EXTENSIONS
from whimbrel.wire.metrics import MetricsProtocol
from whimbrel.wire.model import OPERATIONS
from whimbrel.wire.options import WireOptions
from whimbrel.wire.protocols import PROTOCOLS, list_routes

ACTION = re.compile(r"(s3vectors|whimbrel|iam|sts|bedrock|kms):[A-Z]\w+")


def test_every_route_has_an_action_and_a_lane():
    lanes = Lanes(WireOptions(), clock=Endpoint().clock, count_present=lambda: 0)
    for route in list_routes():
        assert ACTION.fullmatch(route.action), route.name
        assert route.lane in lanes.by_name


def test_every_name_stands_once():
    # Names are labels of metrics.
    counts = Counter(route.name for route in list_routes())
    assert set(counts.values()) == {1}
    assert counts.keys() >= {*OPERATIONS, *EXTENSIONS, "GetCallerIdentity", "InvokeModel"}


def test_actions_are_those_of_aws():
    actions = {route.name: route.action for route in list_routes()}
    assert actions["QueryVectors"] == "s3vectors:QueryVectors"
    assert actions["CountVectors"] == "whimbrel:CountVectors"
    assert actions["GetCallerIdentity"] == "sts:GetCallerIdentity"
    assert {name: action for name, action in actions.items() if action.startswith("bedrock:")} == {
        "InvokeModel": "bedrock:InvokeModel",
        "InvokeModelWithResponseStream": "bedrock:InvokeModelWithResponseStream",
        "Converse": "bedrock:InvokeModel",
        "ConverseStream": "bedrock:InvokeModelWithResponseStream",
        "StartAsyncInvoke": "bedrock:InvokeModel",
        "GetAsyncInvoke": "bedrock:GetAsyncInvoke",
        "ListAsyncInvokes": "bedrock:ListAsyncInvokes",
        "ListFoundationModels": "bedrock:ListFoundationModels",
        "GetFoundationModel": "bedrock:GetFoundationModel",
    }


@pytest.mark.parametrize(
    ("method", "path", "service"),
    [
        ("POST", "/", "sts"),
        ("POST", "/QueryVectors", "s3vectors"),
        ("POST", "/whimbrel/CountVectors", "s3vectors"),
        ("GET", "/tags/foundation-models", "s3vectors"),
        ("POST", "/model/x/invoke", "bedrock"),
        ("GET", "/foundation-models", "bedrock"),
        ("GET", "/foundation-models/x", "bedrock"),
        ("GET", "/async-invoke/x", "bedrock"),
    ],
)
def test_a_request_finds_its_api(method, path, service):
    endpoint = Endpoint()
    endpoint.request(method, path, b"{}")
    assert endpoint.authenticator.services == [service]


@pytest.mark.parametrize("path", ["", "*", "//", "/model", "/models/x/invoke", "x", "/model/"])
def test_what_no_api_has_is_told_so(path):
    reply = Endpoint().request("POST", path, b"{}")
    assert (reply.status, reply.code) == (404, "UnknownOperationException")


def test_signing_names_differ():
    # The metrics have no service of their own that anybody could sign for.
    protocols = [protocol for protocol in PROTOCOLS if protocol is not MetricsProtocol]
    assert len({protocol.signing_name for protocol in protocols}) == len(protocols)
