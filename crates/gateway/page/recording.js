// What was heard, kept as it played, for a WAV file.

/** What is kept at most, in seconds; the oldest goes. */
export const KEPT_SECONDS = 600;

const BLOCK_SECONDS = 10;

export class Recording {
  #rate;
  #channels;
  #full = [];
  #open;
  #filled = 0;

  constructor(rate, channels) {
    this.#rate = rate;
    this.#channels = channels;
    this.#open = this.#block();
  }

  /** Keeps samples, interleaved. */
  add(samples) {
    let at = 0;
    while (at < samples.length) {
      const count = Math.min(samples.length - at, this.#open.length - this.#filled);
      this.#open.set(samples.subarray(at, at + count), this.#filled);
      this.#filled += count;
      at += count;
      if (this.#filled === this.#open.length) this.#begin();
    }
  }

  get #samples() {
    return this.#full.length * this.#open.length + this.#filled;
  }

  /** A WAV file, 16 bits. */
  toWav() {
    const bytes = 2 * this.#samples;
    const header = new DataView(new ArrayBuffer(44));
    const text = (at, letters) => [...letters].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
    const frame = 2 * this.#channels;
    text(0, 'RIFF');
    header.setUint32(4, 36 + bytes, true);
    text(8, 'WAVEfmt ');
    header.setUint32(16, 16, true);
    header.setUint16(20, 1, true);
    header.setUint16(22, this.#channels, true);
    header.setUint32(24, this.#rate, true);
    header.setUint32(28, this.#rate * frame, true);
    header.setUint16(32, frame, true);
    header.setUint16(34, 16, true);
    text(36, 'data');
    header.setUint32(40, bytes, true);
    return new Blob([header, ...this.#full, this.#open.subarray(0, this.#filled)], { type: 'audio/wav' });
  }

  #begin() {
    this.#full.push(this.#open);
    if (this.#full.length > KEPT_SECONDS / BLOCK_SECONDS) this.#full.shift();
    this.#open = this.#block();
    this.#filled = 0;
  }

  #block() {
    return new Int16Array(BLOCK_SECONDS * this.#rate * this.#channels);
  }
}
