"""Every test of the transport runs on every wire."""

from __future__ import annotations

import pytest

from tests.support.connecting import OpenTransport, transport_over
from tests.support.wires import WIRES


@pytest.fixture(params=WIRES)
def transport(request: pytest.FixtureRequest) -> OpenTransport:
    """Opens transports over one of the wires."""
    return transport_over(request.param)
