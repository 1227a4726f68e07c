// What this package throws: as the package for Node.js does, by the same codes.

/** A TypeError or RangeError of this package is an instance too: all have a `code` that begins with ERR_EVENKEEL_. */
export class EvenkeelError extends Error {
  constructor(message, code) {
    super(message);
    this.name = 'EvenkeelError';
    this.code = code;
  }

  static [Symbol.hasInstance](value) {
    return value instanceof Error && typeof value.code === 'string' && value.code.startsWith('ERR_EVENKEEL_');
  }
}

const coded = (ErrorClass, code) => (message) => Object.assign(new ErrorClass(message), { code: `ERR_EVENKEEL_${code}` });

export const typeError = coded(TypeError, 'TYPE');
export const rangeError = coded(RangeError, 'RANGE');
export const lengthError = coded(RangeError, 'LENGTH');
export const detachedError = coded(TypeError, 'DETACHED');
export const platformError = coded(Error, 'PLATFORM');

/** By the numbers that the module returns, from -1 down. */
const BY_CLASS = [
  rangeError,
  lengthError,
  coded(RangeError, 'NOT_FINITE'),
  coded(Error, 'PACKET'),
  coded(Error, 'CLOSED'),
  coded(Error, 'CODEC'),
  coded(Error, 'SYSTEM'),
  coded(TypeError, 'TYPE'),
];

export function fault(result, message) {
  return (BY_CLASS[-1 - result] ?? BY_CLASS[6])(message);
}
