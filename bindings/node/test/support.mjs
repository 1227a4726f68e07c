// What the tests share: a voice, frames, headers, the errors to expect.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export const KEY = Buffer.alloc(32, 7);
export const FRAME = 960;

/** The root of the repository, whose vectors and recordings the tests read. */
export const ROOT = process.env.EVENKEEL_ROOT ?? join(import.meta.dirname, '../../..');

export function vectors(name) {
  return JSON.parse(readFileSync(join(ROOT, 'vectors', name), 'utf8'));
}

/** A header of the protocol: type, no flags, length to be filled in, connection, timestamp, sequence. */
export function header(sequence = 1, connectionId = 0x1234) {
  const bytes = Buffer.alloc(16);
  bytes[0] = 1;
  bytes.writeUInt32BE(connectionId, 4);
  bytes.writeUInt32BE(sequence * 20, 8);
  bytes.writeUInt32BE(sequence, 12);
  return bytes;
}

/** A frame of a tone with harmonics, the `index`th of one sound. */
export function frame(index = 0, samples = FRAME, rate = 48_000) {
  return Float32Array.from({ length: samples }, (_, i) => {
    const t = (index * samples + i) / rate;
    return 0.3 * Math.sin(2 * Math.PI * 220 * t) + 0.1 * Math.sin(2 * Math.PI * 1330 * t);
  });
}

export function toInt16(samples) {
  return Int16Array.from(samples, (sample) => Math.round(sample * 32_767));
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

/** Holds a call to throwing an error of this class and code, which is an EvenkeelError too. */
export function refuses(call, ErrorClass, code, EvenkeelError) {
  assert.throws(call, (error) => {
    assert.ok(error instanceof ErrorClass, `${error?.constructor?.name}: ${error?.message}`);
    assert.equal(error.code, code, error.message);
    if (EvenkeelError !== undefined) assert.ok(error instanceof EvenkeelError);
    return true;
  });
}

/** Waits until something is so, however slow the machine. */
export async function until(what, isSo, ms = 30_000) {
  const end = performance.now() + ms;
  while (!(await isSo())) {
    assert.ok(performance.now() < end, `waited ${ms} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
