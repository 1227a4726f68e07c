// AudioProcessor: the way there and back, the shared vectors, and what it refuses.
import assert from 'node:assert/strict';
import { createDecipheriv } from 'node:crypto';
import { test } from 'node:test';
import { AudioProcessor, EvenkeelError, OpusDecoder } from 'evenkeel';
import { FRAME, KEY, frame, header, likeness, refuses, toInt16 } from './support.mjs';

test('a packet is header and ciphertext, as Node.js itself would open it', () => {
  const processor = new AudioProcessor(KEY);
  const decoder = new OpusDecoder(24_000, 1);
  for (let i = 0; i < 5; i++) {
    const packet = processor.processAudio(frame(i), header(i + 1));
    assert.equal(packet.readUInt16BE(2), packet.length - 16);
    assert.equal(packet.readUInt32BE(12), i + 1);
    const cipher = createDecipheriv('aes-256-ctr', KEY, packet.subarray(0, 16));
    const opus = Buffer.concat([cipher.update(packet.subarray(16)), cipher.final()]);
    assert.equal(decoder.decodeFloat(opus).length, 480);
  }
});

test('what is opened sounds like what was processed, for both kinds of samples and both keys', () => {
  for (const key of [KEY, KEY.subarray(0, 16)]) {
    for (const output of ['f32', 'i16']) {
      const [here, there] = [new AudioProcessor(key), new AudioProcessor(key, { output })];
      const [spoken, heard] = [[], []];
      for (let i = 0; i < 15; i++) {
        const samples = output === 'f32' ? frame(i) : toInt16(frame(i));
        const opened = there.open(here.processAudio(samples, header(i + 1)));
        assert.equal(opened.constructor, samples.constructor);
        spoken.push(...samples);
        heard.push(...opened);
      }
      assert.ok(likeness(spoken, heard, 1000) > 0.9);
      const { packets, opened, processing } = here.getStats();
      assert.deepEqual([packets, opened, processing.frames], [15, 0, 15]);
    }
  }
});

test('with a bare IV there is no header, neither way', () => {
  const processor = new AudioProcessor(KEY, { framing: 'payload' });
  const iv = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
  const payload = processor.processAudio(frame(), iv);
  const cipher = createDecipheriv('aes-256-ctr', KEY, iv);
  const opus = Buffer.concat([cipher.update(payload), cipher.final()]);
  assert.equal(new OpusDecoder(24_000, 1).decode(opus).length, 960);
  assert.equal(processor.open(payload, iv).length, FRAME);
  refuses(() => processor.open(payload), TypeError, 'ERR_EVENKEEL_TYPE', EvenkeelError);
});

test('what cannot be is refused at construction', () => {
  const cases = [
    [() => new AudioProcessor(), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => new AudioProcessor('key'), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => new AudioProcessor(Buffer.alloc(15)), RangeError, 'ERR_EVENKEEL_LENGTH'],
    [() => new AudioProcessor(KEY, 5), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => new AudioProcessor(KEY, { bitrate: NaN }), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => new AudioProcessor(KEY, { bitrate: '24000' }), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => new AudioProcessor(KEY, { complexity: 11 }), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => new AudioProcessor(KEY, { complexity: 2.5 }), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => new AudioProcessor(KEY, { inputRate: 47_999 }), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => new AudioProcessor(KEY, { codedRate: 44_100 }), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => new AudioProcessor(KEY, { channels: 0 }), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => new AudioProcessor(KEY, { frameMs: 30 }), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => new AudioProcessor(KEY, { application: 'radio' }), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => new AudioProcessor(KEY, { dtx: 1 }), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => new AudioProcessor(KEY, { pcm: true, framing: 'payload' }), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => new AudioProcessor(KEY, { thresholds: 3 }), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => AudioProcessor(KEY), TypeError],
  ];
  for (const [call, ErrorClass, code] of cases) {
    if (code === undefined) assert.throws(call, ErrorClass);
    else refuses(call, ErrorClass, code, EvenkeelError);
  }
});

