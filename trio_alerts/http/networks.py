"""Where receivers may live: what guards against a URL that points this process at what it must not touch (SSRF)."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network

# Never a receiver, whatever the setting says: nothing that alerts a human lives here, and what does live here hands
# out credentials or repeats a packet to a whole network.
NEVER: tuple[tuple[IPNetwork, str], ...] = tuple(
    (ip_network(network), reason)
    for network, reason in (
        ("169.254.0.0/16", "link-local, where cloud metadata lives"),
        ("fe80::/10", "link-local, where cloud metadata lives"),  # OpenStack's fe80::a9fe:a9fe
        # Each as its cloud documents it: outside of the link-local networks, and mostly inside private ones.
        ("168.63.129.16/32", "cloud metadata (Azure)"),  # "What is IP address 168.63.129.16?"
        ("100.100.100.200/32", "cloud metadata (Alibaba)"),  # "Access instance metadata"
        ("192.0.0.192/32", "cloud metadata (Oracle)"),  # Compute Classic
        ("fd00:ec2::/32", "cloud metadata (AWS)"),  # EC2's IPv6 services: ::254 metadata, ::23 EKS credentials
        ("fd20:ce::254/128", "cloud metadata (Google)"),  # "About VM metadata", IPv6-only instances
        ("fd00:c1::a9fe:a9fe/128", "cloud metadata (Oracle)"),  # the endpoint in Oracle's own SDKs
        ("fd00:100::100:200/128", "cloud metadata (Alibaba)"),  # "Access instance metadata", IPv6
        ("fd00:42::42/128", "cloud metadata (Scaleway)"),  # cloud-init's data source of Scaleway
        ("fd00:a9fe:a9fe::1/128", "cloud metadata (Akamai)"),  # "Overview of the Metadata service"
        ("0.0.0.0/8", "unspecified: the system connects to itself"),
        ("::/128", "unspecified: the system connects to itself"),
        ("224.0.0.0/4", "multicast"),
        ("ff00::/8", "multicast"),
        ("255.255.255.255/32", "broadcast"),
    )
)

# IANA's special-purpose registries, written out: what the standard library calls global differs between Python
# versions, and in every version includes addresses that carry another address inside (NAT64, 6to4).
NOT_PUBLIC: tuple[IPNetwork, ...] = tuple(
    ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)
GLOBAL_UNICAST = IPv6Network("2000::/3")  # all that is assigned for the public IPv6 internet

MAPPED = IPv6Network("::ffff:0:0/96")  # the system itself sends these as IPv4
NAT64 = IPv6Network("64:ff9b::/96")
LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")  # RFC 8215
# The last 32 bits of these are an IPv4 address: mapped, "compatible", translated, and the well-known form of NAT64.
CARRIES_IPV4_LAST = (MAPPED, IPv6Network("::/96"), IPv6Network("::ffff:0:0:0/96"), NAT64)

# Where the four bytes of an IPv4 address stand behind a NAT64 prefix of 48, 56, 64 and 96 bits (RFC 6052, section 2.2).
# Whoever runs the translator chooses the length, so each is possible; the other bytes need not be 0.
NAT64_PLACES = ((6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12), (12, 13, 14, 15))
THIS_NETWORK = IPv4Network("0.0.0.0/8")  # no translator sends there: what is read as this was written at another place


@dataclass(frozen=True, slots=True)
class AllowedNetworks:
    """The setting `networks`: any address but the dangerous ones, public ones only, or the listed networks."""

    public_only: bool = False
    listed: tuple[IPNetwork, ...] = ()

    @classmethod
    def of(cls, setting: str | tuple[IPNetwork, ...]) -> "AllowedNetworks":
        """Return what the setting `networks` says."""
        return cls(public_only=setting == "public", listed=setting if isinstance(setting, tuple) else ())

    def refusal(self, address: str) -> str | None:
        """Say why a numeric address must not be connected to; None if it may be."""
        ip = ip_address(address.partition("%")[0])
        carried = carried_ipv4(ip)
        for judged in (ip, *carried):
            for network, reason in NEVER:
                if judged in network:
                    return reason if judged is ip else f"it carries {judged}: {reason}"
        if self.public_only and not is_public(ip):
            return "not a public address"
        seen_as = carried[0] if ip in MAPPED else ip
        if self.listed and not any(seen_as in network for network in self.listed):
            return "not in one of the listed networks"
        return None


def carried_ipv4(ip: IPAddress) -> tuple[IPv4Address, ...]:
    """Return the IPv4 addresses that an IPv6 address may lead to or was made from."""
    if not isinstance(ip, IPv6Address) or int(ip) <= 1:  # :: and ::1 stand for themselves
        return ()
    if ip.sixtofour is not None:
        return (ip.sixtofour,)
    if ip.teredo is not None:
        return (ip.teredo[1],)
    if any(ip in network for network in CARRIES_IPV4_LAST):
        return (IPv4Address(int(ip) & 0xFFFF_FFFF),)
    if ip in LOCAL_NAT64:
        found = (IPv4Address(bytes(ip.packed[place] for place in places)) for places in NAT64_PLACES)
        return tuple(one for one in found if one not in THIS_NETWORK)
    return ()


def is_public(ip: IPAddress) -> bool:
    """Tell whether an address is one of the public internet.

    NAT64 is how hosts with IPv6 alone reach public IPv4 addresses, so the address it carries decides. 6to4 and Teredo
    are retired: never public.
    """
    if ip in MAPPED or ip in NAT64:
        return all(is_public(carried) for carried in carried_ipv4(ip))
    if isinstance(ip, IPv6Address) and ip not in GLOBAL_UNICAST:
        return False
    return not any(ip in network for network in NOT_PUBLIC)
