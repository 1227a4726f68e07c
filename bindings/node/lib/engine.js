'use strict';
// The engine as JavaScript holds it: frames go to lanes, packets come back in batches and find their streams.
const { native } = require('./native.js');
const { EvenkeelError, functionOption, numberOption } = require('./error.js');
const { createTransform } = require('./transform.js');

/** Numbers a packet has in a batch: stream, ticket, bytes, end of push, and five that `Packet` names. */
const NUMBERS = 9;

/** How long `process` waits where it is not told, in milliseconds. */
const LIMIT_MS = 50;

/** Batches taken in one turn of the event loop. */
const MAX_TURNS = 4;

/** How long the process is kept alive for frames under way, in milliseconds: in steps, and at most. */
const HOLD_MS = 100;
const HOLD_MOST_MS = 1000;

// What engine and stream call of each other, and nobody else.
const take = Symbol('take');
const isBusy = Symbol('isBusy');
const hold = Symbol('hold');
const forget = Symbol('forget');
const drain = Symbol('drain');

/** A sealed packet that left its lane. */
class Packet {
  constructor(data, sequence, timestamp, mediaMs, latencyMs, departureErrorMs) {
    this.data = data;
    this.sequence = sequence;
    this.timestamp = timestamp;
    this.mediaMs = mediaMs;
    this.latencyMs = latencyMs;
    this.departureErrorMs = departureErrorMs;
  }
}

class Engine {
  #native;
  #streams = new Map();
  #gone = new FinalizationRegistry((id) => this.#streams.delete(id));
  #busy = new Set();
  #timer;
  #written = 0;

  constructor(options) {
    // What native code holds must not hold the engine, or neither would ever be collected.
    const self = new WeakRef(this);
    this.#native = new native.NativeEngine(options, () => self.deref()?.[drain]());
    this[drain]();
  }

  /** The same engine, in another thread of JavaScript: `token` is what its `token` said. */
  static attach(token, options) {
    if (typeof token !== 'number' || !(token > 0)) {
      throw new EvenkeelError('an engine is attached by the token of one', 'ERR_EVENKEEL_CLOSED');
    }
    return new Engine({ ...options, token });
  }

  get token() {
    return this.#native.token();
  }

