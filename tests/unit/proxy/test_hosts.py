"""Which names are mapped: all that the SDKs' own endpoint rules can make of a mapped service."""

import pytest
from botocore.session import Session

from whimbrel.proxy.hosts import BEDROCK, PARTITIONS, SERVICES, HostMap, Verdict

HOSTS = HostMap()


def test_every_endpoint_of_the_sdk_is_mapped():
    """Botocore knows regions and rules; a new one there must not slip past us."""
    from botocore.endpoint_provider import EndpointProvider, RuleSetEndpoint

    session = Session()
    loader = session.get_component("data_loader")
    partitions = loader.load_data("partitions")
    regions = [
        region
        for partition in partitions["partitions"]
        for region in partition["regions"]
        if not region.endswith("-global")
    ]
    assert len(regions) >= 40
    for service in SERVICES:
        rules = loader.load_service_model(service.name, "endpoint-rule-set-1")
        provider = EndpointProvider(rules, partitions)
        for region in regions:
            for fips in (False, True):
                for dual_stack in (False, True):
                    endpoint = provider.resolve_endpoint(
                        Region=region, UseFIPS=fips, UseDualStack=dual_stack
                    )
                    assert isinstance(endpoint, RuleSetEndpoint)
                    host = endpoint.url.removeprefix("https://")
                    assert HOSTS.find(host) == service.name, endpoint.url


@pytest.mark.parametrize(
    ("host", "verdict"),
    [
        ("s3vectors.us-east-1.api.aws", Verdict.MAPPED),
        ("s3vectors.us-east-1.amazonaws.com", Verdict.MAPPED),
        ("s3vectors-fips.us-gov-west-1.api.aws", Verdict.MAPPED),
        ("s3vectors.cn-north-1.api.amazonwebservices.com.cn", Verdict.MAPPED),
        ("sts.amazonaws.com", Verdict.MAPPED),
        ("s3vectors.mars-north-1.api.aws", Verdict.UNKNOWN_REGION),
        ("s3vectors.a.b.api.aws", Verdict.UNKNOWN_REGION),
        ("s3.us-east-1.amazonaws.com", Verdict.OTHER),
        ("bedrock-runtime.us-east-1.amazonaws.com", Verdict.MAPPED),
        ("bedrock.eu-central-1.amazonaws.com", Verdict.MAPPED),
        ("bedrock-runtime-fips.us-east-1.amazonaws.com", Verdict.MAPPED),
        ("bedrock-runtime.mars-north-1.amazonaws.com", Verdict.UNKNOWN_REGION),
        ("bedrock-agent-runtime.us-east-1.amazonaws.com", Verdict.OTHER),
        ("s3vectors.us-east-1.api.aws.example.org", Verdict.OTHER),
        ("xs3vectors.us-east-1.api.aws", Verdict.OTHER),
        ("example.org", Verdict.OTHER),
    ],
)
def test_names_are_told_apart(host, verdict):
    assert HOSTS.judge(host) is verdict
    assert (HOSTS.find(host) is not None) == (verdict is Verdict.MAPPED)


def test_a_region_of_ones_own_is_mapped_too():
    hosts = HostMap(["mars-north-1", "", "us-east-1"])
    assert hosts.find("s3vectors.mars-north-1.api.aws") == "s3vectors"
    assert all(len(set(names)) == len(names) for names in hosts.hosts.values())


def test_a_service_may_be_left_to_aws():
    hosts = HostMap(services=[each for each in SERVICES if each not in BEDROCK])
    assert hosts.hosts.keys() == {"s3vectors", "sts"}
    for region in ("us-east-1", "mars-north-1"):
        assert hosts.judge(f"bedrock-runtime.{region}.amazonaws.com") is Verdict.OTHER


def test_no_region_is_in_two_partitions():
    regions = [region for partition in PARTITIONS for region in partition.regions]
    assert len(set(regions)) == len(regions)
