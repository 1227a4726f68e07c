// The package: `load()` gives the classes of one instance of the module; load it twice, and there are two that share nothing.
// Everything but `load` works in an AudioWorklet.
import { EvenkeelError, lengthError, platformError, typeError } from './error.js';
import { Areas, BYTES, ENDS, Module, OUTPUT, SAMPLES, NUMBERS } from './memory.js';
import { bytes, choice, encoderNumbers, flag, jitterNumbers, keyNumbers, number, options, samples, statsRoom, whole } from './options.js';

export { EvenkeelError };

/** What receivers count, in the order of `writeStats`. */
export const RECEIVER_STATS = Object.freeze([
  'opened', 'refused', 'recovered', 'concealed', 'undecodable', 'lost', 'late', 'duplicates', 'underruns',
  'delayMs', 'targetMs', 'meanDelayMs', 'jitterMs',
]);

/** A function that returns a v128, for `WebAssembly.validate` to say whether SIMD is there. */
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

export function hasSimd() {
  return WebAssembly.validate(new Uint8Array(SIMD));
}

/** Where the module lies beside this file that this machine runs best. */
export function moduleUrl(given) {
  const { simd } = options(given);
  if (simd !== undefined && typeof simd !== 'boolean') throw typeError('simd must be true or false');
  return new URL(`./dist/${(simd ?? hasSimd()) ? 'simd' : 'plain'}.wasm`, import.meta.url);
}

/** Loads the module from beside this file and instantiates it. */
export async function load(given) {
  const url = moduleUrl(given);
  if (url.protocol !== 'file:') {
    const answer = await fetch(url);
    if (!answer.ok) throw platformError(`${url.pathname}: ${answer.status} ${answer.statusText}`);
    return compiled(await answer.arrayBuffer());
  }
  const { readFile } = await import('node:fs/promises');
  return compiled(await readFile(url));
}

/** Compiles beside whoever waits, as a page stands still otherwise, and some browsers refuse. */
async function compiled(bytes) {
  const { instance } = await WebAssembly.instantiate(bytes, {});
  return classes(new Module(instance.exports));
}

/** The classes of a new instance of a module, or of the bytes of one. */
export function instantiate(source) {
  const module = source instanceof WebAssembly.Module ? source : new WebAssembly.Module(source);
  return classes(new Module(new WebAssembly.Instance(module, {}).exports));
}

