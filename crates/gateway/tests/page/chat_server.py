"""A chat server for the page: to each turn it says all that a chat server may say, and hangs up where both may speak at once.

With the argument `turns`, it holds the page to who speaks when, and says what it hears.
"""

import asyncio
import json
import sys
import time

import websockets

TURN = [
    {"type": "stt", "text": "What is <b>that</b>?"},
    {"type": "llm", "emotion": "happy", "text": "🙂"},
    {"type": "tts", "state": "start"},
    {"type": "tts", "state": "sentence_start", "text": "That is a page."},
    {"type": "tts", "state": "sentence_end", "text": "That is a page."},
    {"type": "alert", "status": "Battery", "message": "it is low", "emotion": "sad"},
    {"type": "mcp", "payload": {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}},
    {"type": "system", "command": "reboot"},
    {"type": "tts", "state": "stop"},
]


async def serve(socket):
    await socket.recv()
    await socket.send(json.dumps({"type": "hello", "transport": "websocket", "session_id": "theirs"}))
    turns = 0
    async for message in socket:
        if not isinstance(message, str):
            continue
        value = json.loads(message)
        if value["type"] == "listen" and value.get("mode") == "realtime":
            return
        if value["type"] == "listen" and value["state"] == "start":
            turns += 1
            for said in TURN:
                await socket.send(json.dumps({"session_id": "theirs", **said}))


async def turns(socket):
    async def say(**message):
        await socket.send(json.dumps({"session_id": "theirs", **message}))

    async def tell(text):
        await say(type="tts", state="sentence_start", text=text)

    async def listens(mode):
        while True:
            message = await socket.recv()
            value = json.loads(message) if isinstance(message, str) else {}
            if value.get("type") == "listen" and value["state"] == "start" and value["mode"] == mode:
                return

    async def audio_after(seconds):
        began = time.monotonic()
        while isinstance(await socket.recv(), str) or time.monotonic() - began < seconds:
            pass

    await socket.recv()
    await say(type="hello", transport="websocket")
    await listens("realtime")
    await say(type="tts", state="start")
    await audio_after(0)
    await tell("I hear you.")
    try:
        while True:
            await asyncio.wait_for(socket.recv(), 0.7)
    except asyncio.TimeoutError:
        await tell("Nobody speaks into it.")
    await say(type="tts", state="stop")
    await listens("auto")
    await tell("Your turn.")
    await listens("auto")
    await audio_after(1)
    await tell("Still there.")
    await socket.wait_closed()


async def main():
    async with websockets.serve(turns if sys.argv[1:] == ["turns"] else serve, "127.0.0.1", 0) as server:
        print("PORT %d" % server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
