// What 20 ms of speech cost, 48 kHz floats to a sealed packet at complexity 5, with each module and natively; and what the
// modules weigh. Run by `make wasm-bench`, with the speech on standard input as 32-bit floats. Fails where a limit is missed.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { load, moduleUrl } from './index.js';

/** Of the module with SIMD: microseconds a frame, as many times native code, and bytes (also of the other module). */
const MOST = { micros: 600, ratio: 4, size: 450_000 };

const raw = readFileSync(0);
const sound = new Float32Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.length));
const frames = Math.floor(sound.length / 960);

async function measure(simd) {
  const { AudioProcessor } = await load({ simd });
  const processor = new AudioProcessor(new Uint8Array(32).fill(7));
  const pass = () => {
    for (let i = 0; i < frames; i++) {
      processor.samples.set(sound.subarray(i * 960, (i + 1) * 960));
      processor.process();
    }
  };
  pass();
  const began = performance.now();
  pass();
  pass();
  return ((performance.now() - began) * 1000) / (2 * frames);
}

const native = () => Number(execFileSync(process.argv[2], { input: raw, encoding: 'utf8' }));

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

// By turns, as machines change their mind; the median of each.
const rounds = Array.from({ length: 5 });
for (const i of rounds.keys()) rounds[i] = { native: native(), simd: await measure(true), plain: await measure(false) };
const [bare, simd, plain] = ['native', 'simd', 'plain'].map((name) => median(rounds.map((round) => round[name])));
console.log(`${frames} frames of speech: 20 ms, 48 kHz floats to a sealed packet of 24 kHz, complexity 5; median of ${rounds.length} rounds\n`);
console.log('| | a frame | beside native | gzip-compressed |\n|---|---:|---:|---:|');
console.log(`| native | ${bare.toFixed(0)} µs | | |`);
const missed = [];
for (const [name, micros] of Object.entries({ simd, plain })) {
  const size = gzipSync(readFileSync(moduleUrl({ simd: name === 'simd' })), { level: 9 }).length;
  const ratio = micros / bare;
  console.log(`| ${name}.wasm | ${micros.toFixed(0)} µs | ${ratio.toFixed(2)} x | ${(size / 1000).toFixed(0)} KB |`);
  const values = name === 'simd' ? { micros, ratio, size } : { size };
  for (const [what, value] of Object.entries(values)) if (value >= MOST[what]) missed.push(`${name}: ${what} ${value.toFixed(2)}; ${MOST[what]} is the most`);
}
for (const text of missed) console.error(`wasm-bench: ${text}`);
process.exitCode = missed.length > 0 ? 1 : 0;
