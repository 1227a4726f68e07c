// What the page, the Worker with the connection and the audio worklet share: memory, so that no message is sent for a packet or a
// figure. Each part has one writer and one reader, and nothing here allocates once it was made.

/** Words of the state, by their places. */
export const SENDING = 0; // 1 while the microphone is coded and sent
export const BELL = 1; // goes up, and wakes who waits, when there may be something for the Worker
export const LEVEL_IN = 2; // the loudest sample since somebody looked, to 32767
export const LEVEL_OUT = 3;
export const UNSENT = 4; // packets of the microphone for which there was no place
export const PAUSES = 5; // how often the gateway said that its reply is over
export const UNHEARD = 6; // packets of the gateway for which there was no place
const WORDS = 16;

/** Room for the figures of a receiver. */
export const FIGURES = 16;

/** The longest Opus packet that comes, and the longest of a microphone. */
const LONGEST_DOWN = 1472;
const LONGEST_UP = 512;

/** A new memory for one call; `channels` is how many are recorded. */
export function allocate(rate, channels) {
  const shared = (bytes) => new SharedArrayBuffer(bytes);
  return {
    state: shared(4 * WORDS),
    figures: shared(8 * FIGURES),
    // 1.28 s of 20 ms, and 2.56 s of 20 ms: who stood still for longer has nothing to gain from more.
    up: shared(PacketRing.size(64, LONGEST_UP)),
    down: shared(PacketRing.size(128, LONGEST_DOWN)),
    recorded: shared(SampleRing.size(4 * rate * channels)),
  };
}

/** Packets from one thread to another, in places of one size. */
export class PacketRing {
  #heads;
  #numbers;
  #bytes;
  #places;
  #room;

  static size(places, room) {
    return 16 + places * (12 + room);
  }

  constructor(buffer, room) {
    this.#room = room;
    this.#places = (buffer.byteLength - 16) / (12 + room);
    this.#heads = new Int32Array(buffer, 0, 2);
    this.#numbers = new Int32Array(buffer, 16, 3 * this.#places);
    this.#bytes = new Uint8Array(buffer, 16 + 12 * this.#places);
  }

  static up({ up }) {
    return new PacketRing(up, LONGEST_UP);
  }

  static down({ down }) {
    return new PacketRing(down, LONGEST_DOWN);
  }

  /** Puts the first `length` of `bytes` in, with two numbers. `false` if there is no place, or it is too long. */
  push(bytes, length, sequence, timestamp) {
    const written = this.#heads[1];
    const isFull = ((written - Atomics.load(this.#heads, 0)) | 0) >= this.#places;
    if (isFull || length > this.#room) return false;
    const place = this.#at(written);
    this.#numbers[3 * place] = length;
    this.#numbers[3 * place + 1] = sequence;
    this.#numbers[3 * place + 2] = timestamp;
    const from = place * this.#room;
    for (let i = 0; i < length; i++) this.#bytes[from + i] = bytes[i];
    Atomics.store(this.#heads, 1, (written + 1) | 0);
    return true;
  }

  /** The length of the packet that is next; -1 if there is none. */
  get length() {
    return Atomics.load(this.#heads, 1) === this.#heads[0] ? -1 : this.#numbers[3 * this.#at(this.#heads[0])];
  }

  get sequence() {
    return this.#numbers[3 * this.#at(this.#heads[0]) + 1] >>> 0;
  }

  get timestamp() {
    return this.#numbers[3 * this.#at(this.#heads[0]) + 2] >>> 0;
  }

  /** Writes the next packet to the start of `bytes`, and gives its place back. */
  take(bytes) {
    const length = this.length;
    const from = this.#at(this.#heads[0]) * this.#room;
    for (let i = 0; i < length; i++) bytes[i] = this.#bytes[from + i];
    if (length >= 0) Atomics.store(this.#heads, 0, (this.#heads[0] + 1) | 0);
    return length;
  }

  /** `head` goes on through all whole numbers, those below zero too; the number of places is a power of two. */
  #at(head) {
    return head & (this.#places - 1);
  }
}

/** 16-bit samples from one thread to another. */
export class SampleRing {
  #heads;
  #samples;

  static size(samples) {
    return 16 + 2 * 2 ** Math.ceil(Math.log2(samples));
  }

  constructor({ recorded }) {
    this.#heads = new Int32Array(recorded, 0, 2);
    this.#samples = new Int16Array(recorded, 16);
  }

  /** Puts samples of -1 to 1 in; of two channels, one sample of each in turn. What there is no place for is left out. */
  push(samples, others) {
    const channels = others === undefined ? 1 : 2;
    const written = this.#heads[1];
    const held = (written - Atomics.load(this.#heads, 0)) | 0;
    if (held + channels * samples.length > this.#samples.length) return;
    for (let i = 0; i < samples.length; i++) {
      this.#put(written + channels * i, samples[i]);
      if (channels === 2) this.#put(written + channels * i + 1, others[i]);
    }
    Atomics.store(this.#heads, 1, (written + channels * samples.length) | 0);
  }

  /** All samples that are there. */
  take() {
    const [read, written] = [this.#heads[0], Atomics.load(this.#heads, 1)];
    const out = new Int16Array((written - read) | 0);
    for (let i = 0; i < out.length; i++) out[i] = this.#samples[(read + i) & (this.#samples.length - 1)];
    Atomics.store(this.#heads, 0, written);
    return out;
  }

  #put(at, sample) {
    const whole = Math.round(sample * 32_768);
    this.#samples[at & (this.#samples.length - 1)] = whole > 32_767 ? 32_767 : whole < -32_768 ? -32_768 : whole;
  }
}
