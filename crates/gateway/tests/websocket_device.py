"""A device on WebSocket by another hand: Python's `websockets`. Prints what it saw as one line of JSON.

    websocket_device.py talk URL VERSION TOKEN [CA]     a conversation with the echo room
    websocket_device.py misbehave URL TOKEN             what a device should not do, and what becomes of it
    websocket_device.py stranger URL                    without credentials, as a page of a browser
"""

import asyncio
import json
import ssl
import struct
import sys
import time
from urllib.parse import quote

import websockets

MAC = "AA:bb:cc:dd:ee:01"
CLIENT = "uuid-1"
# SILK, 60 ms, with its flags of voice activity, or without.
VOICE, SILENCE = b"\x58\xe0", b"\x58" + bytes(9)


def headers(version, token):
    return {
        "Device-Id": MAC,
        "Client-Id": CLIENT,
        "Protocol-Version": str(version),
        "Authorization": f"Bearer {token}",
    }


def pack(version, opus):
    return {1: b"", 2: struct.pack(">HHIII", 2, 0, 0, 0, len(opus)), 3: struct.pack(">BBH", 0, 0, len(opus))}[version] + opus


def unpack(version, frame):
    if version == 1:
        return frame
    if version == 2:
        two, kind, _, timestamp, length = struct.unpack(">HHIII", frame[:16])
        assert (two, kind, length) == (2, 0, len(frame) - 16) and timestamp > 0, frame
        return frame[16:]
    kind, _, length = struct.unpack(">BBH", frame[:4])
    assert (kind, length) == (0, len(frame) - 4), frame
    return frame[4:]


def hello(version, transport="websocket"):
    audio = {"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": 60}
    return json.dumps({"type": "hello", "version": version, "transport": transport, "audio_params": audio})


async def hear(socket):
    message = await asyncio.wait_for(socket.recv(), 20)
    return json.loads(message) if isinstance(message, str) else message


async def begin(socket, version):
    await socket.send(hello(version))
    return await hear(socket)


async def talk(url, version, token, ca=None):
    version = int(version)
    context = ssl.create_default_context(cafile=ca) if ca else None
    seen = {"states": [], "numbers": [], "strange": 0, "late_ms": 0}
    async with websockets.connect(url, additional_headers=headers(version, token), ssl=context) as socket:
        seen["hello"] = await begin(socket, version)
        session = seen["hello"]["session_id"]
        await socket.send(json.dumps({"type": "ping", "id": 7}))
        seen["pong"] = await hear(socket)
        await socket.send(json.dumps({"type": "listen", "session_id": session, "state": "start", "mode": "auto"}))

        async def speak():
            due = time.monotonic()
            for number in range(10_000):
                await socket.send(pack(version, VOICE + bytes([number]) * 90 if number < 20 else SILENCE))
                due += 0.06
                seen["late_ms"] = max(seen["late_ms"], (time.monotonic() - due) * 1000)
                await asyncio.sleep(max(0, due - time.monotonic()))

        speaking = asyncio.create_task(speak())
        while seen["states"][-1:] != ["stop"]:
            message = await hear(socket)
            if isinstance(message, dict):
                seen["states"].append(message["state"])
                continue
            opus = unpack(version, message)
            if opus[:2] == VOICE:
                seen["numbers"].append(opus[2])
            elif opus != SILENCE:
                seen["strange"] += 1
        speaking.cancel()
        await socket.send(json.dumps({"type": "goodbye", "session_id": session}))
        await asyncio.wait_for(socket.wait_closed(), 20)
        seen["closed"] = socket.close_code
    return seen


async def refused(url, given):
    try:
        async with websockets.connect(url, additional_headers=given, open_timeout=20):
            return "let in"
    except websockets.InvalidStatus as error:
        return f"{error.response.status_code} {error.response.body.decode().strip()}"


async def misbehave(url, token):
    given = headers(2, token)
    without = lambda name: {key: value for key, value in given.items() if key != name}
    seen = {
        "no token": await refused(url, without("Authorization")),
        "wrong token": await refused(url, given | {"Authorization": "Bearer a.1"}),
        "no device": await refused(url, without("Device-Id")),
        "no MAC": await refused(url, given | {"Device-Id": "me"}),
        "version": await refused(url, given | {"Protocol-Version": "4"}),
    }
    query = "&".join(f"{key.lower()}={quote(value)}" for key, value in given.items())
    async with websockets.connect(f"{url}?{query}") as socket:
        await socket.send("{")
        seen["no JSON"] = (await hear(socket))["type"]
        await socket.send(hello(3, "udp"))
        seen["transport"] = (await hear(socket))["message"]
        await socket.send(b"\0\2")
        await socket.send(pack(2, VOICE))
        seen["still there"] = (await begin(socket, 2))["type"]
        await socket.send(pack(2, b"\x5b\xff"))
        await socket.send(json.dumps({"type": "ping", "id": 1}))
        seen["after no Opus"] = (await hear(socket))["type"]
        async with websockets.connect(url, additional_headers=given) as newer:
            await asyncio.wait_for(socket.wait_closed(), 20)
            seen["replaced"] = socket.close_code
            seen["newer"] = (await begin(newer, 2))["type"]
            await newer.send(b"x" * 9000)
            await asyncio.wait_for(newer.wait_closed(), 20)
            seen["too long"] = newer.close_code
    return seen


async def stranger(url):
    given = {"Device-Id": MAC, "Client-Id": CLIENT}
    host = url.split("//")[1].strip("/")
    return {
        "no page": await refused(url, given),
        "our page": await refused(url, given | {"Origin": f"http://{host}"}),
        "their page": await refused(url, given | {"Origin": "https://elsewhere.test"}),
        "their name": await refused(url, given | {"Origin": "http://elsewhere.test", "Host": "elsewhere.test"}),
    }


what, arguments = sys.argv[1], sys.argv[2:]
print(json.dumps(asyncio.run({"talk": talk, "misbehave": misbehave, "stranger": stranger}[what](*arguments))))
