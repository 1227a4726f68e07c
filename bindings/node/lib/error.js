'use strict';

/**
 * What this package throws. A TypeError or RangeError of its own is an instance too: it has a `code` that begins with
 * ERR_EVENKEEL_, as all of them do.
 */
class EvenkeelError extends Error {
  constructor(message, code) {
    super(message);
    this.name = 'EvenkeelError';
    this.code = code;
  }

  static [Symbol.hasInstance](value) {
    return value instanceof Error && typeof value.code === 'string' && value.code.startsWith('ERR_EVENKEEL_');
  }
}

/** A TypeError with a code. */
function typeError(message) {
  return Object.assign(new TypeError(message), { code: 'ERR_EVENKEEL_TYPE' });
}

/** A RangeError with a code. */
function rangeError(message) {
  return Object.assign(new RangeError(message), { code: 'ERR_EVENKEEL_RANGE' });
}

/** A number from `min` to `max`, or what stands for one that is not given. */
function numberOption(value, name, fallback, min, max) {
  if (value === undefined) return fallback;
  if (typeof value !== 'number') throw typeError(`${name} must be a number`);
  if (!(value >= min && value <= max)) throw rangeError(`${name} must be from ${min} to ${max}, not ${value}`);
  return value;
}

/** A function, or none. */
function functionOption(value, name) {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'function') throw typeError(`${name} must be a function`);
  return value;
}

module.exports = { EvenkeelError, typeError, rangeError, numberOption, functionOption };
