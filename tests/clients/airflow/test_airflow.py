"""The S3 Vectors operators of Airflow's Amazon provider."""

import json
from pathlib import Path

import pytest

from tests.clients.results import record
from tests.clients.serving import Server
from tests.clients.suites import run_suite

pytestmark = pytest.mark.clients

NAME = "airflow"
KNOWN_FAILURES = {"test_skip_a_vector_bucket_that_exists"}


def test_airflow(server: Server, tmp_path: Path) -> None:
    connection = {
        "conn_type": "aws",
        "login": server.environment["AWS_ACCESS_KEY_ID"],
        "password": server.environment["AWS_SECRET_ACCESS_KEY"],
        "extra": {
            "endpoint_url": server.endpoint,
            "region_name": server.environment["AWS_REGION"],
        },
    }
    extra = {"AIRFLOW_CONN_VECTORS": json.dumps(connection)}
    found = run_suite(NAME, server, tmp_path, extra=extra)
    assert found.known_failures.keys() == KNOWN_FAILURES
    record(
        name=NAME,
        client="apache-airflow-providers-amazon",
        version="9.39.0",
        language="Python",
        passed=found.passed,
        known_failures=found.known_failures,
        operations=found.operations,
        notes="The six operators, executed with a connection that names the endpoint.",
    )
