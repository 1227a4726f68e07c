"""A participant by LiveKit's own SDK, told what to do on stdin and telling what happens on stdout, a JSON a line.

Usage: peer.py URL TOKEN
"""

import asyncio
import json
import sys

from livekit import rtc

RATE = 48_000
FRAME = RATE // 50


def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Peer:
    def __init__(self):
        self.room = rtc.Room()
        self.source = None
        self.recording = None
        self.flooding = False
        self.tasks = set()

    def spawn(self, work):
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def join(self, url, token):
        room = self.room
        room.on("participant_connected", lambda p: tell("joined", identity=p.identity, attributes=dict(p.attributes)))
        room.on("participant_disconnected", lambda p: tell("left", identity=p.identity))
        room.on("active_speakers_changed", lambda s: tell("speakers", identities=[p.identity for p in s]))
        room.on("track_subscribed", self.track_subscribed)
        room.on("data_received", self.data_received)
        room.on("disconnected", lambda *_: tell("disconnected"))
        room.register_text_stream_handler("chat", lambda reader, identity: self.spawn(self.read(reader, identity)))
        await room.connect(url, token, rtc.RoomOptions(auto_subscribe=True))

        @room.local_participant.register_rpc_method("upper")
        async def upper(call):
            if call.payload == "fail":
                raise rtc.RpcError(1777, "as you wish", "data")
            return call.payload.upper()

        @room.local_participant.register_rpc_method("slow")
        async def slow(_call):
            await asyncio.sleep(30)
            return ""

        for method in ["interrupt", "start_turn", "end_turn"]:
            room.local_participant.register_rpc_method(method, self.called(method))

        present = [p.identity for p in room.remote_participants.values()]
        tell("connected", identity=room.local_participant.identity, present=present)

    @staticmethod
    def called(method):
        async def answer(call):
            tell("called", method=method, payload=call.payload)
            return "ok"

        return answer

    def track_subscribed(self, track, publication, participant):
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            tell("track", identity=participant.identity, name=publication.name, mime=publication.mime_type)
            self.spawn(self.listen(track))

    async def listen(self, track):
        async for event in rtc.AudioStream(track, sample_rate=RATE, num_channels=1):
            if self.recording:
                self.recording.write(bytes(event.frame.data))
        tell("track_ended")

    def data_received(self, packet):
        identity = packet.participant.identity if packet.participant else ""
        reliable = packet.kind == rtc.DataPacketKind.KIND_RELIABLE
        tell("data", identity=identity, topic=packet.topic, text=packet.data.decode(), reliable=reliable)

    async def read(self, reader, identity):
        text = await reader.read_all()
        tell("text", identity=identity, topic=reader.info.topic, text=text, attributes=dict(reader.info.attributes))

    async def publish(self):
        self.source = rtc.AudioSource(RATE, 1)
        track = rtc.LocalAudioTrack.create_audio_track("voice", self.source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await self.room.local_participant.publish_track(track, options)

    async def speak(self, path):
        if not self.source:
            await self.publish()
        with open(path, "rb") as file:
            pcm = file.read()
        tell("speaking")
        for at in range(0, len(pcm) - FRAME * 2 + 1, FRAME * 2):
            await self.source.capture_frame(rtc.AudioFrame(pcm[at : at + FRAME * 2], RATE, 1, FRAME))
        await self.source.wait_for_playout()
        tell("spoken")

    async def call(self, to, method, payload):
        try:
            answer = await self.room.local_participant.perform_rpc(
                destination_identity=to, method=method, payload=payload, response_timeout=5.0
            )
            tell("answer", text=answer)
        except rtc.RpcError as error:
            tell("rpc_error", code=error.code, text=error.message)

    async def flood(self):
        me, self.flooding = self.room.local_participant, True
        # Several at once, or they would be as few a second as the machine is busy; small and not too many, or the server
        # would drop them itself.
        while self.flooding:
            await asyncio.gather(*(me.publish_data(b"flood", reliable=False, topic="flood") for _ in range(50)))
        tell("flooded")

    async def tracks(self, count):
        for i in range(count):
            source = rtc.AudioSource(RATE, 1)
            track = rtc.LocalAudioTrack.create_audio_track(f"t{i}", source)
            await self.room.local_participant.publish_track(track, rtc.TrackPublishOptions())
        video = rtc.LocalVideoTrack.create_video_track("video", rtc.VideoSource(64, 64))
        await self.room.local_participant.publish_track(video, rtc.TrackPublishOptions())
        tell("published")

    async def do(self, command):
        me = self.room.local_participant
        match command.pop("do"):
            case "publish":
                await self.publish()
                tell("published")
            case "speak":
                await self.speak(**command)
            case "record":
                self.recording = open(command["path"], "wb")
                tell("recording")
            case "stop":
                self.recording, file = None, self.recording
                file.close()
                tell("stopped")
            case "data":
                to = command.get("to")
                await me.publish_data(
                    command["text"], reliable=command["reliable"], topic=command["topic"], destination_identities=to or []
                )
            case "text":
                await me.send_text(command["text"], topic=command["topic"], attributes=command["attributes"])
            case "call":
                await self.call(**command)
            case "flood":
                await self.flood()
            case "calm":
                self.flooding = False
            case "tracks":
                await self.tracks(**command)
            case "attributes":
                await me.set_attributes(command["attributes"])

    async def run(self, url, token):
        await self.join(url, token)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            self.spawn(self.guarded(json.loads(line)))
        await self.room.disconnect()

    async def guarded(self, command):
        try:
            await self.do(command)
        except Exception as error:  # the test shall see it, whatever it is
            tell("error", text=repr(error))


async def main():
    # A room belongs to the loop that runs when it is made.
    await Peer().run(*sys.argv[1:3])


asyncio.run(main())
