// The shared vectors, by way of this package: what is encoded, sealed, opened and resampled, bit for bit.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { AudioProcessor, Engine, FallbackAudioProcessor, OpusDecoder, Resampler, StreamCipher } from 'evenkeel';
import { vectors } from './support.mjs';

const PATH_KEY = Buffer.alloc(16, 0x2a);
const hex = (text) => Buffer.from(text, 'hex');
const sessions = vectors('seal.json').sessions;

/** The signal of vectors/README.md. */
function signal({ rate, channels, samples }) {
  const triangle = (n, hz) => {
    const period = Math.trunc(rate / hz);
    return Math.abs(Math.trunc(((n % period) * 1024) / period) - 512) * 4 - 1024;
  };
  const sound = new Int16Array(samples * channels);
  let seed = 1;
  for (let n = 0; n < samples; n++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const left = 6 * triangle(n, 120) + 3 * triangle(n, 700) + (seed >>> 24) - 128;
    sound[n * channels] = left;
    if (channels === 2) sound[2 * n + 1] = Math.trunc(-left / 2);
  }
  return sound;
}

/** Whether libopus chooses its code for AVX2 and FMA here, as it did where the vectors were made. */
function runsAvx2() {
  if (process.platform !== 'linux' || process.arch !== 'x64') return false;
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1].split(' ') ?? [];
  return flags.includes('avx2') && flags.includes('fma');
}

/** Holds datagrams to those of a case: bit for bit, or, where libopus computes otherwise, to nearly the same sound. */
function agree(vector, datagrams) {
  const expected = vector.datagrams.slice(0, datagrams.length).map(hex);
  if (vector.is_exact_everywhere || runsAvx2()) {
    datagrams.forEach((datagram, i) => assert.deepEqual(datagram, expected[i], `${vector.name}, packet ${i}`));
    return;
  }
  const heard = (list) => {
    const decoder = new OpusDecoder(48_000, vector.encoder_channels);
    const cipher = new StreamCipher(PATH_KEY);
    return list.flatMap((datagram) => [...decoder.decodeFloat(cipher.process(datagram.subarray(0, 16), datagram.subarray(16)))]);
  };
  const [want, got] = [heard(expected), heard(datagrams)];
  const noise = got.reduce((sum, sample, i) => sum + (sample - want[i]) ** 2, 0);
  const power = want.reduce((sum, sample) => sum + sample ** 2, 0);
  assert.ok(10 * Math.log10(power / noise) > 20, vector.name);
}

/** Frames of a case's signal, the last one filled up with silence; mixed down where the encoder has one channel. */
function frames({ input, encoder_channels: channels, frame_ms: ms }) {
  let sound = signal(input);
  if (channels < input.channels) {
    sound = Float32Array.from({ length: sound.length / 2 }, (_, i) => (sound[2 * i] + sound[2 * i + 1]) / 65_536);
  }
  const length = ((input.rate * ms) / 1000) * channels;
  return Array.from({ length: Math.ceil(sound.length / length) }, (_, i) => {
    const frame = new sound.constructor(length);
    frame.set(sound.subarray(i * length, (i + 1) * length));
    return frame;
  });
}

test('a processor makes these packets of a signal, on every rung', () => {
  const { cases } = vectors('path.json');
  assert.ok(cases.length >= 6);
  for (const vector of cases) {
    const { input, rung, encoder_rate: codedRate, encoder_channels: channels, frame_ms: frameMs } = vector;
    const { application, bitrate, complexity } = vector;
    const processor = new FallbackAudioProcessor(PATH_KEY, {
      ...{ application, bitrate, complexity, frameMs, channels, codedRate, inputRate: input.rate },
      ...(rung === 'minimal' && { pcm: true, outputRate: codedRate }),
    });
    processor.setMode(rung);
    const sent = frames(vector).map((frame, i) => {
      // The flags of the payload's kind and the length are filled in.
      const header = hex(vector.datagrams[i]).subarray(0, 16);
      header[1] &= 0x80;
      header.fill(0, 2, 4);
      return processor.processAudio(frame, header);
    });
    // What the resampler holds at the end is the sender's to flush.
    assert.ok(vector.datagrams.length - sent.length <= 1, vector.name);
    agree(vector, sent);
  }
});

test('a stream of an engine makes them too, with headers of its own', async (t) => {
  const engine = new Engine({ lanes: 1, pin: false, realtime: false, adapt: false, admission: false });
  t.after(() => engine.close());
  const cases = vectors('path.json').cases.filter(
    ({ encoder_channels: coded, input, rung }) => rung === 'full' && input.channels === coded,
  );
  assert.ok(cases.length >= 3);
  for (const vector of cases) {
    const { application, bitrate, complexity, input, encoder_rate: codedRate, frame_ms: frameMs } = vector;
    const stream = engine.open({
      ...{ application, bitrate, complexity, frameMs, codedRate, inputRate: input.rate, channels: input.channels },
      ...{ key: PATH_KEY, connectionId: 16_909_060, timestampStart: 1000, format: 'i16' },
      ...{ pacing: 'immediate', lateLimitMs: 60_000, limitMs: 60_000 },
    });
    const sent = [];
    for (const frame of frames(vector)) sent.push(...(await stream.process(frame)).map(({ data }) => data));
    agree(vector, sent);
    stream.close();
  }
});

