"""IAM and STS with boto3: users, keys, policies, roles, sessions, and what they may do with vectors."""

import json
import time
import uuid

import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.ours

ALLOW_LIST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3vectors:ListVectorBuckets", "Resource": "*"}],
}
DEADLINE_S = 30


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def trust(arn, **condition):
    return document(
        {
            "Effect": "Allow",
            "Principal": {"AWS": arn},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            **condition,
        }
    )


def refusal(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response
    return error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]


@pytest.fixture
def iam(make_client):
    return make_client("iam")


@pytest.fixture
def unique():
    return uuid.uuid4().hex[:12]


@pytest.fixture
def as_key(make_client):
    """Makes clients that sign with a key of IAM's or STS's."""

    def make(service, key, **overrides):
        return make_client(
            service,
            aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"],
            aws_session_token=key.get("SessionToken"),
            **overrides,
        )

    return make


@pytest.fixture
def user(iam, unique):
    """A user with a key, and both."""
    name = f"user-{unique}"
    iam.create_user(UserName=name, Path="/team/", Tags=[{"Key": "team", "Value": "birds and bees"}])
    return name, iam.create_access_key(UserName=name)["AccessKey"]


def eventually(check):
    """Waits until a check passes: another process may know of a change some seconds later."""
    deadline = time.monotonic() + DEADLINE_S
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_user_signs_and_is_who_it_is(iam, as_key, user):
    name, key = user
    identity = as_key("sts", key).get_caller_identity()
    found = iam.get_user(UserName=name)["User"]
    assert identity["Arn"] == found["Arn"] == f"arn:aws:iam::123456789012:user/team/{name}"
    assert identity["UserId"] == found["UserId"]
    assert found["Tags"] == [{"Key": "team", "Value": "birds and bees"}]
    assert refusal(as_key("iam", key).list_users) == ("AccessDenied", 403)


def test_permissions_come_and_go(iam, as_key, user):
    name, key = user
    client = as_key("s3vectors", key)
    assert refusal(client.list_vector_buckets) == ("AccessDeniedException", 403)
    iam.put_user_policy(UserName=name, PolicyName="list", PolicyDocument=json.dumps(ALLOW_LIST))
    assert client.list_vector_buckets()["vectorBuckets"] is not None
    assert iam.get_user_policy(UserName=name, PolicyName="list")["PolicyDocument"] == ALLOW_LIST
    assert iam.list_user_policies(UserName=name)["PolicyNames"] == ["list"]
    iam.delete_user_policy(UserName=name, PolicyName="list")
    assert refusal(client.list_vector_buckets) == ("AccessDeniedException", 403)


def test_managed_policies_are_attached(iam, as_key, user, unique):
    name, key = user
    client = as_key("s3vectors", key)
    policy = iam.create_policy(
        PolicyName=f"list-{unique}", Path="/shared/", PolicyDocument=json.dumps(ALLOW_LIST)
    )["Policy"]
    arn = policy["Arn"]
    assert arn == f"arn:aws:iam::123456789012:policy/shared/list-{unique}"
    iam.attach_user_policy(UserName=name, PolicyArn=arn)
    client.list_vector_buckets()
    assert iam.get_policy(PolicyArn=arn)["Policy"]["AttachmentCount"] == 1
    attached = iam.list_attached_user_policies(UserName=name)["AttachedPolicies"]
    assert attached == [{"PolicyName": f"list-{unique}", "PolicyArn": arn}]
    assert refusal(iam.delete_policy, PolicyArn=arn) == ("DeleteConflict", 409)
    denying = {**ALLOW_LIST, "Statement": [{**ALLOW_LIST["Statement"][0], "Effect": "Deny"}]}
    version = iam.create_policy_version(
        PolicyArn=arn, PolicyDocument=json.dumps(denying), SetAsDefault=True
    )["PolicyVersion"]
    assert (version["VersionId"], version["IsDefaultVersion"]) == ("v2", True)
    assert refusal(client.list_vector_buckets) == ("AccessDeniedException", 403)
    kept = iam.get_policy_version(PolicyArn=arn, VersionId="v2")["PolicyVersion"]
    assert kept["Document"] == denying
    iam.detach_user_policy(UserName=name, PolicyArn=arn)
    iam.delete_policy(PolicyArn=arn)
    assert refusal(iam.get_policy, PolicyArn=arn) == ("NoSuchEntity", 404)


