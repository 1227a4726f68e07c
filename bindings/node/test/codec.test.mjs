// OpusEncoder, OpusDecoder, Resampler, StreamCipher.
import assert from 'node:assert/strict';
import { createCipheriv, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { EvenkeelError, OpusDecoder, OpusEncoder, Resampler, StreamCipher } from 'evenkeel';
import { frame, likeness, refuses, toInt16 } from './support.mjs';

const bytesOf = (samples) => Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength);
const samplesOf = (bytes) => Array.from({ length: bytes.length / 2 }, (_, i) => bytes.readInt16LE(2 * i));

test('an encoder does what @discordjs/opus does with the same calls', () => {
  const encoder = new OpusEncoder(48_000, 2);
  encoder.setBitrate(64_000);
  assert.equal(encoder.getBitrate(), 64_000);
  encoder.applyEncoderCTL(4010, 7);
  encoder.applyEncoderCTL(4000, 2048);
  encoder.applyDecoderCTL(4034, 0);
  const pcm = bytesOf(toInt16(frame(0, 1920, 96_000)));
  const packet = encoder.encode(pcm);
  assert.ok(Buffer.isBuffer(packet) && packet.length > 20 && packet.length < 400);
  assert.equal(encoder.decode(packet).length, pcm.length);
});

test('what is not said is as libopus has it', () => {
  assert.equal(new OpusEncoder(48_000, 2).getBitrate(), 99_000);
  assert.equal(new OpusEncoder(24_000, 1).getBitrate(), 27_000);
  const encoder = new OpusEncoder(16_000, 1, { bitrate: 12_000 });
  encoder.applyEncoderCTL(4002, -1);
  assert.equal(encoder.getBitrate(), 510_000);
  encoder.applyEncoderCTL(4002, -1000);
  assert.equal(encoder.getBitrate(), 19_000);
});

test('Buffer, Int16Array and Float32Array of one sound give one sound', () => {
  const [spoken, heard] = [[], [[], [], []]];
  const encoders = heard.map(() => new OpusEncoder(24_000, 1, { application: 'voip', bitrate: 32_000 }));
  const decoder = heard.map(() => new OpusDecoder(24_000, 1));
  for (let i = 0; i < 25; i++) {
    const floats = frame(i, 480, 24_000);
    const integers = toInt16(floats);
    spoken.push(...floats);
    // At an odd place of its memory, where no Int16Array could lie.
    const odd = Buffer.alloc(961);
    bytesOf(integers).copy(odd, 1);
    [odd.subarray(1), integers, floats].forEach((pcm, n) => {
      heard[n].push(...samplesOf(decoder[n].decode(encoders[n].encode(pcm))));
    });
  }
  assert.deepEqual(heard[0], heard[1]);
  for (const sound of heard) assert.ok(likeness(spoken, sound.map((s) => s / 32_768)) > 0.9);
});

test('a lost packet is concealed, or recovered from the next one', () => {
  const encoder = new OpusEncoder(16_000, 1, { application: 'voip', fec: true, expectedLoss: 30, bitrate: 24_000 });
  const packets = Array.from({ length: 10 }, (_, i) => encoder.encode(frame(i, 320, 16_000)));
  const decoder = new OpusDecoder(16_000, 1);
  packets.slice(0, 8).forEach((packet) => decoder.decode(packet));
  assert.equal(decoder.decodeFec(packets[9], 20).length, 640);
  assert.equal(decoder.decodeFloat(packets[9]).length, 320);
  assert.equal(decoder.conceal(20).length, 640);
  decoder.reset();
});