test('a relayed packet is sealed so, in every suite', async (t) => {
  const engine = new Engine({ lanes: 1, pin: false, realtime: false, adapt: false, admission: false });
  t.after(() => engine.close());
  assert.equal(sessions.length, 5);
  for (const session of sessions) {
    const packets = session.downlink_packets.filter(({ kind, payload }) => kind === 'opus' && payload.length > 4);
    assert.ok(packets.length >= 3);
    for (const { payload, datagram, timestamp, sequence } of packets) {
      // Packets of 20 ms come before it, so that it has its sequence and timestamp; past their end, timestamps leave out 0.
      const before = 20 * (sequence - 1);
      const timestampStart = timestamp > before ? timestamp - before : 2 ** 32 + timestamp - 1 - before;
      const stream = engine.open({
        ...{ relay: true, key: hex(session.key), encryption: session.suite, connectionId: session.connection_id },
        ...{ sessionId: hex(session.session_id).toString(), timestampStart },
        ...{ pacing: 'immediate', lateLimitMs: 60_000, limitMs: 60_000 },
      });
      for (let i = 1; i < sequence; i++) await stream.process(hex('4801020304'));
      const [sealed] = await stream.process(hex(payload));
      assert.equal(sealed.data.toString('hex'), datagram, `${session.suite}, packet ${sequence}`);
      stream.close();
    }
  }
});

test('what is sealed by counter is sealed and opened so, both ways and of every kind', () => {
  const byCounter = sessions.filter(({ suite }) => suite.endsWith('-ctr'));
  assert.equal(byCounter.length, 2);
  for (const session of byCounter) {
    const [key, takes] = [hex(session.key), { codedRate: 24_000, outputRate: 24_000, output: 'i16', pcm: true, clear: true }];
    const cipher = new StreamCipher(key);
    for (const { kind, payload, datagram } of [...session.downlink_packets, ...session.uplink_packets]) {
      const [header, body] = [hex(datagram).subarray(0, 16), hex(datagram).subarray(16)];
      const plain = kind === 'pcm in clear' ? body : cipher.process(header, body);
      assert.equal(plain.toString('hex'), payload);
      if (kind !== 'pcm in clear') assert.deepEqual(cipher.process(header, hex(payload)), body);
      const opened = new AudioProcessor(key, takes).open(hex(datagram));
      const expected =
        kind === 'opus'
          ? new OpusDecoder(24_000, 1).decode(hex(payload))
          : hex(payload).swap16();
      assert.deepEqual(Buffer.from(opened.buffer, opened.byteOffset, opened.byteLength), expected);
    }
  }
});

test('what arrives and is no packet is refused, whatever the sequence', () => {
  for (const session of sessions.filter(({ suite }) => suite.endsWith('-ctr'))) {
    // Sequence, session and direction are the caller's to check.
    const own = ['truncated', 'type', 'length', 'payload', 'opus'];
    const refused = session.arriving.filter(({ refused }) => own.includes(refused));
    assert.ok(refused.length >= 5);
    const processor = new AudioProcessor(hex(session.key));
    for (const { datagram, what } of refused) {
      assert.throws(() => processor.open(hex(datagram)), { code: 'ERR_EVENKEEL_PACKET' }, what);
    }
    for (const { datagram, payload } of session.arriving.filter(({ payload }) => payload)) {
      assert.equal(processor.open(hex(datagram)).length, 960, payload);
    }
  }
});

test('a packet is valid, and as long, as the vectors say', () => {
  const { inspections } = vectors('framing.json');
  assert.ok(inspections.length >= 25);
  for (const { packet, is_valid: isValid, duration_us: micros } of inspections) {
    const decoder = new OpusDecoder(48_000, 1);
    if (isValid) assert.equal(decoder.decodeFloat(hex(packet)).length, (micros * 48) / 1000, packet);
    else assert.throws(() => decoder.decodeFloat(hex(packet)), { code: 'ERR_EVENKEEL_PACKET' }, packet);
  }
});

test('a signal is this at another rate', () => {
  const { cases } = vectors('resample.json');
  assert.ok(cases.length >= 8);
  for (const { input, to, is_aligned: aligned, output } of cases) {
    const resampler = new Resampler(input.rate, to, { channels: input.channels, aligned });
    const samples = Float32Array.from(signal(input), (sample) => sample / 32_768);
    const parts = [resampler.push(samples), resampler.flush()];
    const bytes = parts.map((part) => Buffer.from(part.buffer, part.byteOffset, part.byteLength));
    assert.equal(Buffer.concat(bytes).toString('hex'), output, `${input.rate} to ${to}`);
  }
});
