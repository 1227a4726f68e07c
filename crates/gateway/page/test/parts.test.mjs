// What the worklet and the Worker pass things through, and what the Worker makes of them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { hello, pack, query, read, unpack } from '../protocol.js';
import { KEPT_SECONDS, Recording } from '../recording.js';
import { PacketRing, SampleRing, allocate } from '../shared.js';

test('packets keep their order and content, and none comes where there is no place', () => {
  const shared = allocate(8000, 1);
  const [writer, reader] = [PacketRing.down(shared), PacketRing.down(shared)];
  const bytes = new Uint8Array(2000);
  assert.equal(reader.length, -1);
  assert.equal(reader.take(bytes), -1);
  assert.equal(writer.push(new Uint8Array(1473), 1473, 0, 0), false, 'too long');
  let [written, seen] = [0, 0];
  for (let round = 0; round < 20; round++) {
    while (writer.push(Uint8Array.of(written, written >> 8), 2, written, 0xffff_ffff - written)) written++;
    assert.equal(written - seen, 128);
    for (let i = 0; i < 100; i++, seen++) {
      assert.deepEqual([reader.length, reader.sequence, reader.timestamp], [2, seen, 0xffff_ffff - seen]);
      assert.equal(reader.take(bytes), 2);
      assert.equal(bytes[0] | (bytes[1] << 8), seen);
    }
  }
});

test('between threads too', async () => {
  const shared = allocate(8000, 1);
  const source = `
    import { parentPort, workerData } from 'node:worker_threads';
    const { PacketRing } = await import(workerData.module);
    const ring = PacketRing.up(workerData.shared);
    const bytes = new Uint8Array(300);
    for (let number = 0; number < 20_000; ) {
      bytes.fill(number & 255);
      if (ring.push(bytes, 1 + (number % 300), number, 0)) number++;
    }`;
  const module = new URL('../shared.js', import.meta.url).href;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), { workerData: { shared, module } });
  const ring = PacketRing.up(shared);
  const bytes = new Uint8Array(512);
  for (let number = 0; number < 20_000; ) {
    if (ring.length < 0) {
      await new Promise((resolve) => setImmediate(resolve));
      continue;
    }
    assert.equal(ring.sequence, number);
    const length = ring.take(bytes);
    assert.equal(length, 1 + (number % 300));
    assert.ok(bytes[0] === (number & 255) && bytes[length - 1] === (number & 255));
    number++;
  }
  await worker.terminate();
});

test('samples are clipped, and those without a place are left out', () => {
  const ring = new SampleRing({ recorded: new SharedArrayBuffer(SampleRing.size(1000)) });
  ring.push(Float32Array.of(0, 1, -1, 2, -2, 0.5));
  assert.deepEqual([...ring.take()], [0, 32_767, -32_768, 32_767, -32_768, 16_384]);
  for (let i = 0; i < 20; i++) ring.push(new Float32Array(128).fill(i / 32_768));
  const kept = ring.take();
  assert.deepEqual([kept.length, kept[0], kept.at(-1)], [8 * 128, 0, 7]);
});

test('a recording is a WAV file, of the last minutes', async () => {
  const recording = new Recording(100, 2);
  for (let second = 0; second < KEPT_SECONDS + 25; second++) recording.add(new Int16Array(200).fill(second));
  const wav = new DataView(await recording.toWav().arrayBuffer());
  const text = (at, length) => String.fromCharCode(...new Uint8Array(wav.buffer, at, length));
  assert.deepEqual([text(0, 4), text(8, 8), text(36, 4)], ['RIFF', 'WAVEfmt ', 'data']);
  assert.deepEqual([wav.getUint16(20, true), wav.getUint16(22, true), wav.getUint32(24, true)], [1, 2, 100]);
  assert.deepEqual([wav.getUint32(28, true), wav.getUint16(32, true), wav.getUint16(34, true)], [400, 4, 16]);
  const bytes = wav.getUint32(40, true);
  assert.deepEqual([wav.getUint32(4, true), wav.byteLength], [36 + bytes, 44 + bytes]);
  const seconds = bytes / 400;
  assert.ok(seconds >= KEPT_SECONDS && seconds < KEPT_SECONDS + 10, `${seconds} s`);
  assert.equal(wav.getInt16(44 + bytes - 2, true), KEPT_SECONDS + 24);
});

test('frames and messages are those of the firmware', () => {
  const frame = pack(Uint8Array.of(7, 8, 9, 0), 3);
  assert.deepEqual([...frame], [0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 7, 8, 9]);
  frame.set([1, 2, 3, 4], 8);
  const { opus, timestamp } = unpack(frame.buffer);
  assert.deepEqual([[...opus], timestamp], [[7, 8, 9], 0x01020304]);
  for (const bad of [[], [0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [...frame, 0], [0, 3, ...frame.slice(2)], [0, 2, 0, 1, ...frame.slice(4)]]) {
    assert.equal(unpack(Uint8Array.from(bad).buffer), null);
  }
  const identity = { deviceId: '02:aa', clientId: 'a b&c', token: 'x.1' };
  assert.equal(query(identity), 'device-id=02%3Aaa&client-id=a%20b%26c&protocol-version=2&authorization=Bearer%20x.1');
  assert.equal(query({ deviceId: 'é', clientId: '用', token: '' }), 'device-id=%C3%A9&client-id=%E7%94%A8&protocol-version=2');
  assert.deepEqual(hello({ codedRate: 24_000, frameMs: 20, loopback: false }), {
    type: 'hello',
    version: 2,
    transport: 'websocket',
    features: {},
    audio_params: { format: 'opus', sample_rate: 24_000, channels: 1, frame_duration: 20 },
  });
  for (const bad of ['', '{', '1', 'null', '[]', '{"type":5}']) assert.equal(read(bad), null, bad);
  assert.deepEqual(read('{"type":"tts","state":"start"}'), { type: 'tts', state: 'start' });
});
