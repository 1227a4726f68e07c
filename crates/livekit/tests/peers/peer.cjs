// A participant by LiveKit's Node SDK: as peer.py, but only listening, speaking and answering calls.
//
// Usage: node peer.cjs URL TOKEN

const { createWriteStream, readFileSync } = require('node:fs');
const { createInterface } = require('node:readline');
const rtc = require('@livekit/rtc-node');

const RATE = 48000;
const FRAME = RATE / 50;
const tell = (event, fields = {}) => process.stdout.write(JSON.stringify({ event, ...fields }) + '\n');

async function main(url, token) {
  const room = new rtc.Room();
  let recording = null;
  let source = null;

  room.on(rtc.RoomEvent.TrackSubscribed, async (track, publication, participant) => {
    if (track.kind !== rtc.TrackKind.KIND_AUDIO) return;
    tell('track', { identity: participant.identity, name: publication.name });
    for await (const frame of new rtc.AudioStream(track, RATE, 1)) {
      recording?.write(Buffer.from(frame.data.buffer, frame.data.byteOffset, frame.data.byteLength));
    }
  });
  room.on(rtc.RoomEvent.ActiveSpeakersChanged, (speakers) =>
    tell('speakers', { identities: speakers.map((s) => s.identity) }),
  );
  room.on(rtc.RoomEvent.DataReceived, (payload, participant, _kind, topic) =>
    tell('data', { identity: participant?.identity ?? '', topic: topic ?? '', text: Buffer.from(payload).toString() }),
  );
  await room.connect(url, token, { autoSubscribe: true, dynacast: false });
  const me = room.localParticipant;
  me.registerRpcMethod('upper', async (call) => call.payload.toUpperCase());
  tell('connected', { identity: me.identity });

  const commands = {
    async record({ path }) {
      recording = createWriteStream(path);
      tell('recording');
    },
    async stop() {
      const file = recording;
      recording = null;
      file.end(() => tell('stopped'));
    },
    async publish() {
      source = new rtc.AudioSource(RATE, 1);
      const track = rtc.LocalAudioTrack.createAudioTrack('voice', source);
      const options = new rtc.TrackPublishOptions();
      options.source = rtc.TrackSource.SOURCE_MICROPHONE;
      await me.publishTrack(track, options);
      tell('published');
    },
    async speak({ path }) {
      if (!source) await commands.publish();
      const bytes = readFileSync(path);
      const pcm = new Int16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
      for (let at = 0; at + FRAME <= pcm.length; at += FRAME) {
        await source.captureFrame(new rtc.AudioFrame(pcm.slice(at, at + FRAME), RATE, 1, FRAME));
      }
      tell('spoken');
    },
    async call({ to, method, payload }) {
      try {
        const answer = await me.performRpc({ destinationIdentity: to, method, payload, responseTimeout: 5000 });
        tell('answer', { text: answer });
      } catch (error) {
        tell('rpc_error', { code: error.code, text: error.message });
      }
    },
  };
  for await (const line of createInterface({ input: process.stdin })) {
    const { do: what, ...rest } = JSON.parse(line);
    commands[what](rest).catch((error) => tell('error', { text: String(error) }));
  }
  await room.disconnect();
  await rtc.dispose();
}

main(process.argv[2], process.argv[3]);
