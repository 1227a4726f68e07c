// The workload of `evenkeel load` in Node.js, on two worker threads. `node run.mjs --help` says how.
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { readWav, voice, writeWav } from './voice.mjs';

const HELP = `Usage: node run.mjs [--streams 25] [--seconds 30] [--complexity 5] [--workers 2] [--warm-up 2] [--json]
       node run.mjs --wav IN.wav --out OUT.wav|OUT.opuspackets [--complexity 5]

The first form measures; nothing of the warm-up (seconds, more than --seconds) counts.
The second writes what the path makes of a recording: decoded at 24 kHz, or its packets, each after its length
(16 bit, little-endian).`;

const { values } = parseArgs({
  options: {
    streams: { type: 'string', default: '25' },
    seconds: { type: 'string', default: '30' },
    complexity: { type: 'string', default: '5' },
    workers: { type: 'string', default: '2' },
    'warm-up': { type: 'string', default: '2' },
    json: { type: 'boolean', default: false },
    wav: { type: 'string' },
    out: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

const complexity = number('complexity', 0, 10);
if (values.help) console.log(HELP);
else if (values.wav && values.out) await listen(values.wav, values.out);
else if (values.wav || values.out) fail('--wav and --out go together');
else show(await load(number('streams', 1, 10_000), number('seconds', 1, 86_400), number('workers', 1, 64)));

function number(name, least, most) {
  const value = Number(values[name]);
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  return fail(`--${name} must be a whole number from ${least} to ${most}, not ${values[name]}`);
}

function fail(message) {
  console.error(`run.mjs: ${message}`);
  process.exit(2);
}

async function load(streams, seconds, workerCount) {
  const warmUp = number('warm-up', 0, 600);
  const samples = voice();
  const material = new SharedArrayBuffer(samples.byteLength);
  new Float32Array(material).set(samples);
  const workers = Array.from({ length: workerCount }, (_, worker) => {
    const numbers = Array.from({ length: streams }, (_, i) => i).filter((i) => i % workerCount === worker);
    const workerData = { numbers, streams, seconds, warmUp, complexity, material };
    return new Worker(new URL('worker.mjs', import.meta.url), { workerData });
  });
  await Promise.all(workers.map((worker) => once(worker, 'message')));

  const epochMs = performance.timeOrigin + performance.now() + 100;
  const results = Promise.all(workers.map((worker) => once(worker, 'message')));
  workers.forEach((worker) => worker.postMessage({ epochMs }));
  await new Promise((resolve) => setTimeout(resolve, 100 + warmUp * 1000));
  const [began, cpuBefore] = [performance.now(), process.cpuUsage()];
  const figures = (await results).map(([figure]) => figure);
  const elapsed = (performance.now() - began) / 1000;
  const cpu = process.cpuUsage(cpuBefore);
  return report(streams, elapsed, (cpu.user + cpu.system) / 1e6 / elapsed, figures);
}

function report(streams, seconds, cores, figures) {
  const sum = (key) => figures.reduce((total, figure) => total + figure[key], 0);
  const latency = sorted(figures.map((figure) => figure.latencyMs));
  const [frames, packets] = [sum('frames'), sum('packets')];
  const late = latency.filter((ms) => ms > 50).length;
  return {
    streams,
    seconds,
    frames,
    packets,
    late_50ms: late,
    late_50ms_share: late / packets,
    latency_ms: summary(latency),
    source_late_ms: summary(sorted(figures.map((figure) => figure.sourceLateMs))),
    frame_us: (1000 * sum('busyMs')) / frames,
    cores,
    rss_mb: process.memoryUsage.rss() / 1e6,
    kbps: (8 * sum('opusBytes')) / (packets * 20),
  };
}

function sorted(arrays) {
  return Float64Array.from(arrays.flatMap((array) => [...array])).sort();
}

/** Of sorted values; the percentiles by nearest rank. */
function summary(ms) {
  const mean = ms.reduce((a, b) => a + b, 0) / ms.length;
  const stdev = Math.sqrt(ms.reduce((a, b) => a + (b - mean) ** 2, 0) / ms.length);
  const at = (share) => ms[Math.max(0, Math.ceil(share * ms.length) - 1)];
  return { mean, stdev, p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1) };
}

function show(report) {
  if (values.json) return console.log(JSON.stringify(report, null, 2));
  const { streams, seconds, frames, packets, late_50ms: late, latency_ms: ms } = report;
  console.log(`${streams} streams for ${seconds.toFixed(0)} s: ${frames} frames, ${packets} packets`);
  console.log(`${late} packets (${(100 * report.late_50ms_share).toFixed(2)} %) over 50 ms late\n`);
  const cell = (value) => value.toFixed(3).padStart(9);
  const line = (name, m) => name.padEnd(22) + [m.mean, m.stdev, m.p50, m.p99, m.p999, m.max].map(cell).join('');
  console.log('ms'.padEnd(22) + ['mean', 'stdev', 'p50', 'p99', 'p99.9', 'max'].map((n) => n.padStart(9)).join(''));
  console.log(line('latency', ms));
  console.log(line('of it before the path', report.source_late_ms));
  const { frame_us: us, cores, rss_mb: mb, kbps } = report;
  console.log(`\n${cores.toFixed(3)} cores, ${mb.toFixed(0)} MB, ${us.toFixed(0)} µs a frame, ${kbps.toFixed(1)} kb/s`);
}

/** Writes what the path makes of a recording. */
async function listen(from, to) {
  const { CODED_RATE, OpusEncoder, Stream, dispose } = await import('./stream.mjs');
  const { rate, samples } = readWav(from);
  const stream = new Stream({ rate, complexity });
  const packets = [];
  for (let at = 0; at < samples.length; at += rate / 50) {
    packets.push(...stream.encode(Float32Array.from(samples.subarray(at, at + rate / 50), (s) => s / 32_768)));
  }
  packets.push(...stream.finish());
  const bytes = packets.reduce((total, packet) => total + packet.length, 0);
  if (to.endsWith('.wav')) {
    const decoder = new OpusEncoder(CODED_RATE, 1);
    writeWav(to, CODED_RATE, toSamples(Buffer.concat(packets.map((packet) => decoder.decode(packet)))));
  } else {
    const length = (packet) => Buffer.from([packet.length & 255, packet.length >> 8]);
    writeFileSync(to, Buffer.concat(packets.flatMap((packet) => [length(packet), packet])));
  }
  console.log(`${to}: ${packets.length} packets, ${((8 * bytes) / (20 * packets.length)).toFixed(1)} kb/s`);
  stream.close();
  await dispose();
}

function toSamples(bytes) {
  const samples = new Int16Array(bytes.length >> 1);
  for (let i = 0; i < samples.length; i++) samples[i] = bytes.readInt16LE(2 * i);
  return samples;
}
