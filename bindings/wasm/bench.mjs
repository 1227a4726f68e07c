// What 20 ms of speech cost, 48 kHz floats to a sealed packet at complexity 5, with each module and natively; and what the
// modules weigh. Run by `tools/wasm bench`, with the speech on standard input as 32-bit floats.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { load, moduleUrl } from './index.js';

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

const native = Number(execFileSync(process.argv[2], { input: raw, encoding: 'utf8' }));
console.log(`${frames} frames of speech: 20 ms, 48 kHz floats to a sealed packet of 24 kHz, complexity 5, mean of two passes`);
console.log(`native  ${native.toFixed(0).padStart(5)} µs`);
for (const name of ['simd', 'plain']) {
  const micros = await measure(name === 'simd');
  const size = gzipSync(readFileSync(moduleUrl({ simd: name === 'simd' })), { level: 9 }).length;
  const ratio = (micros / native).toFixed(2);
  console.log(`${name.padEnd(7)} ${micros.toFixed(0).padStart(5)} µs  ${ratio} x native  ${(size / 1000).toFixed(0)} KB gzip-compressed`);
}
