// Engine: streams by callback, iterator, promise and Transform; what it refuses.
import assert from 'node:assert/strict';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { test } from 'node:test';
import { AudioProcessor, Engine, EvenkeelError, OpusEncoder, Resampler } from 'evenkeel';
import { FRAME, KEY, frame, likeness, refuses, toInt16, until } from './support.mjs';

// Nothing is late, whatever the machine does meanwhile.
const CALM = { pin: false, realtime: false, adapt: false, admission: false };
const PATIENT = { key: KEY, pacing: 'immediate', lateLimitMs: 60_000, queueFrames: 64, limitMs: 60_000 };

function engine(t, options) {
  const made = new Engine({ ...CALM, lanes: 1, ...options });
  t.after(() => made.close());
  return made;
}

test('packets come by callback, in order, and open to what was written', async (t) => {
  const packets = [];
  const stream = engine(t).open({ ...PATIENT, onPacket: (packet) => packets.push(packet) });
  const spoken = [];
  for (let i = 0; i < 20; i++) {
    stream.write(frame(i));
    spoken.push(...frame(i));
    await until('the packet', () => packets.length === i + 1);
  }
  assert.deepEqual(packets.map(({ sequence }) => sequence), Array.from({ length: 20 }, (_, i) => i + 1));
  const processor = new AudioProcessor(KEY);
  const heard = packets.flatMap(({ data }) => [...processor.open(data)]);
  assert.ok(likeness(spoken, heard, 1000) > 0.9);
  assert.ok(packets.every(({ latencyMs, data }) => latencyMs > 0 && data.readUInt32BE(4) === stream.connectionId));
  assert.equal(stream.getStats().packets, 20);
});

test('process gives the packets of its frame, for many streams at once', async (t) => {
  const own = engine(t);
  const streams = Array.from({ length: 10 }, () => own.open({ ...PATIENT, inputRate: 16_000, format: 'i16' }));
  for (let i = 0; i < 5; i++) {
    const answers = await Promise.all(streams.map((stream) => stream.process(toInt16(frame(i, 320, 16_000)))));
    for (const [packet, ...rest] of answers) {
      assert.equal(packet.sequence, i + 1);
      assert.equal(rest.length, 0);
    }
  }
});

test('a call that gets no answer in time is told so, and the stream goes on', async (t) => {
  const stream = engine(t).open({ ...PATIENT, pacing: 'paced', leadMs: 300 });
  await assert.rejects(stream.process(frame(), 1), { code: 'ERR_EVENKEEL_TIMEOUT' });
  assert.equal((await stream.process(frame(1)))[0].sequence, 2);
});

test('a call that is told no limit waits 50 ms', async (t) => {
  const stream = engine(t).open({ key: KEY, leadMs: 5000 });
  await assert.rejects(stream.process(frame()), { code: 'ERR_EVENKEEL_TIMEOUT', message: /within 50 ms/ });
});

test('options may have accessors, which may fail, or close the engine', (t) => {
  const own = engine(t);
  const mine = new Error('mine');
  const throwing = (name) => Object.defineProperty({ key: KEY }, name, { enumerable: true, get: () => { throw mine; } });
  const calls = [
    () => own.open(throwing('codedRate')),
    () => new Engine(throwing('lanes')),
    () => new AudioProcessor(KEY, throwing('bitrate')),
    () => new OpusEncoder(48_000, 1, throwing('complexity')),
    () => new Resampler(48_000, 16_000, throwing('aligned')),
  ];
  for (const call of calls) assert.throws(call, mine);
  const closing = { get key() { own.close(); return KEY; } };
  refuses(() => own.open(closing), Error, 'ERR_EVENKEEL_CLOSED', EvenkeelError);
  const deep = engine(t);
  Object.defineProperty(Object.prototype, 'sessionId', { configurable: true, get: () => void deep.close() });
  try {
    refuses(() => deep.open({ key: KEY }), Error, 'ERR_EVENKEEL_CLOSED', EvenkeelError);
  } finally {
    delete Object.prototype.sessionId;
  }
});

