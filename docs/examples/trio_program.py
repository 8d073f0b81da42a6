"""A server inside a Trio program that has its own nursery and its own work.

The thermometer belongs to the program; the server only reads it. Both run in one
nursery, and cancelling the nursery ends both. It prints:

    [10, 11, 12]
    3 readings, the last is 12
"""

from functools import partial

import trio

from trio_mcp import Context, Server, open_client, serve_http


class Thermometer:
    """Measures. This is the work of the program itself."""

    def __init__(self) -> None:
        self.readings: list[int] = []
        self.warm = trio.Event()

    async def measure(self) -> None:
        for reading in (10, 11, 12):
            await trio.sleep(0.01)
            self.readings.append(reading)
        self.warm.set()
        await trio.sleep_forever()


def make_server(thermometer: Thermometer) -> Server:
    server = Server("thermometer")

    @server.tool
    async def wait_warm(ctx: Context) -> list[int]:
        """Wait until it is warm, and give all readings."""
        await thermometer.warm.wait()
        return thermometer.readings

    return server


async def main() -> None:
    thermometer = Thermometer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(thermometer.measure)
        (url,) = await nursery.start(partial(serve_http, make_server(thermometer), bind="127.0.0.1:0"))

        async with open_client(url) as client:
            readings = (await client.call_tool("wait_warm")).data
        print(readings)

        nursery.cancel_scope.cancel()  # ends the thermometer and the server
    print(f"{len(readings)} readings, the last is {readings[-1]}")


if __name__ == "__main__":
    trio.run(main)