test('an encoder refuses what libopus would, with errors that say so', () => {
  const encoder = new OpusEncoder(48_000, 1);
  refuses(() => new OpusEncoder(44_100, 1), RangeError, 'ERR_EVENKEEL_RANGE', EvenkeelError);
  refuses(() => new OpusEncoder(48_000, 3), RangeError, 'ERR_EVENKEEL_RANGE', EvenkeelError);
  refuses(() => new OpusEncoder('48000', 1), TypeError, 'ERR_EVENKEEL_TYPE', EvenkeelError);
  refuses(() => new OpusEncoder(), TypeError, 'ERR_EVENKEEL_TYPE', EvenkeelError);
  refuses(() => encoder.encode(Buffer.alloc(1921)), RangeError, 'ERR_EVENKEEL_LENGTH', EvenkeelError);
  refuses(() => encoder.encode(Buffer.alloc(1922)), RangeError, 'ERR_EVENKEEL_LENGTH', EvenkeelError);
  refuses(() => encoder.encode('sound'), TypeError, 'ERR_EVENKEEL_TYPE', EvenkeelError);
  refuses(() => encoder.encode(new Float32Array(960).fill(NaN)), RangeError, 'ERR_EVENKEEL_NOT_FINITE', EvenkeelError);
  refuses(() => encoder.decode(Buffer.from([0x4a, 0xff])), Error, 'ERR_EVENKEEL_PACKET', EvenkeelError);
  refuses(() => encoder.setBitrate(1), RangeError, 'ERR_EVENKEEL_RANGE', EvenkeelError);
  refuses(() => encoder.setBitrate(NaN), RangeError, 'ERR_EVENKEEL_RANGE', EvenkeelError);
  refuses(() => encoder.applyEncoderCTL(4010, 11), RangeError, 'ERR_EVENKEEL_RANGE', EvenkeelError);
  refuses(() => encoder.applyEncoderCTL(1, 1), Error, 'ERR_EVENKEEL_UNSUPPORTED', EvenkeelError);
  refuses(() => encoder.applyDecoderCTL(4034, 1e9), RangeError, 'ERR_EVENKEEL_RANGE', EvenkeelError);
  assert.equal(encoder.close(), true);
  assert.equal(encoder.close(), false);
  refuses(() => encoder.encode(Buffer.alloc(1920)), Error, 'ERR_EVENKEEL_CLOSED', EvenkeelError);
});

test('a resampler gives the same however the sound is cut, and all of it', () => {
  const sound = frame(0, 4800);
  for (const [from, to] of [[48_000, 24_000], [48_000, 16_000], [44_100, 48_000], [16_000, 48_000]]) {
    const whole = new Resampler(from, to, { aligned: true });
    const expected = [...whole.push(sound), ...whole.flush()];
    assert.ok(Math.abs(expected.length - (4800 * to) / from) <= 1);
    const cut = new Resampler(from, to, { aligned: true });
    const got = [];
    for (let at = 0; at < sound.length; at += 777) got.push(...cut.push(sound.subarray(at, at + 777)));
    got.push(...cut.flush());
    assert.deepEqual(got, expected);
  }
});

test('everything says that it is closed after it was', () => {
  const [encoder, decoder] = [new OpusEncoder(8000, 1), new OpusDecoder(8000, 1)];
  const [resampler, cipher] = [new Resampler(8000, 16_000), new StreamCipher(Buffer.alloc(16))];
  const packet = encoder.encode(Buffer.alloc(320));
  for (const one of [encoder, decoder, resampler, cipher]) assert.deepEqual([one.close(), one.close()], [true, false]);
  const calls = [
    () => encoder.encode(Buffer.alloc(320)),
    () => encoder.decode(packet),
    () => encoder.setBitrate(24_000),
    () => encoder.getBitrate(),
    () => encoder.applyEncoderCTL(4010, 5),
    () => encoder.applyDecoderCTL(4034, 0),
    () => encoder.lookahead(),
    () => encoder.reset(),
    () => decoder.decode(packet),
    () => decoder.decodeFloat(packet),
    () => decoder.decodeFec(packet, 20),
    () => decoder.conceal(20),
    () => decoder.applyDecoderCTL(4034, 0),
    () => decoder.reset(),
    () => resampler.push(new Float32Array(80)),
    () => resampler.flush(),
    () => cipher.processInPlace(Buffer.alloc(16), Buffer.alloc(1)),
  ];
  for (const call of calls) refuses(call, Error, 'ERR_EVENKEEL_CLOSED', EvenkeelError);
});

