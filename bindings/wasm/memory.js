// The module's memory, as typed arrays that are made anew only when the memory has grown or an area has moved.
import { fault } from './error.js';

/** The areas of an object, by the numbers that the module knows them by, and what they hold. */
export const SAMPLES = 0;
export const BYTES = 1;
export const OUTPUT = 2;
export const ENDS = 3;
export const NUMBERS = 4;
const TEXT = 5;
const KINDS = [Float32Array, Uint8Array, Float32Array, Uint32Array, Float64Array, Uint8Array];

export class Module {
  #numbers;

  constructor(exports) {
    this.exports = exports;
    this.own = new Areas(this, 0);
  }

  /** What the module returned, or the error it stands for. */
  check(result) {
    if (result >= 0) return result;
    // An AudioWorklet has no TextDecoder.
    const escaped = Array.from(this.own.of(TEXT), (byte) => `%${byte.toString(16).padStart(2, '0')}`);
    throw fault(result, decodeURIComponent(escaped.join('')));
  }

  /** The first `count` of the module's numbers. */
  numbers(count) {
    const all = this.own.of(NUMBERS);
    if (this.#numbers?.buffer !== all.buffer || this.#numbers.length !== count) this.#numbers = all.subarray(0, count);
    return this.#numbers;
  }

  /** A new object: numbers and bytes go to the module's areas. */
  create(name, numbers, ...bytes) {
    this.own.of(NUMBERS).set(numbers);
    let at = 0;
    for (const part of bytes) {
      this.own.of(BYTES).set(part, at);
      at += part.length;
    }
    return this.check(this.exports[name]());
  }
}

/** Views of one object's areas. */
export class Areas {
  #module;
  #handle;
  #views = [];

  constructor(module, handle) {
    this.#module = module;
    this.#handle = handle;
  }

  of(area) {
    const { exports } = this.#module;
    const at = exports.area(this.#handle, area) >>> 0;
    const length = exports.area_len(this.#handle, area) >>> 0;
    const view = this.#views[area];
    if (view && view.buffer === exports.memory.buffer && view.byteOffset === at && view.length === length) return view;
    return (this.#views[area] = new KINDS[area](exports.memory.buffer, at, length));
  }
}
