"""A node's certificate is renewed by the node itself, over the connection that the old one opened.

The key stays: who pinned it (``node_fingerprints``) need not do anything. The authority may have signed itself anew,
with its own key (:meth:`hanse.identity.Authority.open`): its new certificate is taken, any other is not.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace

from hanse import validity
from hanse.errors import WireError
from hanse.identity import NodeIdentity, read_certificate, same_authority
from hanse.messages import Json

DAYS = 60  # before the end; a month later owner and operator are warned that it did not work
_GAIN = datetime.timedelta(days=1)  # less is no renewal: the authority itself ends


def due(identity: NodeIdentity) -> bool:
    """Whether the certificate ends so soon that it is time for the next one."""
    return read_certificate(identity.cert_pem).expires - validity.now() < datetime.timedelta(days=DAYS)


def renewed(identity: NodeIdentity, answer: Mapping[str, Json]) -> NodeIdentity:
    """The node with the certificate of the coordinator's answer (``certificate``, and the ``authority`` that signed).

    Raises:
        WireError: these are no texts, or the certificate does not end later than the one that the node has.
        NotAuthenticated: another authority's, another node's, or for another key.
    """
    certificate, authority = answer.get("certificate"), answer.get("authority")
    if not isinstance(certificate, str) or not isinstance(authority, str):
        raise WireError("the coordinator's answer lacks the certificate, or the authority that signed it")
    found = replace(identity, cert_pem=certificate.encode(), ca_pem=same_authority(identity.ca_pem, authority.encode()))
    found.check()
    ends = read_certificate(found.cert_pem).expires
    if ends - read_certificate(identity.cert_pem).expires < _GAIN:
        raise WireError(f"the new certificate would end on {ends:%Y-%m-%d}, hardly later than the old one")
    return found