test('an iterator gets every packet and ends with its stream', async (t) => {
  const stream = engine(t).open(PATIENT);
  const got = [];
  const reading = (async () => {
    for await (const packet of stream) got.push(packet.sequence);
  })();
  for (let i = 0; i < 10; i++) {
    stream.write(frame(i));
    await until('the packet', () => got.length === i + 1);
  }
  stream.close();
  await reading;
  assert.deepEqual(got, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});

test('packets nobody takes are bounded, the newest stay', async (t) => {
  const stream = engine(t).open({ ...PATIENT, highWaterMark: 2 });
  for (let i = 0; i < 6; i++) {
    stream.write(frame(i));
    await until('the packet', () => stream.getStats().packets === i + 1);
  }
  await until('the batch', () => stream.getStats().unreadDropped === 4);
  for await (const { sequence } of stream) {
    assert.equal(sequence, 5);
    break;
  }
});

test('a pipeline cuts bytes into frames, and is held back by its end', async (t) => {
  const stream = engine(t).open({ ...PATIENT, format: 'i16' });
  const pcm = Buffer.concat(Array.from({ length: 10 }, (_, i) => Buffer.from(toInt16(frame(i)).buffer)));
  const chunks = [];
  for (let at = 0; at < pcm.length - 700; at += 1001) chunks.push(pcm.subarray(at, Math.min(at + 1001, pcm.length - 700)));
  const transform = stream.transform();
  assert.deepEqual([transform.readableHighWaterMark, transform.writableHighWaterMark], [1, 1]);
  const [got, ahead] = [[], []];
  const slow = new Writable({
    objectMode: true,
    highWaterMark: 1,
    write(datagram, _, done) {
      got.push(datagram);
      ahead.push(stream.getStats().packets - got.length);
      setTimeout(done, 20);
    },
  });
  await pipeline(Readable.from(chunks), transform, slow);
  assert.equal(got.length, 10);
  assert.ok(Math.max(...ahead) <= 4, `${ahead}`);
  assert.ok(stream.isClosed);
});

test('a pipeline that breaks closes its stream, and its error comes out', async (t) => {
  const own = engine(t);
  const [wrong, broken] = [own.open(PATIENT), own.open(PATIENT)];
  const sink = () => new Writable({ objectMode: true, write: (_chunk, _encoding, done) => done() });
  await assert.rejects(pipeline(Readable.from(['sound']), wrong.transform(), sink()), { code: 'ERR_EVENKEEL_TYPE' });
  const failing = new Writable({ objectMode: true, write: (_chunk, _encoding, done) => done(new Error('full')) });
  await assert.rejects(pipeline(Readable.from([frame(0), frame(1)]), broken.transform(), failing), /full/);
  assert.ok(wrong.isClosed && broken.isClosed);
});

test('what cannot be is refused by engine and stream', async (t) => {
  const own = engine(t);
  const stream = own.open(PATIENT);
  const detached = frame();
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  const cases = [
    [() => new Engine({ lanes: 0 }), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => new Engine({ lanes: 1.5 }), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => new Engine({ lanes: NaN }), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => new Engine({ lanes: 'two' }), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => new Engine(7), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => Engine.attach(12_345), Error, 'ERR_EVENKEEL_CLOSED'],
    [() => Engine.attach('x'), Error, 'ERR_EVENKEEL_CLOSED'],
    [() => own.open(), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => own.open({}), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => own.open({ key: Buffer.alloc(5) }), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => own.open({ ...PATIENT, onPacket: 5 }), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => own.open({ ...PATIENT, limitMs: NaN }), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => own.open({ ...PATIENT, encryption: 'rot13' }), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => own.open({ ...PATIENT, frameMs: 2.5, inputRate: 22_050 }), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => stream.write(), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => stream.write(toInt16(frame())), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => stream.write(frame(0, 480)), RangeError, 'ERR_EVENKEEL_LENGTH'],
    [() => stream.write(detached), TypeError, 'ERR_EVENKEEL_DETACHED'],
    [() => stream.write(new Float32Array(FRAME).fill(Infinity)), RangeError, 'ERR_EVENKEEL_NOT_FINITE'],
    [() => (stream.onPacket = 'call me'), TypeError, 'ERR_EVENKEEL_TYPE'],
  ];
  for (const [call, ErrorClass, code] of cases) refuses(call, ErrorClass, code, EvenkeelError);
  await assert.rejects(stream.process('x'), { code: 'ERR_EVENKEEL_TYPE' });
  assert.equal((await stream.process(frame()))[0].sequence, 1);
});

test('over capacity a stream is refused, with how many run and fit', (t) => {
  const own = engine(t, { admission: true, budget: 0.1 });
  const streams = [];
  assert.throws(
    () => {
      for (;;) streams.push(own.open({ ...PATIENT, complexity: 10 }));
    },
    { code: 'ERR_EVENKEEL_REFUSED', message: /\d+ run, \d+ like this one fit/ },
  );
  assert.equal(own.getStats().streams, streams.length);
});

test('after closing, all says that it is closed', async (t) => {
  const own = engine(t);
  const stream = own.open({ ...PATIENT, pacing: 'paced', leadMs: 5000 });
  const waiting = stream.process(frame());
  const told = assert.rejects(waiting, { code: 'ERR_EVENKEEL_CLOSED' });
  assert.equal(own.close(), true);
  assert.equal(own.close(), false);
  await told;
  assert.equal(stream.close(), false);
  refuses(() => stream.write(frame()), Error, 'ERR_EVENKEEL_CLOSED', EvenkeelError);
  refuses(() => own.open(PATIENT), Error, 'ERR_EVENKEEL_CLOSED', EvenkeelError);
  refuses(() => own.getStats(), Error, 'ERR_EVENKEEL_CLOSED', EvenkeelError);
  await assert.rejects(stream.process(frame()), { code: 'ERR_EVENKEEL_CLOSED' });
  for await (const _ of stream) assert.fail('it is closed');
});

test('what the engine did can be read', async (t) => {
  const own = engine(t);
  const stream = own.open(PATIENT);
  await stream.process(frame());
  const { lanes, streams, packets, latency } = own.getStats();
  assert.deepEqual([lanes.length, streams, packets, latency.frames], [1, 1, 1, 1]);
  assert.match(own.prometheus(), /^evenkeel_/m);
});
