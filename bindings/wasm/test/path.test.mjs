// The whole path, with each module: the shared vectors, the way there and back, over a network that loses.
import assert from 'node:assert/strict';
import { createDecipheriv } from 'node:crypto';
import { test } from 'node:test';
import { RECEIVER_STATS } from 'evenkeel-wasm';
import { KEY, MODULES, frame, fromHex, hex, likeness, vectorSignal, vectors } from './support.mjs';

const VECTOR_KEY = new Uint8Array(16).fill(0x2a);

function decoded({ OpusDecoder }, packets, rate, channels) {
  const decoder = new OpusDecoder(rate, channels);
  return packets.flatMap((packet) => {
    const bytes = Buffer.from(packet);
    const cipher = createDecipheriv('aes-128-ctr', VECTOR_KEY, bytes.subarray(0, 16));
    return [...decoder.decode(new Uint8Array(cipher.update(bytes.subarray(16))))];
  });
}

function snr(wanted, got) {
  assert.equal(got.length, wanted.length);
  let [signal, noise] = [0, 0];
  wanted.forEach((sample, i) => {
    signal += sample ** 2;
    noise += (sample - got[i]) ** 2;
  });
  return 10 * Math.log10(signal / noise);
}

for (const [name, module] of Object.entries(MODULES)) {
  const { AudioProcessor, AudioReceiver, OpusDecoder, OpusEncoder, OpusReceiver, Resampler } = module;

  test(`${name}: packets are those of the shared vectors`, () => {
    let exact = 0;
    for (const vector of vectors('path.json').cases) {
      const { input, encoder_rate: codedRate, encoder_channels: codedChannels, frame_ms: frameMs } = vector;
      const processor = new AudioProcessor(VECTOR_KEY, {
        inputRate: input.rate,
        channels: input.channels,
        codedRate,
        codedChannels,
        frameMs,
        application: vector.application.replace(' ', ''),
        bitrate: vector.bitrate,
        complexity: vector.complexity,
        pcm: true,
        connectionId: 0x01020304,
        timestampStart: 1000,
      });
      // Of the rungs there are, `minimal` is the last and `medium` the one before.
      const rungs = new Set([vector.complexity, 7, 5, 3, 0].filter((c) => c <= vector.complexity)).size + 2;
      if (vector.rung !== 'full') processor.setPosition(rungs - (vector.rung === 'minimal' ? 1 : 2));
      const [signal, packets] = [vectorSignal(input), []];
      const step = (input.rate * frameMs * input.channels) / 1000;
      for (let at = 0; at < signal.length; at += step) packets.push(...processor.push(signal.subarray(at, at + step)));
      packets.push(...processor.flush());
      assert.equal(packets.length, vector.datagrams.length, vector.name);
      if (vector.is_exact_everywhere) {
        assert.deepEqual(packets.map(hex), vector.datagrams, vector.name);
        exact++;
      } else {
        const wanted = decoded(module, vector.datagrams.map(fromHex), codedRate, codedChannels);
        assert.ok(snr(wanted, decoded(module, packets, codedRate, codedChannels)) >= 20, vector.name);
      }
    }
    assert.ok(exact > 0);
  });

  test(`${name}: datagrams of the shared vectors are let in or refused as they say`, () => {
    for (const session of vectors('seal.json').sessions) {
      const receiver = new AudioReceiver(fromHex(session.key), {
        encryption: session.suite,
        connectionId: session.connection_id,
        sessionId: Buffer.from(session.session_id, 'hex').toString(),
        direction: 'uplink',
      });
      for (const { what, datagram, refused } of session.arriving) {
        const take = () => receiver.receive(fromHex(datagram), 0);
        if (refused) assert.throws(take, { code: 'ERR_EVENKEEL_PACKET' }, `${session.suite}: ${what}`);
        else take();
      }
      const { opened, refused } = receiver.getStats();
      assert.equal(opened, session.arriving.filter((a) => !a.refused).length, session.suite);
      assert.equal(refused, session.arriving.filter((a) => a.refused).length, session.suite);
    }
  });

  test(`${name}: a packet is valid, and as long, as the shared vectors say`, () => {
    const { inspections } = vectors('framing.json');
    assert.ok(inspections.length >= 25);
    for (const { packet, is_valid: isValid, duration_us: micros } of inspections) {
      const decoder = new OpusDecoder(48_000, 1);
      if (isValid) assert.equal(decoder.decode(fromHex(packet)).length, (micros * 48) / 1000, packet);
      else assert.throws(() => decoder.decode(fromHex(packet)), { code: 'ERR_EVENKEEL_PACKET' }, packet);
    }
  });

  test(`${name}: a signal is at another rate what the shared vectors say`, () => {
    const { cases } = vectors('resample.json');
    assert.ok(cases.length >= 8);
    for (const { input, to, is_aligned: aligned, output } of cases) {
      const resampler = new Resampler(input.rate, to, { channels: input.channels, aligned });
      const parts = [resampler.push(vectorSignal(input)), resampler.flush()];
      const bytes = parts.map((part) => Buffer.from(part.buffer, part.byteOffset, part.byteLength));
      assert.equal(hex(Buffer.concat(bytes)), output, `${input.rate} to ${to}`);
    }
  });

  test(`${name}: a resampler gives the same however the sound is cut, and all of it`, () => {
    const sound = frame(0, 4800);
    for (const [from, to] of [[48_000, 24_000], [48_000, 16_000], [44_100, 48_000], [16_000, 48_000]]) {
      const [whole, cut] = [new Resampler(from, to, { aligned: true }), new Resampler(from, to, { aligned: true })];
      const expected = [...whole.push(sound), ...whole.flush()];
      assert.ok(Math.abs(expected.length - (4800 * to) / from) <= 1);
      const got = [];
      for (let at = 0; at < sound.length; at += 777) got.push(...cut.push(sound.subarray(at, at + 777)));
      assert.deepEqual([...got, ...cut.flush()], expected);
      assert.ok(likeness(Float32Array.from(frame(0, expected.length, (48_000 * to) / from)), expected, 1) > 0.99, `${from} to ${to}`);
      // What is live comes at once, behind its delay.
      const live = new Resampler(from, to);
      assert.ok(live.delay() > 0);
      assert.equal(live.push(sound).length + live.flush().length - expected.length, live.delay());
    }
  });

  test(`${name}: what is heard is what was said, in every suite, also where packets are lost`, () => {
    for (const encryption of ['aes-256-ctr', 'aes-256-gcm', 'chacha20-poly1305']) {
      for (const loses of [false, true]) {
        const session = { encryption, sessionId: 'ünïcode' };
        const processor = new AudioProcessor(KEY, { ...session, fec: loses, expectedLoss: loses ? 20 : 0 });
        const receiver = new AudioReceiver(KEY, { ...session, initialDelayMs: 40 });
        const [said, heard] = [[], []];
        for (let i = 0; i < 40; i++) {
          said.push(...frame(i));
          const packet = processor.processAudio(frame(i));
          if (!loses || i % 10 !== 7) assert.equal(receiver.receive(packet, i * 20), true);
          heard.push(...receiver.pull(i * 20));
        }
        assert.ok(likeness(said.slice(0, 19_200), heard, 6000) > (loses ? 0.8 : 0.9), `${encryption} ${loses}`);
        const { lost, opened, jitterMs } = receiver.getStats();
        assert.deepEqual([opened, lost > 0], [loses ? 36 : 40, loses]);
        assert.ok(jitterMs >= 0);
        assert.equal(receiver.receive(new Uint8Array(processor.processAudio(frame())), 900), true);
      }
    }
  });

  test(`${name}: packets that come opened are heard as sealed ones are, and counted`, () => {
    const encoder = new OpusEncoder(24_000, 1, { application: 'voip', bitrate: 24_000, complexity: 5, fec: true, expectedLoss: 20 });
    const receiver = new OpusReceiver({ initialDelayMs: 40, timestampHz: 1000 });
    const [said, heard] = [[], []];
    for (let i = 0; i < 40; i++) {
      const packet = encoder.encode(frame(i, 480, 24_000));
      said.push(...frame(i));
      // Sequences and timestamps may begin anywhere, and pass what a number of 32 bits holds.
      const at = (number) => (number + 0xffff_fff0) >>> 0;
      if (i % 10 !== 7) assert.equal(receiver.receive(packet, at(i), at(i * 20), i * 20), true);
      if (i === 9) assert.equal(receiver.receive(packet, at(i), at(i * 20), i * 20), false);
      heard.push(...receiver.pull(i * 20));
    }
    assert.ok(likeness(said.slice(0, 19_200), heard, 6000) > 0.8);
    const stats = receiver.getStats();
    assert.deepEqual([stats.opened, stats.duplicates, stats.refused], [37, 1, 0]);
    assert.ok(stats.recovered + stats.concealed >= 3, JSON.stringify(stats));
    // A pause that was announced is silence and no underrun.
    receiver.pause();
    const rest = Array.from({ length: 20 }, (_, i) => receiver.pull(800 + i * 20));
    assert.ok(rest.at(-1).every((sample) => sample === 0));
    assert.deepEqual({ ...receiver.getStats(), delayMs: 0 }, { ...stats, delayMs: 0 });
    const numbers = new Float64Array(16).fill(-1);
    receiver.writeStats(numbers);
    assert.deepEqual([...numbers], [...RECEIVER_STATS.map((name) => stats[name]), -1, -1, -1]);
    assert.deepEqual(Object.keys(stats), [...RECEIVER_STATS]);
  });

  test(`${name}: the codec by itself, at each rate; lost packets are concealed or recovered`, () => {
    for (const rate of [8000, 16_000, 24_000, 48_000]) {
      const encoder = new OpusEncoder(rate, 1, { application: 'voip', bitrate: 32_000, fec: true, expectedLoss: 20 });
      const decoder = new OpusDecoder(rate, 1);
      const [said, heard] = [[], []];
      for (let i = 0; i < 25; i++) {
        const sound = frame(i, rate / 50, rate);
        said.push(...sound);
        heard.push(...decoder.decode(encoder.encode(sound)));
      }
      assert.ok(likeness(said, heard, rate / 40) > 0.9, `${rate}`);
      assert.equal(decoder.conceal(20).length, rate / 50);
      encoder.encode(frame(0, rate / 50, rate));
      assert.equal(decoder.decodeFec(encoder.encode(frame(1, rate / 50, rate)), 20).length, rate / 50);
      assert.ok(encoder.lookahead() > 0);
    }
  });
}

test('with SIMD or without, a listener hears the same', () => {
  const heard = Object.values(MODULES).map(({ AudioProcessor, AudioReceiver }) => {
    const [processor, receiver] = [new AudioProcessor(KEY), new AudioReceiver(KEY)];
    return Array.from({ length: 20 }, (_, i) => {
      receiver.receive(processor.processAudio(frame(i)), i * 20);
      return [...receiver.pull(i * 20)];
    }).flat();
  });
  assert.ok(snr(heard[0], heard[1]) >= 20);
});
