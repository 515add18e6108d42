"""The scanner of PutVectors bodies, native and twin."""

import itertools
import json
import math

import numpy as np
import pytest

from whimbrel import kernel
from whimbrel.kernel import ScanError, scan_put_vectors
from whimbrel.kernel.scanner import (
    DATA_ABSENT,
    FLOAT32_ABSENT,
    KEY_ABSENT,
    METADATA_ABSENT,
    RECORDED_VECTORS_MAX,
)


@pytest.fixture(params=sorted({kernel.isas()[0], "numpy"}))
def isa(request):
    return request.param


def vectors(*texts):
    return f'{{"vectors":[{",".join(texts)}]}}'.encode()


def with_values(text):
    return vectors(f'{{"key":"k","data":{{"float32":{text}}}}}')


def error_of(body, isa):
    with pytest.raises(ScanError) as caught:
        scan_put_vectors(body, isa=isa)
    return caught.value


def pieces(data, offsets):
    return [data[start:limit] for start, limit in itertools.pairwise(offsets)]


def test_a_body_comes_apart(isa):
    body = """ {"vectorBucketName": "b", "indexName": "i\\u0078", "other": [1, {"x": null}],
      "vectors": [
        {"key": "a", "data": {"float32": [1, -2.5e0]}, "metadata": { "t": "\\u00e9é" , "n":1.0}},
        {"metadata": null, "data": {"float32": []}, "key": "\\u00e9\\ud83d\\ude00/\\n", "more": {}},
        {"key": "", "data": {"float32": [0.1]}}
      ], "indexArn": null} """.encode()
    put = scan_put_vectors(body, isa=isa)
    assert put.members == {"vectorBucketName": "b", "indexName": "ix", "indexArn": None}
    assert put.vector_count == 3
    assert pieces(put.key_data, put.key_offsets) == [b"a", "é😀/\n".encode(), b""]
    assert put.key_lengths_utf16.tolist() == [1, 5, 0]
    assert put.values.tolist() == [1.0, -2.5, float(np.float32(0.1))]
    assert put.value_offsets.tolist() == [0, 2, 2, 3]
    metadata = pieces(put.metadata_data, put.metadata_offsets)
    assert metadata == ['{ "t": "\\u00e9é" , "n":1.0}'.encode(), b"{}", b"{}"]
    assert put.flags.tolist() == [0, METADATA_ABSENT, METADATA_ABSENT]


@pytest.mark.parametrize(
    ("vector", "flags"),
    [
        ("{}", KEY_ABSENT | DATA_ABSENT | METADATA_ABSENT),
        ('{"key":null,"data":null,"metadata":null}', KEY_ABSENT | DATA_ABSENT | METADATA_ABSENT),
        ('{"key":"k","data":{},"metadata":{}}', FLOAT32_ABSENT),
        ('{"key":"k","data":{"float32":null,"int8":[1]},"metadata":{}}', FLOAT32_ABSENT),
        ('{"key":"k","data":{"float32":[]},"metadata":{}}', 0),
    ],
)
def test_absent_and_null_parts_are_marked(isa, vector, flags):
    put = scan_put_vectors(vectors(vector), isa=isa)
    assert put.flags.tolist() == [flags]
    assert put.values.tolist() == []
    assert put.metadata_data == b"{}"


