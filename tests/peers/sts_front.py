"""Makes an S3-only server look like an emulator: responds to STS AssumeRole with the server's one key, passes everything else on.

Each connection carries one request, so that the gateway never sends an STS call down a connection that leads to the server.

    sts_front.py PORT UPSTREAM_PORT ACCESS_KEY SECRET_KEY
"""

import asyncio
import datetime
import re
import sys

ASSUME_ROLE_RESPONSE = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>\
<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>front</SessionToken>\
<Expiration>{expires:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials><AssumedRoleUser><Arn>arn:aws:sts::000000000000:assumed-role/suite/front</Arn>\
<AssumedRoleId>AROAEXAMPLE:front</AssumedRoleId></AssumedRoleUser></AssumeRoleResult>\
<ResponseMetadata><RequestId>front</RequestId></ResponseMetadata></AssumeRoleResponse>"""


def assume_role(form, key, secret):
    seconds = int(re.search(rb"DurationSeconds=(\d+)", form)[1])
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    body = ASSUME_ROLE_RESPONSE.format(key=key, secret=secret, expires=expires).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


async def copy(reader, writer):
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except (ConnectionError, OSError):
        writer.close()


async def main(port, upstream, key, secret):
    async def accept(reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        if head.startswith(b"POST / ") and length and b"x-www-form-urlencoded" in head.lower():
            writer.write(assume_role(await reader.readexactly(int(length[1])), key, secret))
        else:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", upstream)
            up_writer.write(head[:-2] + b"Connection: close\r\n\r\n")
            upward = asyncio.ensure_future(copy(reader, up_writer))
            await copy(up_reader, writer)
            upward.cancel()
            up_writer.close()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", port, limit=1 << 20)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]))
