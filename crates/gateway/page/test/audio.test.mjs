// The audio path of the worklet, driven as a browser drives it, 128 samples at a time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RECEIVER_STATS, load } from 'evenkeel-wasm';
import { AudioPath } from '../audio.js';
import { BELL, FIGURES, LEVEL_IN, LEVEL_OUT, PAUSES, PacketRing, SENDING, SampleRing, UNSENT, allocate } from '../shared.js';

const QUANTUM = 128;
const classes = await load();

/** A path, and the ends of its memory that the page and its Worker have. */
function open(rate, both = false) {
  const shared = allocate(rate, both ? 2 : 1);
  const path = new AudioPath(classes, rate, shared, both);
  const state = new Int32Array(shared.state);
  const figures = new Float64Array(shared.figures, 0, FIGURES);
  const figure = (name) => figures[RECEIVER_STATS.indexOf(name)];
  return { path, state, figure, up: PacketRing.up(shared), down: PacketRing.down(shared), recorded: new SampleRing(shared) };
}

/** Some seconds of a voice-like tone. */
function sound(rate, seconds) {
  return Float32Array.from({ length: rate * seconds }, (_, i) => {
    const t = i / rate;
    return (0.3 * Math.sin(2 * Math.PI * 220 * t) + 0.1 * Math.sin(2 * Math.PI * 1330 * t)) * (0.6 + 0.4 * Math.sin(2 * Math.PI * 3 * t));
  });
}

/** Plays `input` to it, and does `each` after a quantum, with its number. What it played. */
function run({ path }, input, each = () => {}) {
  const [heard, output] = [new Float32Array(input.length), new Float32Array(QUANTUM)];
  for (let at = 0; at + QUANTUM <= input.length; at += QUANTUM) {
    path.process(input.subarray(at, at + QUANTUM), output);
    heard.set(output, at);
    each(at / QUANTUM);
  }
  return heard;
}

/** Sends back what was sent, as the gateway's echo does. */
function echo({ up, down }) {
  const packet = new Uint8Array(2048);
  let sequence = 0;
  return () => {
    for (let length = up.take(packet); length >= 0; length = up.take(packet)) {
      assert.ok(down.push(packet, length, sequence, sequence * 20));
      sequence++;
    }
    return sequence;
  };
}

/** The strongest correlation of two sounds over all shifts up to `most`, 1 for the same. */
function likeness(a, b, most) {
  let best = 0;
  for (let shift = 0; shift < most; shift += 3) {
    let [ab, aa, bb] = [0, 0, 0];
    for (let i = 0; i + shift < b.length && i < a.length; i += 2) {
      ab += a[i] * b[i + shift];
      aa += a[i] * a[i];
      bb += b[i + shift] * b[i + shift];
    }
    best = Math.max(best, ab / Math.sqrt(aa * bb || 1));
  }
  return best;
}

test('what is said is coded, and what comes is heard, whatever the rate of the sound card', () => {
  for (const rate of [16_000, 24_000, 44_100, 48_000]) {
    const line = open(rate);
    const back = echo(line);
    Atomics.store(line.state, SENDING, 1);
    const said = sound(rate, 1.5);
    let sent = 0;
    const heard = run(line, said, () => (sent = back()));
    assert.ok(sent >= 73 && sent <= 75, `${sent} packets of 20 ms in 1.5 s at ${rate} Hz`);
    assert.ok(likeness(said.subarray(0, rate), heard, rate / 4) > 0.9, `${rate} Hz`);
    for (const name of ['refused', 'lost', 'concealed', 'underruns']) assert.equal(line.figure(name), 0, name);
    assert.ok(line.figure('opened') >= sent - 2 && line.figure('delayMs') > 0);
    assert.ok(Atomics.load(line.state, BELL) >= sent, 'the Worker is woken for each packet');
  }
});

test('nothing is sent unless it is to be, and after a rest the coder begins anew', () => {
  const line = open(48_000);
  const said = sound(48_000, 0.5);
  run(line, said);
  assert.equal(line.up.length, -1);
  const packets = [0, 1].map(() => {
    const bytes = [];
    const packet = new Uint8Array(512);
    Atomics.store(line.state, SENDING, 1);
    // Ten whole frames: the second time begins in the same place of one.
    run(line, said.subarray(0, 9600), () => {
      for (let length = line.up.take(packet); length >= 0; length = line.up.take(packet)) bytes.push(packet.slice(0, length));
    });
    Atomics.store(line.state, SENDING, 0);
    run(line, new Float32Array(48_000));
    return bytes.length;
  });
  assert.deepEqual(packets, [10, 10]);
});

