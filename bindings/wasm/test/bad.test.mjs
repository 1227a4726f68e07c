// What callers may do wrong: it is refused with an error that says so, and what comes next is as if nothing had been.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EvenkeelError, hasSimd, instantiate, load } from 'evenkeel-wasm';
import { FRAME, KEY, MODULES, frame, hex, refuses } from './support.mjs';

const { AudioProcessor, AudioReceiver, OpusDecoder, OpusEncoder, OpusReceiver, Resampler } = MODULES.simd;

test('what cannot be is refused at construction', () => {
  const cases = [
    [() => new AudioProcessor(), TypeError, 'TYPE'],
    [() => new AudioProcessor('key'), TypeError, 'TYPE'],
    [() => new AudioProcessor(new Uint8Array(15)), RangeError, 'LENGTH'],
    [() => new AudioProcessor(KEY, 5), TypeError, 'TYPE'],
    [() => new AudioProcessor(KEY, { bitrate: NaN }), RangeError, 'RANGE'],
    [() => new AudioProcessor(KEY, { bitrate: 1 }), RangeError, 'RANGE'],
    [() => new AudioProcessor(KEY, { bitrate: '24000' }), TypeError, 'TYPE'],
    [() => new AudioProcessor(KEY, { complexity: 11 }), RangeError, 'RANGE'],
    [() => new AudioProcessor(KEY, { inputRate: 47_999 }), RangeError, 'RANGE'],
    [() => new AudioProcessor(KEY, { codedRate: 44_100 }), RangeError, 'RANGE'],
    [() => new AudioProcessor(KEY, { channels: 0 }), RangeError, 'RANGE'],
    [() => new AudioProcessor(KEY, { frameMs: 30 }), RangeError, 'RANGE'],
    [() => new AudioProcessor(KEY, { application: 'radio' }), RangeError, 'RANGE'],
    [() => new AudioProcessor(KEY, { dtx: 1 }), TypeError, 'TYPE'],
    [() => new AudioProcessor(KEY, { encryption: 'aes-128-gcm' }), RangeError, 'RANGE'],
    [() => new AudioProcessor(KEY, { sessionId: 'x'.repeat(257) }), RangeError, 'LENGTH'],
    [() => new AudioProcessor(KEY, { sessionId: '\ud800' }), RangeError, 'RANGE'],
    [() => new AudioProcessor(KEY, { nonFinite: 'maybe' }), RangeError, 'RANGE'],
    [() => new AudioReceiver(KEY, { minDelayMs: 500 }), RangeError, 'RANGE'],
    [() => new AudioReceiver(KEY, { maxDelayMs: 20_000 }), RangeError, 'RANGE'],
    [() => new OpusReceiver({ decodedRate: 44_100 }), RangeError, 'RANGE'],
    [() => new OpusReceiver({ timestampHz: -1 }), RangeError, 'RANGE'],
    [() => new OpusEncoder(44_100, 1), RangeError, 'RANGE'],
    [() => new OpusEncoder(), TypeError, 'TYPE'],
    [() => new OpusDecoder(48_000, 3), RangeError, 'RANGE'],
    [() => new Resampler(48_000, 11_025), RangeError, 'RANGE'],
    [() => new Resampler(48_000, -1), RangeError, 'RANGE'],
    [() => instantiate(new Uint8Array(8)), WebAssembly.CompileError],
  ];
  for (const [call, ErrorClass, code] of cases) {
    if (code === undefined) assert.throws(call, ErrorClass);
    else refuses(call, ErrorClass, code);
  }
  assert.throws(() => new AudioProcessor(KEY, { complexity: 11 }), EvenkeelError);
  assert.throws(() => AudioProcessor(KEY), TypeError);
});

