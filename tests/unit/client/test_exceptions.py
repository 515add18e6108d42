"""Exceptions are botocore's where botocore is, and otherwise their like; importing Whimbrel imports neither."""

import subprocess
import sys
import textwrap

import botocore.exceptions
import pytest

from whimbrel.client.exceptions import (
    PAGINATOR_NAME,
    PARAMETER_NAME,
    TRANSPORT_NAMES,
    ErrorClasses,
    make_library_error,
    make_service_error,
)
from whimbrel.wire.model import ERRORS

TIMEOUT_S = 60


def run(program: str) -> None:
    """Runs a program in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr


def test_every_code_has_a_class_that_type_checkers_know():
    classes = ErrorClasses()
    assert set(ErrorClasses.__annotations__) == {"ClientError", *ERRORS}
    for code in ERRORS:
        assert issubclass(getattr(classes, code), botocore.exceptions.ClientError)
        assert getattr(classes, code) is getattr(ErrorClasses(), code) is classes.from_code(code)
    assert classes.ClientError is classes.from_code("Nonsense") is botocore.exceptions.ClientError
    assert set(ERRORS) < set(dir(classes))
    with pytest.raises(AttributeError, match="no exception Nonsense; it has: Access"):
        _ = classes.Nonsense


def test_a_code_that_the_model_lacks_is_a_plain_client_error():
    made = make_service_error("SerializationException", "text", operation="Op", response={"a": 1})
    assert type(made) is botocore.exceptions.ClientError
    assert made.response == {
        "Error": {"Code": "SerializationException", "Message": "text"},
        "a": 1,
    }
    assert made.operation_name == "Op"


@pytest.mark.parametrize("name", [*TRANSPORT_NAMES, PARAMETER_NAME, PAGINATOR_NAME])
def test_other_errors_are_botocores(name):
    made = make_library_error(
        name, endpoint_url="http://here", error="why", report="text", operation_name="op"
    )
    assert type(made) is getattr(botocore.exceptions, name)


def test_without_botocore_they_look_alike():
    run(
        """
        import importlib.util, sys
        class Hidden:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("botocore", "boto3", "jmespath"):
                    raise ModuleNotFoundError(name)
        find_spec = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name == "botocore" else find_spec(name, *rest)
        sys.meta_path.insert(0, Hidden())
        import whimbrel
        with whimbrel.connect("memory:") as client:
            errors = client.exceptions
            try:
                client.get_vector_bucket(vectorBucketName="birds")
            except errors.NotFoundException as error:
                assert isinstance(error, errors.ClientError)
                assert error.response["Error"]["Code"] == "NotFoundException"
                assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 404
                assert error.operation_name == "GetVectorBucket"
                assert str(error) == (
                    "An error occurred (NotFoundException) when calling the GetVectorBucket operation: "
                    "The specified vector bucket could not be found"
                )
            try:
                client.get_vector_bucket(vectorBucketname="birds")
            except Exception as error:
                assert type(error).__name__ == "ParamValidationError"
                assert 'Unknown parameter in input: "vectorBucketname"' in str(error)
                assert error.kwargs["report"]
            try:
                client.get_paginator("get_index")
            except Exception as error:
                assert type(error).__name__ == "OperationNotPageableError"
                assert str(error) == "Operation cannot be paginated: get_index"
        client = whimbrel.connect("http://127.0.0.1:1", max_attempts=1)
        try:
            client.list_vector_buckets()
        except Exception as error:
            assert type(error).__name__ == "EndpointConnectionError", repr(error)
        assert not [name for name in sys.modules if name.partition(".")[0] in ("botocore", "boto3")]
        """
    )


def test_importing_and_connecting_import_little():
    run(
        """
        import sys
        import whimbrel
        assert "numpy" not in sys.modules and "whimbrel.client" not in sys.modules
        with whimbrel.connect("memory:") as client:
            client.list_vector_buckets()
        loaded = {name.partition(".")[0] for name in sys.modules}
        assert not loaded & {"botocore", "boto3", "urllib3", "uvicorn", "click", "obstore"}, loaded
        """
    )