def test_a_boundary_bounds(iam, as_key, user, unique):
    name, key = user
    client = as_key("s3vectors", key)
    iam.put_user_policy(UserName=name, PolicyName="list", PolicyDocument=json.dumps(ALLOW_LIST))
    nothing = document({"Effect": "Allow", "Action": "s3vectors:GetIndex", "Resource": "*"})
    arn = iam.create_policy(PolicyName=f"bound-{unique}", PolicyDocument=nothing)["Policy"]["Arn"]
    iam.put_user_permissions_boundary(UserName=name, PermissionsBoundary=arn)
    assert refusal(client.list_vector_buckets) == ("AccessDeniedException", 403)
    boundary = iam.get_user(UserName=name)["User"]["PermissionsBoundary"]
    assert boundary["PermissionsBoundaryArn"] == arn
    iam.delete_user_permissions_boundary(UserName=name)
    client.list_vector_buckets()


def test_keys_are_rotated(iam, make_client, as_key, user):
    name, first = user
    second = iam.create_access_key(UserName=name)["AccessKey"]
    assert refusal(iam.create_access_key, UserName=name) == ("LimitExceeded", 409)
    iam.update_access_key(UserName=name, AccessKeyId=first["AccessKeyId"], Status="Inactive")
    assert refusal(as_key("sts", first).get_caller_identity) == ("InvalidClientTokenId", 403)
    as_key("sts", second).get_caller_identity()
    iam.update_access_key(UserName=name, AccessKeyId=first["AccessKeyId"], Status="Active")
    as_key("sts", first).get_caller_identity()
    listed = iam.list_access_keys(UserName=name)["AccessKeyMetadata"]
    assert {key["AccessKeyId"] for key in listed} == {first["AccessKeyId"], second["AccessKeyId"]}
    assert "SecretAccessKey" not in listed[0]
    iam.delete_access_key(UserName=name, AccessKeyId=first["AccessKeyId"])
    assert refusal(as_key("sts", first).get_caller_identity) == ("InvalidClientTokenId", 403)
    info = make_client("sts").get_access_key_info(AccessKeyId=second["AccessKeyId"])
    assert info["Account"] == "123456789012"


def test_a_user_sees_to_its_own_keys_where_it_may(iam, as_key, user):
    name, key = user
    own = "arn:aws:iam::123456789012:user/team/${aws:username}"
    statement = {"Effect": "Allow", "Action": "iam:*AccessKey*", "Resource": own}
    iam.put_user_policy(UserName=name, PolicyName="keys", PolicyDocument=document(statement))
    mine = as_key("iam", key)
    assert mine.list_access_keys()["AccessKeyMetadata"][0]["UserName"] == name
    mine.create_access_key()
    assert refusal(mine.list_access_keys, UserName="somebody") == ("AccessDenied", 403)


def test_a_role_is_assumed(iam, make_client, as_key, user, unique):
    name, key = user
    user_arn = f"arn:aws:iam::123456789012:user/team/{name}"
    role = iam.create_role(
        RoleName=f"role-{unique}",
        AssumeRolePolicyDocument=trust(user_arn),
        Tags=[{"Key": "team", "Value": "birds"}],
        MaxSessionDuration=7200,
    )["Role"]
    iam.put_role_policy(
        RoleName=f"role-{unique}", PolicyName="list", PolicyDocument=json.dumps(ALLOW_LIST)
    )
    sts = as_key("sts", key)
    assumed = sts.assume_role(
        RoleArn=role["Arn"],
        RoleSessionName="night",
        DurationSeconds=900,
        Tags=[{"Key": "shift", "Value": "late"}],
    )
    arn = f"arn:aws:sts::123456789012:assumed-role/role-{unique}/night"
    assert assumed["AssumedRoleUser"] == {"AssumedRoleId": f"{role['RoleId']}:night", "Arn": arn}
    session = assumed["Credentials"]
    identity = as_key("sts", session).get_caller_identity()
    assert (identity["Arn"], identity["UserId"]) == (arn, f"{role['RoleId']}:night")
    client = as_key("s3vectors", session)
    client.list_vector_buckets()
    over = {"RoleArn": role["Arn"], "RoleSessionName": "long", "DurationSeconds": 7201}
    assert refusal(sts.assume_role, **over) == ("ValidationError", 400)
    by_root = {"RoleArn": role["Arn"], "RoleSessionName": "root"}
    assert refusal(make_client("sts").assume_role, **by_root) == ("AccessDenied", 403)
    # A session that was given less has less.
    nothing = document({"Effect": "Allow", "Action": "s3vectors:GetIndex", "Resource": "*"})
    less = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="less", Policy=nothing)
    assert refusal(as_key("s3vectors", less["Credentials"]).list_vector_buckets) == (
        "AccessDeniedException",
        403,
    )
    # What the role loses, its sessions lose.
    iam.delete_role_policy(RoleName=f"role-{unique}", PolicyName="list")
    assert refusal(client.list_vector_buckets) == ("AccessDeniedException", 403)
    iam.delete_role(RoleName=f"role-{unique}")
    assert refusal(client.list_vector_buckets) == ("UnrecognizedClientException", 403)
    with pytest.raises(ClientError) as caught:
        sts.assume_role(RoleArn=role["Arn"], RoleSessionName="late")
    assert caught.value.response["Error"] == {
        "Type": "Sender",
        "Code": "AccessDenied",
        "Message": f"User: {user_arn} is not authorized to perform: sts:AssumeRole on resource: {role['Arn']}",
    }


