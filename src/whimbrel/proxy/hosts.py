"""Which host names are taken for the server's own, and which belong to the world.

AWS's names are made of a service's prefix, a region and a suffix of the region's partition, such as
`s3vectors.us-east-1.api.aws`. The tables below follow the endpoint rules and partitions of the AWS SDKs.

1. A name of a mapped service never passes to AWS by accident: one whose region is not known here is told apart
   (`Verdict.UNKNOWN_REGION`), so that the caller can refuse it.
2. Every name that is mapped is known before a child starts, because certificates are made then.

Each service has a certificate of its own, with all its names spelt out: about 2 ms before a child starts. A wildcard
would have to leave out the service (`*.us-east-1.amazonaws.com`), and so stand for all of AWS.

To map one more service, add a line to `SERVICES`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final


@dataclass(frozen=True, slots=True)
class Partition:
    """A separate part of AWS.

    Attributes:
        suffixes: ends of its host names: the plain one, then the dual-stack one.
        regions: its regions.
    """

    suffixes: tuple[str, ...]
    regions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MappedService:
    """A service of AWS that the server speaks.

    Attributes:
        name: as SDKs call it.
        prefixes: starts of its host names, FIPS ones included.
        global_hosts: its names without a region.
    """

    name: str
    prefixes: tuple[str, ...]
    global_hosts: tuple[str, ...] = ()


BEDROCK: Final = (
    MappedService("bedrock", ("bedrock", "bedrock-fips")),
    MappedService("bedrock-runtime", ("bedrock-runtime", "bedrock-runtime-fips")),
)
"""May be left to AWS, which has models that the server has not."""
SERVICES: Final = (
    MappedService("s3vectors", ("s3vectors", "s3vectors-fips")),
    MappedService("sts", ("sts", "sts-fips"), ("sts.amazonaws.com",)),
    *BEDROCK,
)

_COMMERCIAL: Final = (
    "af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1",
    "ap-south-2", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5",
    "ap-southeast-6", "ap-southeast-7", "ca-central-1", "ca-west-1", "eu-central-1", "eu-central-2", "eu-north-1",
    "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3", "il-central-1", "me-central-1", "me-south-1",
    "me-west-1", "mx-central-1", "sa-east-1", "sa-west-1", "us-east-1", "us-east-2", "us-gov-east-1", "us-gov-west-1",
    "us-west-1", "us-west-2",
)  # fmt: skip
PARTITIONS: Final = (
    Partition(("amazonaws.com", "api.aws"), _COMMERCIAL),
    Partition(
        ("amazonaws.com.cn", "api.amazonwebservices.com.cn"), ("cn-north-1", "cn-northwest-1")
    ),
    Partition(("amazonaws.eu", "api.amazonwebservices.eu"), ("eusc-de-east-1",)),
    Partition(("c2s.ic.gov", "api.aws.ic.gov"), ("us-iso-east-1", "us-iso-west-1")),
    Partition(("sc2s.sgov.gov", "api.aws.scloud"), ("us-isob-east-1", "us-isob-west-1")),
    Partition(("cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"), ("eu-isoe-west-1",)),
    Partition(("csp.hci.ic.gov", "api.aws.hci.ic.gov"), ("us-isof-east-1", "us-isof-south-1")),
)
SUFFIXES: Final = tuple(suffix for partition in PARTITIONS for suffix in partition.suffixes)


class Verdict(Enum):
    """What a host name is."""

    MAPPED = "mapped"
    UNKNOWN_REGION = "a mapped service in a region that is not known here"
    OTHER = "other"


class HostMap:
    """The names that are mapped, by service.

    Args:
        more_regions: regions of the user's own to map besides the known ones; of the commercial partition.
        services: what is mapped.
    """

    def __init__(
        self, more_regions: Iterable[str] = (), *, services: Iterable[MappedService] = SERVICES
    ) -> None:
        services = tuple(services)
        commercial, *others = PARTITIONS
        known = {region for partition in PARTITIONS for region in partition.regions}
        more = sorted({region for region in more_regions if region and region not in known})
        partitions = [Partition(commercial.suffixes, (*commercial.regions, *more)), *others]
        self._hosts = {service.name: tuple(_hosts_of(service, partitions)) for service in services}
        self._service_by_host = {
            host: name for name, hosts in self._hosts.items() for host in hosts
        }
        self._prefixes = {prefix for service in services for prefix in service.prefixes}

    @property
    def hosts(self) -> dict[str, tuple[str, ...]]:
        """The mapped names of each service."""
        return dict(self._hosts)

    def find(self, host: str) -> str | None:
        """Returns the service that a name belongs to, or None where it is not mapped.

        Args:
            host: in lower case, without a dot at its end.
        """
        return self._service_by_host.get(host)

    def judge(self, host: str) -> Verdict:
        """Returns what a name is.

        Args:
            host: in lower case, without a dot at its end.
        """
        if host in self._service_by_host:
            return Verdict.MAPPED
        prefix, _, rest = host.partition(".")
        if prefix in self._prefixes and rest.endswith(SUFFIXES):
            return Verdict.UNKNOWN_REGION
        return Verdict.OTHER


def _hosts_of(service: MappedService, partitions: Iterable[Partition]) -> Iterable[str]:
    yield from service.global_hosts
    for partition in partitions:
        for region in partition.regions:
            for suffix in partition.suffixes:
                for prefix in service.prefixes:
                    yield f"{prefix}.{region}.{suffix}"