function classes(module) {
  const { exports } = module;

  /** What all classes are: a handle that can be closed, and areas. */
  class Held {
    #handle;
    #areas;
    #silencesNonFinite;

    constructor(handle, nonFinite) {
      this.#silencesNonFinite = choice(nonFinite, 'nonFinite', 'throw', ['throw', 'silence']);
      this.#handle = handle();
      this.#areas = new Areas(module, this.#handle);
    }

    /** Frees its memory. Whether it was open. */
    close() {
      return exports.close(this.#handle) === 1;
    }

    /** A view of an area; valid until the next call that may move it or let the memory grow. */
    _area(area) {
      return this.#areas.of(area);
    }

    _call(name, a, b, c, d) {
      return module.check(exports[name](this.#handle, a, b, c, d));
    }

    _push(count) {
      return module.check(exports.push(this.#handle, count, this.#silencesNonFinite));
    }

    /** Copies samples to where the module reads them: how many. */
    _give(value, name, exact) {
      const [given, room] = [samples(value, name), this._area(SAMPLES)];
      if (given.length > room.length || (exact && given.length !== room.length)) {
        this._call('stats');
        const wanted = exact ? `a frame has ${room.length} samples` : `${room.length} samples are the most`;
        throw lengthError(`${name}: ${wanted} (all channels together), not ${given.length}`);
      }
      if (given instanceof Float32Array) room.set(given);
      else for (let i = 0; i < given.length; i++) room[i] = given[i] / 32_768;
      return given.length;
    }

    _giveBytes(value, name) {
      const [given, room] = [bytes(value, name), this._area(BYTES)];
      // What does not fit is refused by the module, by its length.
      room.set(given.length > room.length ? given.subarray(0, room.length) : given);
      return given.length;
    }

    /** The module's numbers after `stats`, by name. */
    _stats(names) {
      this._call('stats');
      const numbers = module.own.of(NUMBERS);
      return Object.fromEntries(names.map((name, at) => [name, numbers[at]]));
    }
  }

  class AudioProcessor extends Held {
    constructor(key, given) {
      const o = options(given);
      const inputRate = whole(o.inputRate, 'inputRate', 48_000);
      const channels = whole(o.channels, 'channels', 1, 1, 2);
      const [keys, sessionId] = keyNumbers(key, o);
      const numbers = [
        inputRate,
        channels,
        whole(o.codedRate, 'codedRate', 24_000),
        whole(o.codedChannels, 'codedChannels', channels, 1, 2),
        number(o.frameMs, 'frameMs', 20),
        flag(o.pcm, 'pcm'),
        whole(o.timestampStart, 'timestampStart', 1),
        ...keys,
        ...encoderNumbers(o, 'voip', 24_000, 5),
      ];
      super(() => module.create('processor', numbers, key, sessionId), o.nonFinite);
    }

    /** Where `process` reads a frame. */
    get samples() {
      return this._area(SAMPLES);
    }

    /** Where the last packets are, one after the other. */
    get packets() {
      return this._area(BYTES);
    }

    /** Where each of them ends. */
    get packetEnds() {
      return this._area(ENDS);
    }

    /** Sends what stands in `samples`: how many packets there are. */
    process() {
      return this._push(this._area(SAMPLES).length);
    }

    processAudio(frame) {
      this._give(frame, 'samples', true);
      const count = this.process();
      return count === 0 ? null : this.packets.slice(0, this.packetEnds[0]);
    }

    push(part) {
      return this.#taken(this._push(this._give(part, 'samples')));
    }

    flush() {
      return this.#taken(this._call('flush'));
    }

    setPosition(position) {
      this._call('set_position', whole(position, 'position'));
    }

    getStats() {
      return this._stats(['frames', 'packets', 'payloadBytes', 'silent', 'fallbacks', 'muted', 'silencedSamples']);
    }

    #taken(count) {
      const [all, ends] = [this.packets, this.packetEnds];
      return Array.from({ length: count }, (_, i) => all.slice(i ? ends[i - 1] : 0, ends[i]));
    }
  }

  /** What receivers are: packets go in by the one or the other way, and audio comes out. */
  class Receiving extends Held {
    #channels;

    constructor(handle, channels) {
      super(handle);
      this.#channels = channels;
    }

    /** Where `receiveBytes` reads a packet. */
    get packet() {
      return this._area(BYTES);
    }

    /** Where `pullSamples` writes. */
    get samples() {
      return this._area(SAMPLES);
    }

    /** Writes the next stretch to `samples`: how many, all channels together. */
    pullSamples(nowMs) {
      return this._call('pull', number(nowMs, 'nowMs')) * this.#channels;
    }

    pull(nowMs) {
      const count = this.pullSamples(nowMs);
      return this.samples.slice(0, count);
    }

    pause() {
      this._call('pause');
    }

    getStats() {
      return this._stats(RECEIVER_STATS);
    }

    /** Writes what it counted to the start of `numbers`. */
    writeStats(numbers) {
      const room = statsRoom(numbers, RECEIVER_STATS.length);
      this._call('stats');
      room.set(module.numbers(RECEIVER_STATS.length));
    }
  }

  class AudioReceiver extends Receiving {
    constructor(key, given) {
      const o = options(given);
      const channels = whole(o.channels, 'channels', 1, 1, 2);
      const [keys, sessionId] = keyNumbers(key, o);
      const [outputRate, decodedRate, ...jitter] = jitterNumbers(o);
      const numbers = [outputRate, channels, decodedRate, 0, 0, flag(o.pcm, 'pcm'), 0, ...keys, ...jitter];
      super(() => module.create('receiver', numbers, key, sessionId), channels);
    }

    /** Takes the packet in the first bytes of `packet`: whether it is new and in time. */
    receiveBytes(length, nowMs) {
      return this._call('receive', whole(length, 'length'), number(nowMs, 'nowMs')) === 1;
    }

    receive(packet, nowMs) {
      return this.receiveBytes(this._giveBytes(packet, 'packet'), nowMs);
    }
  }

  class OpusReceiver extends Receiving {
    constructor(given) {
      const o = options(given);
      const channels = whole(o.channels, 'channels', 1, 1, 2);
      const [outputRate, decodedRate, ...jitter] = jitterNumbers(o);
      const numbers = [outputRate, channels, decodedRate, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...jitter];
      super(() => module.create('opus_receiver', numbers), channels);
    }

    /** Takes the Opus packet in the first bytes of `packet`: whether it is new and in time. */
    receiveBytes(length, sequence, timestamp, nowMs) {
      whole(length, 'length');
      whole(sequence, 'sequence');
      whole(timestamp, 'timestamp');
      return this._call('receive_opus', length, sequence, timestamp, number(nowMs, 'nowMs')) === 1;
    }

    receive(packet, sequence, timestamp, nowMs) {
      return this.receiveBytes(this._giveBytes(packet, 'packet'), sequence, timestamp, nowMs);
    }
  }

  class OpusEncoder extends Held {
    constructor(rate, channels, given) {
      const o = options(given);
      const [hz, count] = [whole(rate, 'rate'), whole(channels, 'channels')];
      const numbers = [hz, count, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...encoderNumbers(o, 'audio', 60 * 50 + hz * count, 9)];
      super(() => module.create('encoder', numbers), o.nonFinite);
    }

    /** Where `encodeSamples` reads a frame. */
    get samples() {
      return this._area(SAMPLES);
    }

    /** Where the last packet begins. */
    get packet() {
      return this._area(BYTES);
    }

    /** Codes the first so many of `samples`, all channels together: the bytes of the packet. */
    encodeSamples(count) {
      return this._push(whole(count, 'count'));
    }

    encode(frame) {
      const length = this._push(this._give(frame, 'frame'));
      return this.packet.slice(0, length);
    }

    lookahead() {
      return this._stats(['lookahead']).lookahead;
    }

    reset() {
      this._call('reset');
    }
  }

  class OpusDecoder extends Held {
    #channels;

    constructor(rate, channels) {
      const numbers = [whole(rate, 'rate'), whole(channels, 'channels')];
      super(() => module.create('decoder', numbers));
      this.#channels = numbers[1];
    }

    /** Where `decodeBytes` reads a packet. */
    get packet() {
      return this._area(BYTES);
    }

    /** Where it writes. */
    get samples() {
      return this._area(SAMPLES);
    }

    /** Decodes the first bytes of `packet`: how many samples, all channels together. */
    decodeBytes(length) {
      return this._call('decode', whole(length, 'length')) * this.#channels;
    }

    decode(packet) {
      const count = this.decodeBytes(this._giveBytes(packet, 'packet'));
      return this.samples.slice(0, count);
    }

    decodeFec(packet, ms) {
      const count = this._call('decode_fec', this._giveBytes(packet, 'packet'), number(ms, 'ms')) * this.#channels;
      return this.samples.slice(0, count);
    }

    conceal(ms) {
      const count = this._call('conceal', number(ms, 'ms')) * this.#channels;
      return this.samples.slice(0, count);
    }

    reset() {
      this._call('reset');
    }
  }

  class Resampler extends Held {
    constructor(from, to, given) {
      const o = options(given);
      const numbers = [whole(from, 'from'), whole(to, 'to'), whole(o.channels, 'channels', 1), flag(o.aligned, 'aligned')];
      super(() => module.create('resampler', numbers), o.nonFinite);
    }

    /** Where `pushSamples` reads. */
    get samples() {
      return this._area(SAMPLES);
    }

    /** Where it writes. */
    get output() {
      return this._area(OUTPUT);
    }

    /** Resamples the first so many of `samples`, all channels together: how many it gives. */
    pushSamples(count) {
      return this._push(whole(count, 'count'));
    }

    push(part) {
      const count = this._push(this._give(part, 'samples'));
      return this.output.slice(0, count);
    }

    flush() {
      const count = this._call('flush');
      return this.output.slice(0, count);
    }

    delay() {
      return this._stats(['delay']).delay;
    }
  }

  return { AudioProcessor, AudioReceiver, OpusReceiver, OpusEncoder, OpusDecoder, Resampler, memory: exports.memory };
}