test('a resampler gives the kind of samples it got, and live ones at once', () => {
  const live = new Resampler(48_000, 24_000);
  assert.ok(live.delay() > 0);
  const out = live.push(toInt16(frame()));
  assert.ok(out instanceof Int16Array);
  assert.equal(out.length, 480);
  assert.ok(live.flush() instanceof Int16Array);
  assert.ok(new Resampler(48_000, 24_000).push(frame()) instanceof Float32Array);
  refuses(() => new Resampler(48_000, 11_025), RangeError, 'ERR_EVENKEEL_RANGE', EvenkeelError);
  refuses(() => live.push([1, 2]), TypeError, 'ERR_EVENKEEL_TYPE', EvenkeelError);
  refuses(() => live.push(Float32Array.of(0, Infinity)), RangeError, 'ERR_EVENKEEL_NOT_FINITE', EvenkeelError);
  const stereo = new Resampler(48_000, 24_000, { channels: 2, nonFinite: 'silence' });
  refuses(() => stereo.push(new Float32Array(3)), RangeError, 'ERR_EVENKEEL_LENGTH', EvenkeelError);
  assert.ok(stereo.push(Float32Array.of(NaN, 1, 1, 1)).every(Number.isFinite));
});

test('a cipher encrypts as OpenSSL does, whatever the length, counter and key', () => {
  for (const bytes of [16, 32]) {
    const key = randomBytes(bytes);
    const cipher = new StreamCipher(key);
    for (let length = 0; length < 300; length += 7) {
      const [iv, data] = [length % 2 ? randomBytes(16) : Buffer.alloc(16, 0xff), randomBytes(length)];
      const theirs = createCipheriv(bytes === 16 ? 'aes-128-ctr' : 'aes-256-ctr', key, iv);
      const expected = Buffer.concat([theirs.update(data), theirs.final()]);
      assert.deepEqual(cipher.process(iv, data), expected);
      cipher.processInPlace(iv, data);
      assert.deepEqual(data, expected);
    }
  }
  const cipher = new StreamCipher(Buffer.alloc(16));
  refuses(() => new StreamCipher(Buffer.alloc(24)), RangeError, 'ERR_EVENKEEL_LENGTH', EvenkeelError);
  refuses(() => new StreamCipher('0123456789abcdef'), TypeError, 'ERR_EVENKEEL_TYPE', EvenkeelError);
  refuses(() => cipher.process(Buffer.alloc(15), Buffer.alloc(1)), RangeError, 'ERR_EVENKEEL_LENGTH', EvenkeelError);
  refuses(() => cipher.process(Buffer.alloc(16), 'x'), TypeError, 'ERR_EVENKEEL_TYPE', EvenkeelError);
  const shared = new Uint8Array(new SharedArrayBuffer(16));
  refuses(() => cipher.processInPlace(Buffer.alloc(16), shared), TypeError, 'ERR_EVENKEEL_TYPE', EvenkeelError);
  const [gone, goneSamples] = [new Uint8Array(16), new Float32Array(4)];
  structuredClone([gone, goneSamples], { transfer: [gone.buffer, goneSamples.buffer] });
  for (const call of [
    () => cipher.process(Buffer.alloc(16), gone),
    () => cipher.processInPlace(Buffer.alloc(16), gone),
    () => cipher.process(gone, Buffer.alloc(1)),
    () => new StreamCipher(gone),
    () => new OpusDecoder(8000, 1).decode(gone),
    () => new OpusEncoder(8000, 1).encode(gone),
    () => new Resampler(8000, 16_000).push(goneSamples),
  ]) {
    assert.throws(call, { name: 'TypeError', code: 'ERR_EVENKEEL_DETACHED' });
  }
  cipher.processInPlace(Buffer.alloc(16), new Uint8Array(0));
  cipher.close();
  refuses(() => cipher.process(Buffer.alloc(16), Buffer.alloc(1)), Error, 'ERR_EVENKEEL_CLOSED', EvenkeelError);
});