@pytest.mark.parametrize("body", [b"{}", b'{"vectors":null}', b'{"Vectors":[]}'])
def test_absent_vectors_differ_from_none_of_them(isa, body):
    assert scan_put_vectors(body, isa=isa).vector_count is None
    assert scan_put_vectors(b'{"vectors":[]}', isa=isa).vector_count == 0


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_any_contiguous_buffer_will_do(isa, form):
    assert scan_put_vectors(form(vectors('{"key":"k"}')), isa=isa).key_data == b"k"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e39", math.inf),
        ("-1e39", -math.inf),
        ("1e400", math.inf),
        ("-1e99999999999999999999", -math.inf),
        ("1e-46", 0.0),
        ("1e-400", 0.0),
        ("-0", -0.0),
        ("-0.0e-99999999999999999999", -0.0),
        ("3.4028234663852886e38", 3.4028234663852886e38),
        ("3.4028235677973366e38", math.inf),
        ("3.4028235677973362e38", 3.4028234663852886e38),
        ("1.401298464324817e-45", 2.0**-149),
        ("7.0064923216240862e-46", 2.0**-149),
        ("7.006492321624085e-46", 0.0),
        ("0.000000000000000000000000000000000000000000001", 2.0**-149),
        ("1" + "0" * 38, 1e38),
        ("1" + "0" * 5000, math.inf),
        ("0." + "0" * 5000 + "1e5001", 1.0),
        ("1" + "0" * 5000 + "e-5000", 1.0),
        ("0." + "3" * 5000, 1 / 3),
        ("99999999999999999999", 1e20),
        ("0.99999999999999999999", 1.0),
        ("0.00099999999999999999999", 0.001),
        ("16777217", 16777216.0),
        (
            "16777217.0000000000000000000000000001",
            16777216.0,
        ),  # float64 loses the end, then ties to even
        ("16777217.00001", 16777218.0),
        ("123456789012345678901234567890", 123456789012345678901234567890.0),
        ('"NaN"', math.nan),
        ('"Infinity"', math.inf),
        ('"-Infinity"', -math.inf),
        ('"\\u004eaN"', math.nan),
    ],
)
def test_numbers_are_rounded_to_float64_and_then_to_float32(isa, text, value):
    found = scan_put_vectors(with_values(f"[{text}]"), isa=isa).values
    with np.errstate(over="ignore"):
        expected = np.array([value], dtype=np.float64).astype(np.float32)
    if math.isnan(value):
        assert np.isnan(found).tolist() == [True]
    else:
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"[]", ""),
        (b"null", ""),
        (b'{"vectors":{}}', "/vectors"),
        (b'{"vectors":"x"}', "/vectors"),
        (vectors("{}", "null"), "/vectors/1"),
        (vectors("[]"), "/vectors/0"),
        (vectors('{"key":1}'), "/vectors/0/key"),
        (vectors('{"key":["a"]}'), "/vectors/0/key"),
        (vectors("{}", "{}", '{"data":[1]}'), "/vectors/2/data"),
        (vectors('{"data":{"float32":{}}}'), "/vectors/0/data/float32"),
        (vectors('{"data":{"float32":"NaN"}}'), "/vectors/0/data/float32"),
        (with_values("[1,2,true]"), "/vectors/0/data/float32/2"),
        (with_values("[null]"), "/vectors/0/data/float32/0"),
        (with_values('["nan"]'), "/vectors/0/data/float32/0"),
        (with_values('["1.0"]'), "/vectors/0/data/float32/0"),
        (with_values('["NaN",[1]]'), "/vectors/0/data/float32/1"),
        (vectors('{"metadata":[]}'), "/vectors/0/metadata"),
        (vectors('{"metadata":"{}"}'), "/vectors/0/metadata"),
        (vectors('{"key":1,"metadata":2}', "3"), "/vectors/0/key"),
    ],
)
def test_a_type_error_names_the_first_wrong_part(isa, body, path):
    error = error_of(body, isa)
    assert (error.kind, error.path) == ("type", path)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "syntax"),
        (b"{", "syntax"),
        (b'{"a":1,}', "syntax"),
        (b"{} {}", "syntax"),
        (b"{}\x00", "syntax"),
        (b"\xef\xbb\xbf{}", "syntax"),
        (b"{'a':1}", "syntax"),
        (b'{"a":1 "b":2}', "syntax"),
        (b'{"a":"\n"}', "syntax"),
        (b'{"a":"\\x"}', "syntax"),
        (b'{"a":"\\u12"}', "syntax"),
        (b'{"a":"\\u12g4"}', "syntax"),
        (b'{"a":"', "syntax"),
        (b'{"a":"\\', "syntax"),
        (b'{"a":tru}', "syntax"),
        (b'{"a":NaN}', "syntax"),
        (with_values("[NaN]"), "syntax"),
        (with_values("[Infinity]"), "syntax"),
        (with_values("[-Infinity]"), "syntax"),
        (with_values("[01]"), "syntax"),
        (with_values("[+1]"), "syntax"),
        (with_values("[.5]"), "syntax"),
        (with_values("[1.]"), "syntax"),
        (with_values("[1e]"), "syntax"),
        (with_values("[1e+]"), "syntax"),
        (with_values("[-]"), "syntax"),
        (with_values("[1,]"), "syntax"),
        (with_values("[1 2]"), "syntax"),
        (with_values("[0x10]"), "syntax"),
        ('{"a":٣}'.encode(), "syntax"),
        (b'{"a":"\xff"}', "encoding"),
        (b'{"a":"\xc0\x80"}', "encoding"),
        (b'{"a":"\xed\xa0\x80"}', "encoding"),
        (b'{"a":"\xf4\x90\x80\x80"}', "encoding"),
        (b'{"a":"\xe2\x82', "encoding"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"a":"\\udc00\\ud800"}', "surrogate"),
        (b'{"a":"\\ud83d\\ud83d\\ude00"}', "surrogate"),
        (b'{"\\uDFFF":1}', "surrogate"),
        (vectors('{"metadata":{"a":"\\ud800x"}}'), "surrogate"),
        (b'{"a":1,"a":2}', "duplicate"),
        (b'{"a":1,"\\u0061":2}', "duplicate"),
        (vectors('{"key":"a","key":"b"}'), "duplicate"),
        (vectors('{"metadata":{"x":[{"":1,"":2}]}}'), "duplicate"),
        (vectors('{"key":1}', '{"z":{"a":1,"a":1}}'), "duplicate"),
        (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "depth"),
        (b"]" + b'{"a":' * 66, "depth"),
        (b"?" + b"[" * 65, "depth"),
        (b"?\xff" + b"[" * 65, "encoding"),
        (b'{"a":"\\ud800","b":}', "syntax"),
        (b'{"\\ud800":1,"a":1,"a":2}', "surrogate"),
    ],
)
def test_what_is_not_strict_json_is_refused(isa, body, kind):
    assert error_of(body, isa).kind == kind