test('what cannot be processed is refused, and the next frame is as if nothing had been', () => {
  const processor = new AudioProcessor(KEY);
  const detached = frame();
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  const detachedBytes = new Uint8Array(16);
  structuredClone(detachedBytes.buffer, { transfer: [detachedBytes.buffer] });
  const bad = frame();
  bad[17] = NaN;
  const cases = [
    [() => processor.processAudio(), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => processor.processAudio([0], header()), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => processor.processAudio(new Float64Array(960), header()), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => processor.processAudio(frame(0, 959), header()), RangeError, 'ERR_EVENKEEL_LENGTH'],
    [() => processor.processAudio(new Float32Array(0), header()), RangeError, 'ERR_EVENKEEL_LENGTH'],
    [() => processor.processAudio(detached, header()), TypeError, 'ERR_EVENKEEL_DETACHED'],
    [() => processor.processAudio(bad, header()), RangeError, 'ERR_EVENKEEL_NOT_FINITE'],
    [() => processor.processAudio(frame(), Buffer.alloc(15)), RangeError, 'ERR_EVENKEEL_LENGTH'],
    [() => processor.processAudio(frame(), 'header'), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => processor.processAudio(frame(), Buffer.alloc(16)), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => processor.processAudio(frame(), detachedBytes), TypeError, 'ERR_EVENKEEL_DETACHED'],
    [() => processor.open(detachedBytes), TypeError, 'ERR_EVENKEEL_DETACHED'],
    [() => processor.processAudio(new DataView(new ArrayBuffer(3840)), header()), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => processor.processAudio(frame(0, 1920), header()), RangeError, 'ERR_EVENKEEL_LENGTH'],
    [() => processor.processAudio(Symbol('samples'), header()), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => processor.open(Buffer.alloc(3)), Error, 'ERR_EVENKEEL_PACKET'],
    [() => processor.open(header().fill(255, 2, 4)), Error, 'ERR_EVENKEEL_PACKET'],
    [() => processor.open('packet'), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => processor.open(), TypeError, 'ERR_EVENKEEL_TYPE'],
    [() => processor.setPosition(99), RangeError, 'ERR_EVENKEEL_RANGE'],
    [() => AudioProcessor.prototype.processAudio.call({}, frame(), header()), TypeError],
    [() => AudioProcessor.prototype.processAudio.call(new OpusDecoder(8000, 1), frame(), header()), TypeError],
  ];
  for (const [call, ErrorClass, code] of cases) {
    if (code === undefined) assert.throws(call);
    else refuses(call, ErrorClass, code, EvenkeelError);
  }
  const fresh = new AudioProcessor(KEY);
  assert.deepEqual(processor.processAudio(frame(), header()), fresh.processAudio(frame(), header()));
  assert.match(cases.map(([call]) => attempt(call)).join('\n'), /sample 17 is NaN/);
  assert.equal(processor.close(), true);
  assert.equal(processor.close(), false);
  refuses(() => processor.processAudio(frame(), header()), Error, 'ERR_EVENKEEL_CLOSED', EvenkeelError);
  refuses(() => processor.getStats(), Error, 'ERR_EVENKEEL_CLOSED', EvenkeelError);
});

function attempt(call) {
  try {
    return call();
  } catch (error) {
    return error.message;
  }
}

test('samples that are no numbers become silence where that is asked for', () => {
  const processor = new AudioProcessor(KEY, { nonFinite: 'silence' });
  const packet = processor.processAudio(new Float32Array(FRAME).fill(NaN), header());
  assert.ok(processor.open(packet).every(Number.isFinite));
  assert.equal(processor.getStats().silencedSamples, FRAME);
});

test('samples in shared memory, which others may change meanwhile, are taken', () => {
  const shared = new Float32Array(new SharedArrayBuffer(4 * FRAME));
  shared.set(frame());
  const [one, other] = [new AudioProcessor(KEY), new AudioProcessor(KEY)];
  assert.deepEqual(one.processAudio(shared, header()), other.processAudio(frame(), header()));
});

test('random packets are refused or decoded, and nothing else happens', () => {
  const processor = new AudioProcessor(KEY, { pcm: true, clear: true, outputRate: 24_000 });
  let seed = 1;
  const random = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) >>> 24;
  let refused = 0;
  for (let i = 0; i < 5000; i++) {
    const bytes = Buffer.from(Array.from({ length: random() }, random));
    if (bytes.length >= 16 && i % 2) {
      bytes[0] = 1;
      bytes.writeUInt16BE(bytes.length - 16, 2);
    }
    try {
      assert.ok(processor.open(bytes).every(Number.isFinite));
    } catch (error) {
      assert.equal(error.code, 'ERR_EVENKEEL_PACKET', error.message);
      refused++;
    }
  }
  assert.ok(refused > 1000);
});
