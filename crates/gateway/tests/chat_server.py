"""A chat server as section 5 of the protocol describes it, by another hand than ours.

Checks what the gateway sends, echoes every audio frame in bursts between `tts` messages, and prints what it saw.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import struct
import sys

import websockets

SECRET = "topsecret"


def check(condition, what):
    if not condition:
        print("WRONG " + what, flush=True)


async def serve(socket):
    headers = socket.request.headers
    check(headers["device-id"] == "aa:bb:cc:dd:ee:01", "device-id")
    check(headers["client-id"] == "uuid-1", "client-id")
    check(headers["protocol-version"] == "2", "protocol-version")
    check(headers["x-forwarded-for"] == "1.2.3.4", "x-forwarded-for")
    check(socket.request.path.endswith("?from=mqtt_gateway"), "path")
    signature, unix = headers["authorization"].removeprefix("Bearer ").split(".")
    text = f"uuid-1|aa:bb:cc:dd:ee:01|{unix}".encode()
    expected = base64.urlsafe_b64encode(hmac.new(SECRET.encode(), text, hashlib.sha256).digest())
    check(signature == expected.decode().rstrip("="), "authorization")

    hello = json.loads(await socket.recv())
    check((hello["type"], hello["version"], hello["transport"]) == ("hello", 2, "websocket"), "hello")
    check(hello["audio_params"]["sample_rate"] == 16000 and hello["features"] == {"mcp": False}, "hello fields")
    await socket.send(json.dumps({"type": "hello", "transport": "websocket", "session_id": "theirs"}))

    sequence = 0
    async for message in socket:
        if isinstance(message, str):
            value = json.loads(message)
            print("TEXT " + message, flush=True)
            check(value.get("session_id") == "theirs", "session of " + message)
            if value["type"] == "listen" and value["state"] == "stop":
                await socket.send(json.dumps({"type": "tts", "state": "stop", "session_id": "theirs"}))
            elif value["type"] == "listen" and value["state"] == "start":
                await socket.send(json.dumps({"type": "stt", "text": "hi", "session_id": "theirs"}))
                await socket.send(json.dumps({"type": "tts", "state": "start", "session_id": "theirs"}))
            elif value["type"] == "bye":
                await socket.close()
        else:
            zero, timestamp, length = struct.unpack(">QII", message[:16])
            check(zero == 0 and length == len(message) - 16, "frame header")
            sequence += 1
            await socket.send(struct.pack(">BBHIII", 1, 0, length, sequence, timestamp, length) + message[16:])


async def main():
    async with websockets.serve(serve, "127.0.0.1", 0) as server:
        print("PORT %d" % server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