test('what cannot be processed is refused, and the next frame is as if nothing had been', () => {
  const [processor, fresh] = [new AudioProcessor(KEY), new AudioProcessor(KEY)];
  const receiver = new AudioReceiver(KEY);
  const opusReceiver = new OpusReceiver();
  const decoder = new OpusDecoder(24_000, 1);
  const detached = frame();
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  const bad = frame();
  bad[17] = NaN;
  const cases = [
    [() => processor.processAudio(), TypeError, 'TYPE'],
    [() => processor.processAudio([0]), TypeError, 'TYPE'],
    [() => processor.processAudio(new Float64Array(FRAME)), TypeError, 'TYPE'],
    [() => processor.processAudio(frame(0, FRAME - 1)), RangeError, 'LENGTH'],
    [() => processor.processAudio(new Float32Array(0)), RangeError, 'LENGTH'],
    [() => processor.push(frame(0, FRAME + 1)), RangeError, 'LENGTH'],
    [() => processor.processAudio(bad), RangeError, 'NOT_FINITE'],
    [() => processor.processAudio(frame().fill(-Infinity, 900)), RangeError, 'NOT_FINITE'],
    [() => processor.setPosition(99), RangeError, 'RANGE'],
    [() => receiver.receive('packet', 0), TypeError, 'TYPE'],
    [() => receiver.receive(new Uint8Array(3), 0), Error, 'PACKET'],
    [() => receiver.receive(new Uint8Array(5000), 0), Error, 'PACKET'],
    [() => receiver.receive(new Uint8Array(16), NaN), RangeError, 'RANGE'],
    [() => opusReceiver.receive(Uint8Array.of(0x4b, 0xff), 0, 0, 0), Error, 'PACKET'],
    [() => opusReceiver.receive(new Uint8Array(0), 0, 0, 0), Error, 'PACKET'],
    [() => opusReceiver.receive(new Uint8Array(5000), 0, 0, 0), Error, 'PACKET'],
    [() => opusReceiver.receive(new Uint8Array(5), -1, 0, 0), RangeError, 'RANGE'],
    [() => opusReceiver.receive(new Uint8Array(5), 0, 2 ** 32, 0), RangeError, 'RANGE'],
    [() => opusReceiver.receive(new Uint8Array(5), 0, 0), TypeError, 'TYPE'],
    [() => opusReceiver.writeStats(new Float32Array(32)), TypeError, 'TYPE'],
    [() => opusReceiver.writeStats(new Float64Array(3)), RangeError, 'LENGTH'],
    [() => receiver.pull(-1), RangeError, 'RANGE'],
    [() => receiver.pull(), TypeError, 'TYPE'],
    [() => decoder.decode(Uint8Array.of(0x4b, 0xff)), Error, 'PACKET'],
    [() => decoder.conceal(30), RangeError, 'RANGE'],
    [() => new OpusEncoder(48_000, 1).encode(frame(0, 961)), RangeError, 'LENGTH'],
    [() => new Resampler(48_000, 24_000, { channels: 2 }).push(new Float32Array(3)), RangeError, 'LENGTH'],
    [() => processor._call('pull', 0), TypeError, 'TYPE'],
  ];
  for (const [call, ErrorClass, code] of cases) refuses(call, ErrorClass, code);
  // Node.js 20 cannot tell a detached buffer from an empty one.
  assert.throws(() => processor.processAudio(detached), EvenkeelError);
  assert.throws(() => processor.processAudio(bad), /sample 17 is NaN/);
  for (let i = 0; i < 3; i++) assert.equal(hex(processor.processAudio(frame(i))), hex(fresh.processAudio(frame(i))));
});

test('samples that are no numbers become silence where that is asked for', () => {
  const [processor, receiver] = [new AudioProcessor(KEY, { nonFinite: 'silence' }), new AudioReceiver(KEY)];
  for (let i = 0; i < 10; i++) {
    receiver.receive(processor.processAudio(new Float32Array(FRAME).fill(i % 2 ? NaN : Infinity)), i * 20);
    assert.ok(receiver.pull(i * 20).every((sample) => Math.abs(sample) < 1e-3));
  }
});

test('what was closed says so, whatever is asked of it, and closing again does nothing', () => {
  const objects = [
    [new AudioProcessor(KEY), (o) => [() => o.processAudio(frame()), () => o.process(), () => o.flush(), () => o.getStats()]],
    [new AudioReceiver(KEY), (o) => [() => o.receive(new Uint8Array(20), 0), () => o.pull(0), () => o.getStats()]],
    [new OpusReceiver(), (o) => [() => o.receive(new Uint8Array(16), 0, 0, 0), () => o.pull(0), () => o.getStats()]],
    [new OpusEncoder(48_000, 1), (o) => [() => o.encode(frame()), () => o.reset(), () => o.lookahead()]],
    [new OpusDecoder(48_000, 1), (o) => [() => o.decode(new Uint8Array(3)), () => o.conceal(20), () => o.reset()]],
    [new Resampler(48_000, 16_000), (o) => [() => o.push(frame()), () => o.flush(), () => o.delay()]],
  ];
  for (const [object, calls] of objects) {
    assert.deepEqual([object.close(), object.close()], [true, false]);
    for (const call of calls(object)) refuses(call, Error, 'CLOSED');
  }
  // Another object never gets the handle of one that is gone.
  const gone = new OpusDecoder(8000, 1);
  gone.close();
  assert.equal(new OpusDecoder(8000, 1).conceal(20).length, 160);
  refuses(() => gone.conceal(20), Error, 'CLOSED');
});

test('a module loaded twice is two modules', async () => {
  const [one, other] = [await load(), await load()];
  assert.equal(hasSimd(), true);
  assert.notEqual(one.memory, other.memory);
  const [a, b] = [new one.AudioProcessor(KEY), new other.AudioProcessor(KEY)];
  assert.equal(hex(a.processAudio(frame())), hex(b.processAudio(frame())));
  a.close();
  assert.ok(b.processAudio(frame(1)).length > 16);
});

