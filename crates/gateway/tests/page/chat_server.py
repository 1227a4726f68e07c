"""A chat server for the page: to each turn it says all that a chat server may say, and in the third it hangs up."""

import asyncio
import json
import sys

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


async def main():
    async with websockets.serve(serve, "127.0.0.1", 0) as server:
        print("PORT %d" % server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