def test_a_trust_policy_asks_for_an_external_id(iam, as_key, user, unique):
    name, key = user
    condition = {"StringEquals": {"sts:ExternalId": "secret-handshake"}}
    role = iam.create_role(
        RoleName=f"role-{unique}",
        AssumeRolePolicyDocument=trust(
            f"arn:aws:iam::123456789012:user/team/{name}", Condition=condition
        ),
    )["Role"]
    sts = as_key("sts", key)
    request = {"RoleArn": role["Arn"], "RoleSessionName": "third"}
    assert refusal(sts.assume_role, **request) == ("AccessDenied", 403)
    assert refusal(sts.assume_role, **request, ExternalId="guess") == ("AccessDenied", 403)
    sts.assume_role(**request, ExternalId="secret-handshake")


def test_a_session_of_a_user_ends_with_its_key(iam, as_key, user):
    name, key = user
    session = as_key("sts", key).get_session_token(DurationSeconds=900)["Credentials"]
    sts = as_key("sts", session)
    assert sts.get_caller_identity()["Arn"].endswith(f"user/team/{name}")
    assert refusal(sts.get_session_token) == ("AccessDenied", 403)
    without_token = {**session, "SessionToken": None}
    assert refusal(as_key("sts", without_token).get_caller_identity) == (
        "InvalidClientTokenId",
        403,
    )
    iam.update_access_key(UserName=name, AccessKeyId=key["AccessKeyId"], Status="Inactive")
    assert refusal(sts.get_caller_identity) == ("InvalidClientTokenId", 403)


def test_a_session_of_another_key_does_not_open(as_key, user):
    _, key = user
    sts = as_key("sts", key)
    one = sts.get_session_token()["Credentials"]
    other = sts.get_session_token()["Credentials"]
    mixed = {**one, "SessionToken": other["SessionToken"]}
    assert refusal(as_key("sts", mixed).get_caller_identity) == ("InvalidClientTokenId", 403)


def test_another_account_has_users_and_no_buckets(iam, make_client, as_key, unique):
    made = call_iam(make_client, "CreateAccount", AccountName="partner & co")
    root = as_key("iam", made)
    identity = as_key("sts", made).get_caller_identity()
    account_id = identity["Account"]
    assert identity["Arn"] == f"arn:aws:iam::{account_id}:root"
    root.create_user(UserName=f"user-{unique}")
    key = root.create_access_key(UserName=f"user-{unique}")["AccessKey"]
    root.put_user_policy(
        UserName=f"user-{unique}", PolicyName="all", PolicyDocument=json.dumps(ALLOW_LIST)
    )
    assert refusal(as_key("s3vectors", key).list_vector_buckets)[0] == "AccessDeniedException"
    assert refusal(as_key("s3vectors", made).list_vector_buckets)[0] == "AccessDeniedException"
    assert refusal(iam.get_user, UserName=f"user-{unique}") == ("NoSuchEntity", 404)


