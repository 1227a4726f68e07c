// A LiveKit room's voices to a device, by UDP: what a gateway does with each track it hears.
// Usage: node livekit-bridge.mjs URL TOKEN DEVICE_HOST DEVICE_PORT KEY_HEX (needs the package @livekit/rtc-node)
import dgram from 'node:dgram';
import { Engine } from 'evenkeel';

const RATE = 48_000;
const SAMPLES = RATE / 50;

/** Frames of any length to frames of 20 ms in the engine; everything after that happens off the event loop. */
export async function bridge(frames, stream) {
  const pending = new Int16Array(SAMPLES);
  let held = 0;
  for await (const { data } of frames) {
    for (let at = 0; at < data.length; ) {
      const taken = Math.min(SAMPLES - held, data.length - at);
      pending.set(data.subarray(at, at + taken), held);
      [held, at] = [held + taken, at + taken];
      if (held < SAMPLES) break;
      // The engine copies it, so that it can be filled again at once.
      stream.write(pending);
      held = 0;
    }
  }
}

async function main([url, token, host, port, key]) {
  const { AudioStream, Room, RoomEvent, TrackKind, dispose } = await import('@livekit/rtc-node');
  const engine = new Engine();
  const socket = dgram.createSocket('udp4');
  const room = new Room();
  room.on(RoomEvent.TrackSubscribed, (track) => {
    if (track.kind !== TrackKind.KIND_AUDIO) return;
    const stream = engine.open({
      key: Buffer.from(key, 'hex'),
      format: 'i16',
      onPacket: ({ data }) => socket.send(data, Number(port), host),
    });
    bridge(new AudioStream(track, RATE, 1), stream).finally(() => stream.close());
  });
  await room.connect(url, token);
  process.once('SIGINT', async () => {
    await room.disconnect();
    engine.close();
    socket.close();
    await dispose();
  });
}

if (process.argv[1] === import.meta.filename) {
  if (process.argv.length < 7) {
    console.error('Usage: node livekit-bridge.mjs URL TOKEN DEVICE_HOST DEVICE_PORT KEY_HEX');
    process.exit(2);
  }
  await main(process.argv.slice(2));
}