test('views that were held while memory grew are empty, new ones are right, and no frame is lost', async () => {
  const { AudioProcessor: Processor, OpusDecoder: Decoder, memory } = await load();
  const [processor, fresh] = [new Processor(KEY), new AudioProcessor(KEY)];
  const held = processor.samples;
  held.set(frame());
  const before = memory.buffer.byteLength;
  const others = [];
  while (memory.buffer.byteLength === before) others.push(new Decoder(48_000, 2));
  assert.equal(held.length, 0);
  assert.equal(processor.process(), 1);
  assert.equal(hex(processor.packets.subarray(0, processor.packetEnds[0])), hex(fresh.processAudio(frame())));
  assert.equal(processor.samples, processor.samples);
});

test('memory does not grow however long it runs, nor with objects that were closed', async () => {
  const { AudioProcessor: Processor, AudioReceiver: Receiver, memory } = await load();
  const round = (frames) => {
    const [processor, receiver] = [new Processor(KEY), new Receiver(KEY)];
    for (let i = 0; i < frames; i++) {
      receiver.receive(processor.processAudio(frame(0)), i * 20);
      receiver.pull(i * 20);
    }
    processor.close();
    receiver.close();
  };
  round(100);
  round(100);
  const before = memory.buffer.byteLength;
  round(1000);
  for (let i = 0; i < 30; i++) round(1);
  assert.equal(memory.buffer.byteLength, before);
});

test('a frame in place leaves no garbage', async () => {
  const { AudioProcessor: Processor, AudioReceiver: Receiver } = await load();
  const [processor, receiver] = [new Processor(KEY), new Receiver(KEY)];
  const sound = frame();
  const frames = (from, to) => {
    for (let i = from; i < to; i++) {
      processor.samples.set(sound);
      processor.process();
      const length = processor.packetEnds[0];
      const packet = receiver.packet;
      const packets = processor.packets;
      for (let at = 0; at < length; at++) packet[at] = packets[at];
      receiver.receiveBytes(length, i * 20);
      receiver.pullSamples(i * 20);
    }
  };
  // While the engine still compiles, it allocates itself: of several rounds, the best.
  const grown = Array.from({ length: 20 }, (_, round) => {
    globalThis.gc();
    const before = process.memoryUsage().heapUsed;
    frames(round * 500, (round + 1) * 500);
    return process.memoryUsage().heapUsed - before;
  });
  assert.ok(Math.min(...grown) < 500 * 8, `${grown} bytes in 500 frames each`);
});

test('nor does an Opus packet that is received, nor the figures about it', async () => {
  const { OpusEncoder: Encoder, OpusReceiver: Receiver } = await load();
  const encoder = new Encoder(24_000, 1, { bitrate: 24_000 });
  const [packet, receiver, stats] = [encoder.encode(frame(0, 480)), new Receiver({ timestampHz: 1000 }), new Float64Array(13)];
  const frames = (from, to) => {
    for (let i = from; i < to; i++) {
      const room = receiver.packet;
      for (let at = 0; at < packet.length; at++) room[at] = packet[at];
      receiver.receiveBytes(packet.length, i, i * 20, i * 20);
      receiver.pullSamples(i * 20);
      receiver.writeStats(stats);
    }
  };
  const grown = Array.from({ length: 20 }, (_, round) => {
    globalThis.gc();
    const before = process.memoryUsage().heapUsed;
    frames(round * 500, (round + 1) * 500);
    return process.memoryUsage().heapUsed - before;
  });
  assert.ok(Math.min(...grown) < 500 * 8, `${grown} bytes in 500 frames each`);
  assert.equal(stats[0], 10_000);
});

test('random packets are refused or heard, and nothing else happens', () => {
  const receiver = new AudioReceiver(KEY, { pcm: true });
  const decoder = new OpusDecoder(16_000, 2);
  let seed = 1;
  const random = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) >>> 24;
  let refused = 0;
  for (let i = 0; i < 5000; i++) {
    const packet = Uint8Array.from({ length: random() }, random);
    if (i % 2) packet.set([1, 0x80, 0, Math.max(packet.length - 16, 0), 0, 0, 0, 1].slice(0, packet.length));
    for (const take of [() => receiver.receive(packet, i), () => decoder.decode(packet)]) {
      try {
        take();
      } catch (error) {
        assert.equal(error.code, 'ERR_EVENKEEL_PACKET', error.message);
        refused++;
      }
    }
    assert.ok(receiver.pull(i).every(Number.isFinite));
  }
  assert.ok(refused > 1000);
});