def call_iam(make_client, action, **parameters):
    """Calls an operation that boto3 does not know; returns what its answer holds, flat."""
    import urllib.parse
    import urllib.request
    from xml.etree import ElementTree as ET

    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    client = make_client("iam")
    body = urllib.parse.urlencode({"Action": action, "Version": "2010-05-08", **parameters})
    request = AWSRequest("POST", client.meta.endpoint_url + "/", data=body)
    request.headers["Content-Type"] = "application/x-www-form-urlencoded"
    SigV4Auth(client._request_signer._credentials, "iam", "us-east-1").add_auth(request)
    sent = urllib.request.Request(
        request.url, data=body.encode(), headers=dict(request.headers), method="POST"
    )
    with urllib.request.urlopen(sent, timeout=20) as answer:
        root = ET.fromstring(answer.read())
    return {node.tag.partition("}")[2]: node.text for node in root.iter()}


def test_lists_come_in_pages(iam, unique):
    names = [f"page-{unique}-{letter}" for letter in "abcde"]
    for name in names:
        iam.create_user(UserName=name, Path=f"/{unique}/")
    pages = list(
        iam.get_paginator("list_users").paginate(
            PathPrefix=f"/{unique}/", PaginationConfig={"PageSize": 2}
        )
    )
    assert [len(page["Users"]) for page in pages] == [2, 2, 1]
    assert [user["UserName"] for page in pages for user in page["Users"]] == names


def test_a_user_is_renamed_and_keeps_its_key(iam, as_key, user):
    name, key = user
    iam.update_user(UserName=name, NewUserName=f"{name}-2", NewPath="/other/")
    arn = as_key("sts", key).get_caller_identity()["Arn"]
    assert arn == f"arn:aws:iam::123456789012:user/other/{name}-2"
    assert refusal(iam.get_user, UserName=name) == ("NoSuchEntity", 404)


def test_nobody_has_what_is_not_here(iam, user, unique):
    name, _ = user
    role = {"RoleName": f"role-{unique}"}
    iam.create_role(**role, AssumeRolePolicyDocument=trust("arn:aws:iam::123456789012:root"))
    assert iam.list_instance_profiles_for_role(**role)["InstanceProfiles"] == []
    for operation, member in (
        ("list_groups_for_user", "Groups"),
        ("list_mfa_devices", "MFADevices"),
        ("list_service_specific_credentials", "ServiceSpecificCredentials"),
        ("list_signing_certificates", "Certificates"),
        ("list_ssh_public_keys", "SSHPublicKeys"),
    ):
        assert getattr(iam, operation)(UserName=name)[member] == []
        assert refusal(getattr(iam, operation), UserName="nobody") == ("NoSuchEntity", 404)
    assert refusal(iam.get_login_profile, UserName=name) == ("NoSuchEntity", 404)


def test_tags_change(iam, user):
    name, _ = user
    iam.tag_user(UserName=name, Tags=[{"Key": "a", "Value": "1"}, {"Key": "team", "Value": "x"}])
    iam.untag_user(UserName=name, TagKeys=["a", "none"])
    assert iam.list_user_tags(UserName=name)["Tags"] == [{"Key": "team", "Value": "x"}]


@pytest.mark.parametrize(
    ("operation", "arguments", "code", "status"),
    [
        ("get_user", {"UserName": "nobody"}, "NoSuchEntity", 404),
        ("delete_user", {"UserName": "nobody"}, "NoSuchEntity", 404),
        ("get_role", {"RoleName": "nobody"}, "NoSuchEntity", 404),
        ("create_access_key", {"UserName": "nobody"}, "NoSuchEntity", 404),
        ("create_access_key", {}, "NoSuchEntity", 404),
        ("create_user", {"UserName": "a b"}, "ValidationError", 400),
        (
            "create_policy",
            {"PolicyName": "x", "PolicyDocument": "{}"},
            "MalformedPolicyDocument",
            400,
        ),
        (
            "create_role",
            {"RoleName": "x", "AssumeRolePolicyDocument": "not json"},
            "MalformedPolicyDocument",
            400,
        ),
        ("list_groups", {}, "InvalidAction", 400),
    ],
)
def test_what_is_refused(iam, operation, arguments, code, status):
    assert refusal(getattr(iam, operation), **arguments) == (code, status)


def test_nobody_is_deleted_with_what_belongs_to_it(iam, user):
    name, key = user
    assert refusal(iam.create_user, UserName=name.upper()) == ("EntityAlreadyExists", 409)
    assert refusal(iam.delete_user, UserName=name) == ("DeleteConflict", 409)
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName=name)
    assert refusal(iam.get_user, UserName=name) == ("NoSuchEntity", 404)
