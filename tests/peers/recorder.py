"""A recording relay in front of an emulator: passes bytes on unchanged and writes down what went each way.

One file per connection and direction, `NNNN.sent` and `NNNN.received`, so that a test can check what an upstream really saw. Each direction
keeps its first 64 MiB: a connection is used again after a large upload, and what comes then counts too.

    recorder.py DIR PORT UPSTREAM_PORT
"""

import asyncio
import itertools
import sys
from pathlib import Path

KEPT = 64 << 20
CHUNK = 64 << 10


async def relay(reader, writer, path):
    kept = 0
    with path.open("wb", buffering=0) as record:
        try:
            while data := await reader.read(CHUNK):
                # written down before it is passed on: the upstream never sees what the record lacks
                if kept < KEPT:
                    kept += record.write(data[: KEPT - kept])
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except ConnectionError:
            writer.close()


async def main(directory, port, upstream):
    directory.mkdir(parents=True, exist_ok=True)
    numbers = itertools.count()

    async def accept(reader, writer):
        name = f"{next(numbers):05}"
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", upstream)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            relay(reader, up_writer, directory / f"{name}.sent"),
            relay(up_reader, writer, directory / f"{name}.received"),
        )
        writer.close()
        up_writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
