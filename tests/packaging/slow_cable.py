# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP relay as slow as a long way: `slow_cable.py <port here> <host> <port there> <ms each way>`.

For kernels without netem. What comes in leaves after the delay, in order and in the same pieces.
"""

from __future__ import annotations

import asyncio
import sys


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """One direction of one connection."""
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due_s, data = await under_way.get()
            await asyncio.sleep(due_s - asyncio.get_running_loop().time())
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    delivery = asyncio.create_task(deliver())
    data = b"?"
    while data:
        data = await reader.read(65536)
        under_way.put_nowait((asyncio.get_running_loop().time() + delay_s, data))
    await delivery


async def main() -> None:
    here, host, there, delay_ms = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, there)
        await asyncio.gather(carry(reader, far_writer, delay_ms / 1000), carry(far_reader, writer, delay_ms / 1000))

    server = await asyncio.start_server(connected, "127.0.0.1", here)
    async with server:
        await server.serve_forever()


asyncio.run(main())
