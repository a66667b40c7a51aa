"""Requests that come through proxies: what these say of the client, where they are trusted."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from candlestep.api.settings import Network

_FORWARDED = b"x-forwarded-"
_FORWARDED_FOR = _FORWARDED + b"for"
_MAPPED = "::ffff:"


class TrustedProxies:
    """The proxies whose word on their client is taken."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks

    def client_address(
        self, peer: tuple[str, int] | None, headers: Iterable[tuple[bytes, bytes]]
    ) -> str | None:
        """Return the address of the client: the peer, or for whom trusted proxies forward.

        The last address of ``X-Forwarded-For`` that is not a trusted proxy's; what stands before
        it, the client may have made up. None if the peer has no address.
        """
        address = _address(peer)
        if address is None or not self._trusts(address):
            return address
        forwarded = b",".join(value for name, value in headers if name == _FORWARDED_FOR)
        for text in reversed(forwarded.decode("latin-1").split(",")):
            said = text.strip()
            if not _is_address(said):
                break
            address = said
            if not self._trusts(said):
                break
        return address

    def believed(
        self, peer: tuple[str, int] | None, headers: Mapping[bytes, bytes]
    ) -> Mapping[bytes, bytes]:
        """Return the headers without those that only a trusted proxy may send, unless one did."""
        address = _address(peer)
        if address is not None and self._trusts(address):
            return headers
        return {name: value for name, value in headers.items() if not name.startswith(_FORWARDED)}

    def _trusts(self, address: str) -> bool:
        if not self._networks:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


def _address(peer: tuple[str, int] | None) -> str | None:
    # A listener on both IPv6 and IPv4 sees addresses of the latter as those of the former.
    return None if peer is None else peer[0].removeprefix(_MAPPED)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
