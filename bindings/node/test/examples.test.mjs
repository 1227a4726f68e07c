// The examples of the package do what they say.
import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { test } from 'node:test';
import { AudioProcessor, Engine } from 'evenkeel';
import { KEY, frame, toInt16, until } from './support.mjs';
import { bridge } from '../examples/livekit-bridge.mjs';
import { serve } from '../examples/server.mjs';
import { sendTone } from '../examples/udp-sender.mjs';

test('the UDP sender sends packets that open', async () => {
  const socket = dgram.createSocket('udp4');
  const got = [];
  socket.on('message', (datagram) => got.push(datagram));
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const sent = await sendTone({ host: '127.0.0.1', port: socket.address().port, key: KEY, seconds: 0.4 });
  // A machine that stalls may lose some; what came must be right.
  assert.ok(sent > 0);
  await until('a datagram', () => got.length > 0);
  const processor = new AudioProcessor(KEY);
  for (const datagram of got) assert.equal(processor.open(datagram).length, 960);
  socket.close();
});

test('the LiveKit bridge cuts frames of any length', async () => {
  const engine = new Engine({ lanes: 1, pin: false, realtime: false });
  const stream = engine.open({ key: KEY, format: 'i16', pacing: 'immediate', lateLimitMs: 60_000, queueFrames: 64 });
  const sound = toInt16(frame(0, 9600));
  async function* frames() {
    for (let at = 0; at < sound.length; at += 441) yield { data: sound.subarray(at, at + 441) };
  }
  await bridge(frames(), stream);
  await until('ten packets', () => stream.getStats().packets === 10);
  engine.close();
});

test('the server answers each connection with its packets', async (t) => {
  const server = await serve(0, KEY);
  t.after(() => server.close());
  const answers = await Promise.all(
    [1, 2, 3].map(async () => {
      const socket = net.connect(server.address().port, '127.0.0.1');
      for (let i = 0; i < 10; i++) socket.write(Buffer.from(toInt16(frame(i)).buffer));
      socket.end();
      const chunks = [];
      for await (const chunk of socket) chunks.push(chunk);
      return Buffer.concat(chunks);
    }),
  );
  for (const answer of answers) {
    const processor = new AudioProcessor(KEY);
    let packets = 0;
    for (let at = 0; at < answer.length; packets++) {
      const end = at + 2 + answer.readUInt16BE(at);
      assert.equal(processor.open(answer.subarray(at + 2, end)).length, 960);
      at = end;
    }
    // Real frames, in their order; a machine that stalls may be late with some.
    assert.ok(packets > 0 && packets <= 10, `${packets}`);
  }
});
