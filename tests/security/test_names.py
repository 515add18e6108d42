"""No spelling of a name or an ARN passes by a policy, reaches what it does not name, or names an object of its own."""

import pytest

from tests.security.fortress import (
    ACCOUNT,
    BUCKET,
    BUCKET_ARN,
    FOREIGN_ACCOUNT,
    INDEX,
    INDEX_ARN,
    ROOT,
    Fortress,
    foreigner,
    statement,
    user,
)
from tests.security.samples import IN_INDEX
from whimbrel.engine.listing import list_all

DENIED = user(statement("*"), statement("*", INDEX_ARN, effect="Deny"))
ONLY_HERE = user(statement("*", [BUCKET_ARN, f"{BUCKET_ARN}/*"]))


def arn(*, partition="aws", region="us-east-1", bucket=BUCKET, index=INDEX, account=ACCOUNT):
    return f"arn:{partition}:s3vectors:{region}:{account}:bucket/{bucket}/index/{index}"


# ARNs that this server takes for the same index, and spellings that it does not take.
SAME = [arn(), arn(region="eu-west-1"), arn(partition="aws-cn", region="cn-north-1")]
OTHER = [
    arn(bucket=BUCKET.upper()),
    arn(index=INDEX.upper()),
    arn(partition="AWS"),
    arn() + "/",
    arn().replace("/index/", "//index/"),
    arn(index="./" + INDEX),
    arn(index="x/../" + INDEX),
    arn(index=INDEX + "\x00"),
    arn(index=INDEX + "%00"),
    arn(bucket="%62irds"),
    arn(bucket="\uff42irds"),
    arn(index="wader\u017f"),
    arn(index=INDEX + "\n"),
    arn(index="*"),
    arn(bucket="bird?"),
    arn(account="123456789O12"),
    "arn:aws:s3vectors:::bucket/birds/index/waders",
]
HOSTILE = [
    "..", "...", "../../etc", "a/../b", "/etc/passwd", "a\\..\\b", "%2e%2e%2f", "%2e%2e", "a%2fb", "a\x00b", "a\nb",
    "birds\x00", "Birds", "BIRDS", "bïrds", "bi\u0308rds", "\uff42\uff49\uff52\uff44\uff53", "birds/", " birds", "birds ", "-birds", "birds-",
    "birds.", ".birds", "manifest/1", "a" * 64, "ab", "\u202esdrib", "💥💥💥",
]  # fmt: skip


def names_in(fortress):
    """Returns the names of all objects in the store."""
    listing = list_all(fortress.store, "")
    return [item.key for item in fortress.loop.run_until_complete(listing)]


@pytest.mark.parametrize("spelt", SAME)
def test_every_arn_of_an_index_means_the_same_to_policies(guarded, spelt):
    assert guarded.ask(DENIED, "GetIndex", {"indexArn": spelt}).status == 403
    assert guarded.ask(DENIED, f"tags/{spelt}", method="GET").status == 403
    assert guarded.ask(ONLY_HERE, "GetIndex", {"indexArn": spelt}).status == 200
    reply = guarded.ask(user(), "GetIndex", {"indexArn": spelt})
    assert reply.body == guarded.ask(user(), "GetIndex", IN_INDEX).body


@pytest.mark.parametrize("spelt", OTHER)
def test_no_other_spelling_is_taken(guarded, spelt):
    for principal in (DENIED, ROOT):
        assert guarded.ask(principal, "GetIndex", {"indexArn": spelt}).status == 400
        path = "tags/" + "".join(f"%{byte:02x}" for byte in spelt.encode())
        assert guarded.ask(principal, path, method="GET").status == 400


@pytest.mark.parametrize("encoded", [False, True])
def test_encoded_paths_mean_the_same_to_policies(guarded, encoded):
    spelt = "".join(f"%{byte:02X}" for byte in INDEX_ARN.encode()) if encoded else INDEX_ARN
    assert guarded.ask(DENIED, f"tags/{spelt}", method="GET").status == 403


def test_arns_of_other_accounts_name_nothing(guarded):
    elsewhere = arn(account=FOREIGN_ACCOUNT)
    for principal in (user(statement("*")), foreigner()):
        reply = guarded.ask(principal, "GetIndex", {"indexArn": elsewhere})
        assert reply.status == 403
        assert reply.message.endswith(
            "because no resource-based policy allows the s3vectors:GetIndex action"
        )
    assert guarded.ask(ROOT, "GetIndex", {"indexArn": elsewhere}).status == 404


def test_two_names_of_one_resource_are_refused(guarded):
    both = IN_INDEX | {"indexArn": arn(bucket="fish")}
    assert guarded.ask(ONLY_HERE, "GetIndex", both).status == 400
    buckets = {"vectorBucketName": BUCKET, "vectorBucketArn": f"{BUCKET_ARN}x"}
    assert guarded.ask(ONLY_HERE, "GetVectorBucket", buckets).status == 400


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_become_no_objects(guarded: Fortress, name):
    before = names_in(guarded)
    config = {"dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}
    in_bucket = {"vectorBucketName": BUCKET}
    requests = [("CreateVectorBucket", {"vectorBucketName": name})]
    # Indexes may have dots inside.
    requests.append(("CreateIndex", in_bucket | config | {"indexName": name}))
    requests += [
        ("whimbrel/CreateSnapshot", IN_INDEX | {"snapshotName": name}),
        ("whimbrel/ForkIndex", IN_INDEX | {"targetIndexName": name}),
        (
            "whimbrel/ForkIndex",
            IN_INDEX | {"targetIndexName": "x", "targetVectorBucketName": name},
        ),
    ]
    for path, members in requests:
        assert guarded.ask(ROOT, path, members).status == 400, (path, name)
    assert names_in(guarded) == before


def test_keys_of_vectors_are_data(fortress):
    keys = [name for name in HOSTILE if len(name) >= 1]
    vectors = [{"key": key, "data": {"float32": [1.0, 2.0]}} for key in keys]
    fortress.must("PutVectors", IN_INDEX | {"vectors": vectors})
    found = fortress.must("GetVectors", IN_INDEX | {"keys": keys})
    assert sorted(one["key"] for one in found["vectors"]) == sorted(keys)

    for name in names_in(fortress):
        assert name.isascii()
        assert not {"..", "", "."} & set(name.split("/"))
        assert "passwd" not in name
