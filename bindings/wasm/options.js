// Options and arguments: what is of the wrong type is refused here, what is out of range by the module.
import { detachedError, lengthError, rangeError, typeError } from './error.js';

export function options(value) {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object') throw typeError('options must be an object');
  return value;
}

export function number(value, name, fallback) {
  if (value === undefined && fallback !== undefined) return fallback;
  if (typeof value !== 'number') throw typeError(`${name} must be a number`);
  if (Number.isNaN(value)) throw rangeError(`${name} must be a number, not NaN`);
  return value;
}

/** A whole number from `min` to `max`. */
export function whole(value, name, fallback, min = 0, max = 0xffff_ffff) {
  const given = number(value, name, fallback);
  if (!Number.isInteger(given)) throw rangeError(`${name} must be a whole number, not ${given}`);
  if (given < min || given > max) throw rangeError(`${name} must be from ${min} to ${max}, not ${given}`);
  return given;
}

export function flag(value, name) {
  if (value !== undefined && typeof value !== 'boolean') throw typeError(`${name} must be true or false`);
  return value ? 1 : 0;
}

/** The place of a word among those there are. */
export function choice(value, name, fallback, words) {
  if (value === undefined) return words.indexOf(fallback);
  const all = () => words.map((word) => `'${word}'`).join(', ');
  if (typeof value !== 'string') throw typeError(`${name} must be one of ${all()}`);
  const at = words.indexOf(value);
  if (at < 0) throw rangeError(`${name} must be one of ${all()}`);
  return at;
}

/** The nine numbers of an encoder. */
export function encoderNumbers(given, application, bitrate, complexity) {
  return [
    choice(given.application, 'application', application, ['voip', 'audio', 'lowdelay']),
    whole(given.bitrate, 'bitrate', bitrate),
    whole(given.complexity, 'complexity', complexity, 0, 10),
    choice(given.rateControl, 'rateControl', 'cvbr', ['vbr', 'cvbr', 'cbr']),
    flag(given.fec, 'fec'),
    whole(given.expectedLoss, 'expectedLoss', 0, 0, 100),
    flag(given.dtx, 'dtx'),
    choice(given.maxBandwidth, 'maxBandwidth', 'full', ['narrow', 'medium', 'wide', 'superwide', 'full']),
    choice(given.signal, 'signal', 'auto', ['auto', 'voice', 'music']),
  ];
}

/** Of a receiver: the rates of what it gives and of its decoder, and the four numbers of its jitter buffer. */
export function jitterNumbers(given) {
  return [
    whole(given.outputRate, 'outputRate', 48_000),
    whole(given.decodedRate, 'decodedRate', 24_000),
    whole(given.minDelayMs, 'minDelayMs', 20),
    whole(given.maxDelayMs, 'maxDelayMs', 400),
    whole(given.initialDelayMs, 'initialDelayMs', 60),
    whole(given.timestampHz, 'timestampHz', 0),
  ];
}

const SUITES = ['aes-128-ctr', 'aes-256-ctr', 'aes-128-gcm', 'aes-256-gcm', 'chacha20-poly1305'];

/** The five numbers of a session's keys, and its session id as bytes. */
export function keyNumbers(key, given) {
  bytes(key, 'key');
  if (key.length !== 16 && key.length !== 32) throw lengthError(`a key has 16 or 32 bytes, not ${key.length}`);
  const sessionId = text(given.sessionId, 'sessionId');
  const suite = choice(given.encryption, 'encryption', key.length === 16 ? 'aes-128-ctr' : 'aes-256-ctr', SUITES);
  const direction = choice(given.direction, 'direction', 'downlink', ['downlink', 'uplink']);
  return [[suite, whole(given.connectionId, 'connectionId', 1), direction, key.length, sessionId.length], sessionId];
}

/** UTF-8 without TextEncoder, which an AudioWorklet has not. */
function text(value, name) {
  if (value === undefined) return [];
  if (typeof value !== 'string') throw typeError(`${name} must be a string`);
  if (/\p{Surrogate}/u.test(value)) throw rangeError(`${name} is not well-formed Unicode`);
  const encoded = encodeURIComponent(value).replace(/%(..)/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
  if (encoded.length > 256) throw lengthError(`${name} has ${encoded.length} bytes; 256 is the most`);
  return Array.from(encoded, (letter) => letter.charCodeAt(0));
}

/** Refuses what was transferred away. Where the engine cannot tell (before 2024), an empty array is taken for what it is. */
function attached(view, name) {
  if (view.length > 0 || view.buffer.detached !== true) return view;
  throw detachedError(`${name}: the buffer is detached; it was transferred to another thread`);
}

export function bytes(value, name) {
  if (!(value instanceof Uint8Array)) throw typeError(`${name} must be a Uint8Array`);
  return attached(value, name);
}

export function samples(value, name) {
  if (!(value instanceof Float32Array) && !(value instanceof Int16Array)) {
    throw typeError(`${name} must be a Float32Array or an Int16Array`);
  }
  return attached(value, name);
}

/** Room for so many numbers. */
export function statsRoom(value, count) {
  if (!(value instanceof Float64Array)) throw typeError('numbers must be a Float64Array');
  if (value.length < count) throw lengthError(`numbers: there are ${count}, and room for ${value.length}`);
  return attached(value, 'numbers');
}
