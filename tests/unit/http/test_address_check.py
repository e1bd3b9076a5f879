from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_alerts.http.address_check import AddressRefused, allowed_among
from trio_alerts.http.networks import AllowedNetworks

ANY = AllowedNetworks()
PUBLIC = AllowedNetworks(public_only=True)
LISTED = AllowedNetworks(listed=(ip_network("10.0.0.0/8"), ip_network("fd12::/16"), ip_network("169.254.0.0/16")))
EVERYTHING = AllowedNetworks(listed=(ip_network("0.0.0.0/0"), ip_network("::/0")))

METADATA = "169.254.169.254"
IN_EVERY_DISGUISE = [
    METADATA,
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "::ffff:0:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::169.254.169.254",
    "64:ff9b:1:ab:cd::169.254.169.254",
    "64:ff9b:1::a9:fea9:fe00:0",
    "64:ff9b:1:aba9:fe:a9fe::",
    "64:ff9b:1:a9fe:a9:fe00::",
    "64:ff9b:1:a9fe:a9:fe99:8888:7777",
    "2002:a9fe:a9fe::1",
    "2001:0:4136:e378:8000:63bf:5601:5601",
]


@pytest.mark.parametrize(
    "address",
    [
        *IN_EVERY_DISGUISE,
        *("169.254.170.2", "169.254.0.23", "169.254.42.42"),
        *("168.63.129.16", "100.100.100.200", "192.0.0.192"),
        *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fe80::a9fe:a9fe"),
        *("fd00:100::100:200", "fd00:42::42", "fd00:a9fe:a9fe::1"),
    ],
)
@pytest.mark.parametrize("allowed", [ANY, PUBLIC, LISTED, EVERYTHING])
def test_metadata_is_never_reached(allowed: AllowedNetworks, address: str) -> None:
    """Wherever a cloud answers questions about the machine, no setting and no notation leads there."""
    assert allowed.refusal(address) is not None


@pytest.mark.parametrize("address", ["64:ff9b:1::8.8.8.8", "64:ff9b:1:a00:0:100::", "64:ff9b:1::8:808:800:0"])
def test_what_a_private_nat64_leads_to_is_allowed_by_any(address: str) -> None:
    """Only one of the places holds the address; what the others seem to hold refuses nothing."""
    assert ANY.refusal(address) is None
    assert PUBLIC.refusal(address) is not None


@pytest.mark.parametrize(
    ("address", "refused_by"),
    [
        ("127.0.0.1", {"public", "listed"}),
        ("::1", {"public", "listed"}),
        ("10.1.2.3", {"public"}),
        ("::ffff:10.1.2.3", {"public"}),
        ("192.168.0.1", {"public", "listed"}),
        ("100.64.0.1", {"public", "listed"}),
        ("fd12:3456::1", {"public"}),
        ("fd13::1", {"public", "listed"}),
        ("8.8.8.8", {"listed"}),
        ("::ffff:8.8.8.8", {"listed"}),
        ("64:ff9b::8.8.8.8", {"listed"}),
        ("64:ff9b::10.0.0.1", {"public", "listed"}),
        ("64:ff9b::127.0.0.1", {"public", "listed"}),
        ("2606:4700::1111", {"listed"}),
        ("2002:808:808::1", {"public", "listed"}),
        ("fec0::1", {"public", "listed"}),
        ("2001:db8::1", {"public", "listed"}),
        ("198.18.0.1", {"public", "listed"}),
        ("192.0.0.9", {"public", "listed"}),
        ("240.0.0.1", {"public", "listed"}),
        ("0.0.0.0", {"any", "public", "listed"}),
        ("0.1.2.3", {"any", "public", "listed"}),
        ("::", {"any", "public", "listed"}),
        ("255.255.255.255", {"any", "public", "listed"}),
        ("224.0.0.1", {"any", "public", "listed"}),
        ("ff02::1", {"any", "public", "listed"}),
        ("169.254.7.7", {"any", "public", "listed"}),
        ("fe80::1%lo", {"any", "public", "listed"}),
        ("fd00:ec2::254", {"any", "public", "listed"}),
        ("168.63.129.16", {"any", "public", "listed"}),
        ("100.100.100.200", {"any", "public", "listed"}),
    ],
)
def test_each_setting_refuses_what_it_says(address: str, refused_by: set[str]) -> None:
    """`any` refuses only what is dangerous, `public` all that is not public, a list all that is not in it."""
    settings = {"any": ANY, "public": PUBLIC, "listed": LISTED}

    refusing = {name for name, allowed in settings.items() if allowed.refusal(address) is not None}

    assert refused_by == refusing


@given(st.ip_addresses())
def test_public_is_never_laxer_than_the_standard_library(ip: IPv4Address | IPv6Address) -> None:
    """What Python knows not to be global is not public for us either (mapped and NAT64 by what they carry)."""
    if PUBLIC.refusal(str(ip)) is None:
        carried = IPv4Address(int(ip) & 0xFFFF_FFFF)
        assert ip.is_global or carried.is_global


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:", "64:ff9b::"]))
def test_an_address_inside_another_is_judged_alike(ip: IPv4Address, prefix: str) -> None:
    """Mapped or behind NAT64, a public address stays public and a private one private."""
    for allowed in (ANY, PUBLIC):
        assert (allowed.refusal(str(ip)) is None) == (allowed.refusal(prefix + str(ip)) is None)


def test_only_allowed_addresses_of_a_name_are_kept() -> None:
    """A name with allowed and refused addresses is reached over the allowed ones, in their order."""
    found = allowed_among(
        PUBLIC, "receiver.example", ["10.0.0.1", "8.8.8.8", METADATA, "2606:4700::1111"], literal=False
    )

    assert ["8.8.8.8", "2606:4700::1111"] == found


@pytest.mark.parametrize(("host", "literal"), [("inside.example", False), (METADATA, True)])
def test_a_refusal_says_who_and_why(host: str, literal: bool) -> None:
    """It names the host, its addresses, the reason and the setting; only an address in the URL is refused for good."""
    with pytest.raises(AddressRefused, match=rf"'{host}': 169\.254\.169\.254 \(link-local.*networks") as caught:
        allowed_among(ANY, host, [METADATA], literal=literal)

    assert literal == caught.value.for_good


def test_the_disguises_are_what_they_claim() -> None:
    """The list of disguises really carries the metadata address, also in Python's eyes."""
    teredo = ip_address(IN_EVERY_DISGUISE[-1])

    assert isinstance(teredo, IPv6Address)
    assert teredo.teredo is not None
    assert str(teredo.teredo[1]) == METADATA
