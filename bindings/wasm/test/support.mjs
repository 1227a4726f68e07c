// What the tests share: the modules there are, a voice, the shared vectors, the errors to expect.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { load } from 'evenkeel-wasm';

export const KEY = new Uint8Array(32).fill(7);
export const FRAME = 960;

/** The root of the repository, whose vectors the tests read. */
const ROOT = process.env.EVENKEEL_ROOT ?? join(import.meta.dirname, '../../..');

/** Each test is done with both modules. */
export const MODULES = { simd: await load({ simd: true }), plain: await load({ simd: false }) };

export function vectors(name) {
  return JSON.parse(readFileSync(join(ROOT, 'vectors', name), 'utf8'));
}

export const hex = (bytes) => Buffer.from(bytes).toString('hex');
export const fromHex = (text) => new Uint8Array(Buffer.from(text, 'hex'));

/** A frame of a tone with harmonics, the `index`th of one sound. */
export function frame(index = 0, samples = FRAME, rate = 48_000) {
  return Float32Array.from({ length: samples }, (_, i) => {
    const t = (index * samples + i) / rate;
    return 0.3 * Math.sin(2 * Math.PI * 220 * t) + 0.1 * Math.sin(2 * Math.PI * 1330 * t);
  });
}

/** The signal of vectors/path.json, as its README has it. */
export function vectorSignal({ rate, channels, samples }) {
  const triangle = (n, hz) => {
    const period = Math.trunc(rate / hz);
    return Math.abs(Math.trunc(((n % period) * 1024) / period) - 512) * 4 - 1024;
  };
  const out = new Int16Array(samples * channels);
  let seed = 1;
  for (let n = 0; n < samples; n++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const left = 6 * triangle(n, 120) + 3 * triangle(n, 700) + (seed >>> 24) - 128;
    out[n * channels] = left;
    if (channels === 2) out[n * channels + 1] = Math.trunc(-left / 2);
  }
  return out;
}

/** The strongest of all shifts' correlation of two sounds, 1.0 for the same. */
export function likeness(a, b, shifts = 1500) {
  let best = 0;
  for (let shift = 0; shift < shifts; shift++) {
    let [ab, aa, bb] = [0, 0, 0];
    for (let i = 0; i + shift < b.length && i < a.length; i++) {
      ab += a[i] * b[i + shift];
      aa += a[i] * a[i];
      bb += b[i + shift] * b[i + shift];
    }
    best = Math.max(best, ab / Math.sqrt(aa * bb || 1));
  }
  return best;
}

/** Holds a call to throwing an error of this class and code. */
export function refuses(call, ErrorClass, code) {
  assert.throws(call, (error) => {
    assert.ok(error instanceof ErrorClass, `${error?.constructor?.name}: ${error?.message}`);
    assert.equal(error.code, `ERR_EVENKEEL_${code}`, error.message);
    return true;
  });
}