test('where nobody takes packets they are dropped and counted, and none is torn', () => {
  const line = open(48_000);
  Atomics.store(line.state, SENDING, 1);
  run(line, sound(48_000, 2));
  assert.equal(Atomics.load(line.state, UNSENT), 100 - 64);
  const decoder = new classes.OpusDecoder(24_000, 1);
  const packet = new Uint8Array(512);
  let taken = 0;
  for (let length = line.up.take(packet); length >= 0; length = line.up.take(packet), taken++) {
    assert.equal(decoder.decode(packet.slice(0, length)).length, 480);
  }
  assert.equal(taken, 64);
});

test('a microphone that gives nothing, or no numbers, is silence', () => {
  const line = open(48_000);
  const output = new Float32Array(QUANTUM);
  Atomics.store(line.state, SENDING, 1);
  for (let i = 0; i < 100; i++) line.path.process(undefined, output);
  for (let i = 0; i < 100; i++) line.path.process(new Float32Array(QUANTUM).fill(i % 2 ? NaN : Infinity), output);
  assert.ok(line.up.length >= 0);
  assert.ok(output.every((sample) => sample === 0));
});

test('packets that are none are counted, and what comes next is heard', () => {
  const line = open(48_000);
  const back = echo(line);
  let seed = 1;
  const random = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) >>> 24;
  for (let i = 0; i < 100; i++) line.down.push(Uint8Array.from({ length: 200 }, random), random() % 200, i, i * 20);
  run(line, new Float32Array(4800));
  assert.ok(line.figure('refused') > 10 && line.figure('refused') + line.figure('opened') === 100);
  Atomics.store(line.state, SENDING, 1);
  const said = sound(48_000, 2);
  const heard = run(line, said, back);
  assert.ok(likeness(said.subarray(0, 24_000), heard.subarray(48_000), 24_000) > 0.8);
});

test('a reply that has ended is no underrun; one that was cut off is', () => {
  for (const [isTold, underruns] of [[true, 0], [false, 1]]) {
    const line = open(48_000);
    const back = echo(line);
    Atomics.store(line.state, SENDING, 1);
    run(line, sound(48_000, 0.5), back);
    Atomics.store(line.state, SENDING, 0);
    if (isTold) Atomics.add(line.state, PAUSES, 1);
    const rest = run(line, new Float32Array(48_000));
    assert.equal(line.figure('underruns'), underruns);
    assert.equal(line.figure('concealed') === 0, isTold);
    assert.ok(rest.subarray(24_000).every((sample) => Math.abs(sample) < 1e-3));
  }
});

test('levels are those of the loudest sample since somebody looked', () => {
  const line = open(48_000);
  const loud = new Float32Array(1280);
  loud[200] = -0.5;
  run(line, loud);
  assert.equal(Atomics.exchange(line.state, LEVEL_IN, 0), Math.round(0.5 * 32_767));
  run(line, new Float32Array(1280));
  assert.equal(Atomics.load(line.state, LEVEL_IN), 0);
  assert.equal(Atomics.load(line.state, LEVEL_OUT), 0);
});

test('what is heard is recorded, beside what was said where that is asked for', () => {
  const [alone, both] = [open(48_000), open(48_000, true)];
  const said = sound(48_000, 0.5);
  for (const line of [alone, both]) {
    Atomics.store(line.state, SENDING, 1);
    const heard = run(line, said, echo(line));
    const recorded = line.recorded.take();
    const channels = line === both ? 2 : 1;
    const whole = Math.floor(said.length / QUANTUM) * QUANTUM;
    assert.equal(recorded.length, channels * whole);
    for (let i = 0; i < whole; i += 97) {
      assert.ok(Math.abs(recorded[channels * i + channels - 1] / 32_768 - heard[i]) < 1e-4);
      if (channels === 2) assert.ok(Math.abs(recorded[2 * i] / 32_768 - said[i]) < 1e-4);
    }
    assert.equal(line.recorded.take().length, 0);
  }
});

test('a quantum leaves no garbage', () => {
  for (const rate of [44_100, 48_000]) {
    const line = open(rate, true);
    const [packet, input, output] = [new Uint8Array(512), sound(rate, 1).subarray(0, QUANTUM), new Float32Array(QUANTUM)];
    Atomics.store(line.state, SENDING, 1);
    let sequence = 0;
    const quanta = (count) => {
      for (let i = 0; i < count; i++) {
        line.path.process(input, output);
        const length = line.up.take(packet);
        if (length >= 0) line.down.push(packet, length, sequence, sequence++ * 20);
      }
      line.recorded.take();
    };
    // While the engine still compiles, it allocates itself: of several rounds, the best.
    const grown = Array.from({ length: 15 }, () => {
      quanta(1000);
      globalThis.gc();
      const before = process.memoryUsage().heapUsed;
      quanta(1000);
      return process.memoryUsage().heapUsed - before;
    });
    assert.ok(Math.min(...grown) < 4000, `${grown} bytes in 1000 quanta each`);
    assert.equal(line.figure('underruns') + line.figure('refused'), 0);
  }
});
