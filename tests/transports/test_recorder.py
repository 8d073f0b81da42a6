"""The recorder of frames changes nothing of how its transport works."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest

from tests.conftest import Wire
from trio_mcp import ClientSettings, Server
from trio_mcp.client.target import open_target
from trio_mcp.outgoing.transport import (
    MirroringTransport,
    SessionTransport,
    StatusTransport,
    StreamingTransport,
)

server = Server("recorded")


@server.tool
async def locate(region: Annotated[str, msgspec.Meta(extra_json_schema={"x-mcp-header": "Region"})]) -> str:
    return region


@pytest.mark.parametrize(
    "ability", [MirroringTransport, SessionTransport, StatusTransport, StreamingTransport]
)
async def test_a_recorded_transport_can_do_what_it_can_without_a_record(wire: Wire, ability: type) -> None:
    settings = ClientSettings()
    async with open_target(wire.target(server), settings) as bare:
        can = isinstance(bare, ability)
    async with open_target(wire.recorder(server), settings) as recorded:
        assert isinstance(recorded, ability) is can
    assert can is (wire.transport == "http")


async def test_arguments_are_mirrored_into_headers_of_a_recorded_call(wire: Wire) -> None:
    recorder = wire.recorder(server)
    async with wire.open(recorder) as client:
        assert (await client.call_tool("locate", {"region": "Grüße"})).data == "Grüße"
    (call,) = recorder.sent_messages("tools/call")[-1:]
    assert call["params"]["arguments"] == {"region": "Grüße"}