def test_sixty_four_levels_are_fine(isa):
    body = b'{"a":' + b"[" * 63 + b"]" * 63 + b"}"
    assert scan_put_vectors(body, isa=isa).vector_count is None


def test_brackets_in_strings_do_not_nest(isa):
    body = b'{"a":"' + b"[" * 1000 + b'\\"' + b"{" * 1000 + b'\\\\","b":"["}'
    assert scan_put_vectors(body, isa=isa).vector_count is None


def test_names_are_told_apart_however_many_there_are(isa):
    names = [f"name{i}" for i in range(5000)]
    body = json.dumps(dict.fromkeys(names, 0))
    assert scan_put_vectors(body.encode(), isa=isa).members == {}
    twice = body[:-1] + ',"name77":1}'
    assert error_of(twice.encode(), isa).kind == "duplicate"


def test_vectors_beyond_the_limit_are_only_counted(isa):
    many = ['{"key":"k","data":{"float32":[1]},"metadata":{"a":1}}'] * (RECORDED_VECTORS_MAX + 5)
    put = scan_put_vectors(vectors(*many), isa=isa)
    assert put.vector_count == RECORDED_VECTORS_MAX + 5
    assert len(put.flags) == len(put.values) == len(put.key_data) == RECORDED_VECTORS_MAX
    assert len(put.metadata_data) == 7 * RECORDED_VECTORS_MAX
    more = scan_put_vectors(vectors(*many, "7")[:-1] + b',"indexName":"i"}', isa=isa)
    assert more.vector_count == RECORDED_VECTORS_MAX + 6
    assert more.members == {"indexName": "i"}
    assert error_of(vectors(*many, "?"), isa).kind == "syntax"


def test_members_that_are_containers_come_empty(isa):
    put = scan_put_vectors(b'{"indexName":[1,2,[3]],"indexArn":{"a":1},"x":[]}', isa=isa)
    assert put.members == {"indexName": [], "indexArn": {}}


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 20_000_000,
        b'{"a":' * 4_000_000,
        b'"' * 20_000_000,
        b"\\" * 20_000_000,
        b'{"a":"' + b"\\n" * 10_000_000 + b'"}',
        b'{"a":"' + b"\\ud800" * 3_000_000 + b'"}',
        b'{"vectors":[' + b"{}," * 5_000_000 + b"{}]}",
        b"{" + b'"":0,' * 4_000_000 + b'"a":0}',
        b"1" * 20_000_000,
        b'{"a":' + b"1" * 20_000_000 + b"}",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_hostile_bodies_take_linear_time(body):
    """Those that look back, recurse or compare all with all would not come to an end here."""
    isa = kernel.isas()[0]
    try:
        scan_put_vectors(body, isa=isa)
    except ScanError as error:
        assert error.kind in {"depth", "syntax", "surrogate", "duplicate", "type"}  # noqa: PT017