  open(options) {
    // A copy, so that accessors among the options run here, and not while native code reads them.
    const own = typeof options === 'object' && options !== null ? { ...options } : options;
    const opened = new EngineStream(this, (checked) => this.#native.open(checked), own);
    this.#streams.set(opened.id, new WeakRef(opened));
    this.#gone.register(opened, opened.id, opened);
    return opened;
  }

  getStats() {
    return this.#native.getStats();
  }

  prometheus() {
    return this.#native.prometheus();
  }

  /** Closes its streams and leaves the lanes, which end when nobody holds them any more. */
  close() {
    for (const stream of [...this.#streams.values()]) stream.deref()?.close();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    return this.#native.close();
  }

  [Symbol.dispose ?? Symbol.for('nodejs.dispose')]() {
    this.close();
  }

  /** Takes what came, and hands it to the streams it belongs to. */
  [drain]() {
    for (let turn = 0; turn < MAX_TURNS; turn++) {
      const batch = this.#native.drain();
      if (batch === null) return;
      this.#hand(batch);
    }
    // The rest of the event loop gets its turn.
    setImmediate(() => this[drain]());
  }

  #hand({ data, numbers }) {
    let at = 0;
    for (let i = 0; i < numbers.length; i += NUMBERS) {
      const end = at + numbers[i + 2];
      const stream = this.#streams.get(numbers[i])?.deref();
      if (stream !== undefined) {
        const packet =
          end === at
            ? null
            : new Packet(
                data.subarray(at, end),
                numbers[i + 4],
                numbers[i + 5],
                numbers[i + 6],
                numbers[i + 7],
                numbers[i + 8],
              );
        stream[take](numbers[i + 1], packet, numbers[i + 3] === 1);
      }
      at = end;
    }
  }

  /** Keeps a stream, and with it the process, until what was written has come back. */
  [hold](stream) {
    this.#busy.add(stream);
    this.#written = performance.now();
    this.#timer ??= setTimeout(() => this.#release(), HOLD_MS);
  }

  #release() {
    this.#timer = undefined;
    for (const stream of this.#busy) if (!stream[isBusy]()) this.#busy.delete(stream);
    if (performance.now() - this.#written > HOLD_MOST_MS) this.#busy.clear();
    if (this.#busy.size > 0) this.#timer = setTimeout(() => this.#release(), HOLD_MS);
  }

  [forget](stream) {
    this.#streams.delete(stream.id);
    this.#busy.delete(stream);
    this.#gone.unregister(stream);
  }
}

class EngineStream {
  #engine;
  #native;
  #onPacket;
  #limitMs;
  #capacity;
  /** Calls of `process` by ticket. */
  #asked = new Map();
  /** Packets for an iterator, and iterators for packets; one of the two is empty. */
  #packets = [];
  #readers = [];
  #dropped = 0;
  #written = 0;
  #answered = 0;
  #isClosed = false;
  #shape;

  constructor(engine, open, options) {
    if (!(engine instanceof Engine)) {
      throw new EvenkeelError('streams are opened by an engine', 'ERR_EVENKEEL_TYPE');
    }
    this.#engine = engine;
    this.#onPacket = functionOption(options?.onPacket, 'onPacket');
    this.#limitMs = numberOption(options?.limitMs, 'limitMs', LIMIT_MS, 1, 60_000);
    this.#capacity = numberOption(options?.highWaterMark, 'highWaterMark', 64, 1, 65_536);
    this.#native = open(options);
    this.id = this.#native.id();
    this.connectionId = this.#native.connectionId();
    this.phaseMs = this.#native.phase();
    // What was checked just now, for `transform`.
    const { frameMs = 20, leadMs = 2, inputRate = 48_000, channels = 1, format = 'f32', relay = false } = options;
    this.frameMs = frameMs;
    this.#shape = { leadMs, format, relay, frameSamples: ((inputRate * frameMs) / 1000) * channels };
  }

  get onPacket() {
    return this.#onPacket;
  }

  set onPacket(callback) {
    this.#onPacket = functionOption(callback, 'onPacket');
    while (this.#onPacket !== undefined && this.#packets.length > 0) this.#give(this.#packets.shift());
  }

  get isClosed() {
    return this.#isClosed;
  }

  /** Hands a frame to its lane. Never waits; where the queue is full, the oldest frame in it is dropped. */
  write(frame) {
    const ticket = this.#native.write(frame);
    this.#written = ticket;
    this.#engine[hold](this);
    return ticket;
  }

  /** Hands a frame to its lane, and waits for what becomes of it. */
  process(frame, limitMs = this.#limitMs) {
    return new Promise((resolve, reject) => {
      const limit = numberOption(limitMs, 'limitMs', this.#limitMs, 1, 60_000);
      const ticket = this.write(frame);
      const timer = setTimeout(() => this.#expire(ticket, limit), limit);
      this.#asked.set(ticket, { resolve, reject, timer, packets: [] });
    });
  }

  /** Packets as they come, for `for await`. Ends when the stream is closed. */
  async *[Symbol.asyncIterator]() {
    for (;;) {
      const packet = await this.#next();
      if (packet === undefined) return;
      yield packet;
    }
  }

  /** A Transform from PCM to datagrams, for `stream.pipeline`. Closes this stream when it ends. */
  transform() {
    return createTransform(this, this.#shape);
  }

  getStats() {
    return { ...this.#native.getStats(), unread: this.#packets.length, unreadDropped: this.#dropped };
  }

  /** Closes it: what is under way is dropped, who waits is told. Whether it was open. */
  close() {
    if (this.#isClosed) return false;
    this.#isClosed = true;
    this.#native.close();
    this.#engine[forget](this);
    for (const { reject, timer } of this.#asked.values()) {
      clearTimeout(timer);
      reject(new EvenkeelError('the stream was closed before the packet came', 'ERR_EVENKEEL_CLOSED'));
    }
    this.#asked.clear();
    for (const reader of this.#readers.splice(0)) reader(undefined);
    return true;
  }

  [Symbol.dispose ?? Symbol.for('nodejs.dispose')]() {
    this.close();
  }

  [take](ticket, packet, endsPush) {
    if (endsPush) this.#answered = ticket;
    const asked = this.#asked.get(ticket);
    if (asked === undefined) {
      if (packet !== null) this.#give(packet);
      return;
    }
    if (packet !== null) asked.packets.push(packet);
    if (!endsPush) return;
    this.#asked.delete(ticket);
    clearTimeout(asked.timer);
    asked.resolve(asked.packets);
  }

  [isBusy]() {
    return this.#answered < this.#written;
  }

  #give(packet) {
    if (this.#onPacket !== undefined) {
      try {
        this.#onPacket(packet);
      } catch (error) {
        // It is the callback's own, as from any listener of Node's; the packets of others go on.
        process.nextTick(() => {
          throw error;
        });
      }
      return;
    }
    const reader = this.#readers.shift();
    if (reader !== undefined) return void reader(packet);
    if (this.#packets.length >= this.#capacity) {
      this.#packets.shift();
      this.#dropped++;
    }
    this.#packets.push(packet);
  }

  #next() {
    if (this.#packets.length > 0) return this.#packets.shift();
    if (this.#isClosed) return undefined;
    return new Promise((resolve) => this.#readers.push(resolve));
  }

  #expire(ticket, limit) {
    // The event loop may have been busy while the packet came.
    this.#engine[drain]();
    const asked = this.#asked.get(ticket);
    if (asked === undefined) return;
    this.#asked.delete(ticket);
    asked.reject(new EvenkeelError(`no packet within ${limit} ms: the engine is overloaded`, 'ERR_EVENKEEL_TIMEOUT'));
  }
}

module.exports = { Engine, EngineStream, Packet };
