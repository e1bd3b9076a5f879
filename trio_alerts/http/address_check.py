"""The guard in front of every connection to a receiver.

A name is resolved once, every address is judged, and only an address that was judged is connected to: a name that
changes its answer between check and connection gains nothing.
"""

from collections.abc import Sequence
from functools import lru_cache

import httpx

from trio_alerts.http.networks import AllowedNetworks

REMEMBERED = 1000  # addresses; about 0.2 MB


class AddressRefused(httpx.ConnectError):
    """The receiver's address is not allowed: nothing was sent.

    Attributes:
        for_good: The URL itself has the address, so a human must correct the URL, or allow the network in `networks`.
            A name is another matter: wrong DNS is right again a moment later.
    """

    def __init__(self, message: str, *, for_good: bool) -> None:
        super().__init__(message)
        self.for_good = for_good


def allowed_among(allowed: AllowedNetworks, host: str, addresses: Sequence[str], *, literal: bool) -> list[str]:
    """Return which addresses of a host may be connected to, in their order; `literal`: it is an address, not a name.

    Raises:
        AddressRefused: None of them.
    """
    refusals = {address: _refusal(allowed, address) for address in addresses}
    kept = [address for address, reason in refusals.items() if reason is None]
    if not kept:
        reasons = ", ".join(f"{address} ({reason})" for address, reason in refusals.items())
        message = f"no allowed address for {host!r}: {reasons}; see the setting networks"
        raise AddressRefused(message, for_good=literal)
    return kept


@lru_cache(REMEMBERED)
def _refusal(allowed: AllowedNetworks, address: str) -> str | None:
    """Remember the verdict: it takes up to 25 µs, and some receivers close the connection after each answer."""
    return allowed.refusal(address)
