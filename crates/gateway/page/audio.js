// What happens to audio in the worklet, where no message comes and nothing may be left for the garbage collector: the microphone is
// resampled and coded, what came is put in order, decoded and concealed, and both are metered and recorded.
import { BELL, FIGURES, LEVEL_IN, LEVEL_OUT, PAUSES, PacketRing, SENDING, SampleRing, UNSENT } from './shared.js';

/** What is sent: wide enough for a voice and its breath, in packets of 20 ms. */
export const CODED_RATE = 24_000;
export const FRAME_MS = 20;
const FRAME = (CODED_RATE * FRAME_MS) / 1000;
const CODING = { application: 'voip', signal: 'voice', bitrate: 32_000, complexity: 5, nonFinite: 'silence' };

/** What is heard: decoded at the rate of Opus itself. */
const DECODED_RATE = 48_000;

/** How often the Worker is woken and figures are written at least, in ms. */
const BELL_MS = 20;

/** Samples that a worklet is given at once. */
const QUANTUM = 128;

/** One call's audio. `process` takes and gives samples at `rate`; `both` records what goes in beside what comes out. */
export class AudioPath {
  #state;
  #rate;
  #both;
  // Up.
  #resampler;
  #encoder;
  #up;
  #filled = 0;
  #wasSending = 0;
  // Down.
  #receiver;
  #down;
  #stretch = 0;
  #played = 0;
  #pauses = 0;
  // Both.
  #figures;
  #recorded;
  #silence = new Float32Array(QUANTUM);
  #ms = 0;
  #rest = 0;
  #sinceBell = 0;

  constructor({ OpusEncoder, OpusReceiver, Resampler }, rate, shared, both = false) {
    this.#state = new Int32Array(shared.state);
    this.#rate = rate;
    this.#both = both;
    this.#resampler = rate === CODED_RATE ? null : new Resampler(rate, CODED_RATE, { nonFinite: 'silence' });
    this.#encoder = new OpusEncoder(CODED_RATE, 1, CODING);
    this.#up = PacketRing.up(shared);
    // The gateway counts media time in ms.
    this.#receiver = new OpusReceiver({ outputRate: rate, decodedRate: DECODED_RATE, timestampHz: 1000 });
    this.#down = PacketRing.down(shared);
    this.#figures = new Float64Array(shared.figures, 0, FIGURES);
    this.#recorded = new SampleRing(shared);
  }

  /** `given` is what the microphone gave, or nothing where there is none; `output` is filled. */
  process(given, output) {
    const input = given === undefined ? this.#silence : given;
    this.#hear(input, output.length);
    this.#play(output);
    if (this.#both) this.#recorded.push(input, output);
    else this.#recorded.push(output);
    this.#pass(output.length);
  }

  /** Frees what it holds of the module's memory. */
  close() {
    for (const part of [this.#resampler, this.#encoder, this.#receiver]) part?.close();
  }

  #hear(input, count) {
    const room = this.#resampler === null ? this.#encoder.samples : this.#resampler.samples;
    const at = this.#resampler === null ? this.#filled : 0;
    let loudest = 0;
    for (let i = 0; i < count; i++) {
      const sample = input[i];
      room[at + i] = sample;
      loudest = Math.max(loudest, Math.abs(sample));
    }
    this.#meter(LEVEL_IN, loudest);
    if (this.#resampler === null) this.#filled += count;
    else this.#resample(count);
    const isSending = Atomics.load(this.#state, SENDING);
    if (isSending > this.#wasSending) this.#encoder.reset();
    this.#wasSending = isSending;
    if (this.#filled >= FRAME) this.#send(isSending === 1);
  }

  /** From the resampler's input to behind what the encoder has already. */
  #resample(count) {
    const given = this.#resampler.pushSamples(count);
    const from = this.#resampler.output;
    const to = this.#encoder.samples;
    for (let i = 0; i < given; i++) to[this.#filled + i] = from[i];
    this.#filled += given;
  }

  #send(isSending) {
    if (isSending) {
      const length = this.#encoder.encodeSamples(FRAME);
      if (!this.#up.push(this.#encoder.packet, length, 0, 0)) Atomics.add(this.#state, UNSENT, 1);
      // It waits for nothing.
      this.#sinceBell = BELL_MS;
    }
    this.#filled -= FRAME;
    const samples = this.#encoder.samples;
    for (let i = 0; i < this.#filled; i++) samples[i] = samples[FRAME + i];
  }

  #play(output) {
    this.#receive();
    let samples = this.#receiver.samples;
    let loudest = 0;
    for (let i = 0; i < output.length; i++) {
      if (this.#played === this.#stretch) {
        this.#stretch = this.#receiver.pullSamples(this.#ms);
        this.#played = 0;
        samples = this.#receiver.samples;
      }
      const sample = samples[this.#played++];
      output[i] = sample;
      loudest = Math.max(loudest, Math.abs(sample));
    }
    this.#meter(LEVEL_OUT, loudest);
  }

  #receive() {
    // Before the packets are looked at: those that came before the pause was announced are there then.
    const pauses = Atomics.load(this.#state, PAUSES);
    while (this.#down.length >= 0) {
      const sequence = this.#down.sequence;
      const timestamp = this.#down.timestamp;
      const length = this.#down.take(this.#receiver.packet);
      try {
        this.#receiver.receiveBytes(length, sequence, timestamp, this.#ms);
      } catch {
        // It counts what it refused.
      }
    }
    if (pauses !== this.#pauses) this.#receiver.pause();
    this.#pauses = pauses;
  }

  #meter(place, loudest) {
    // An integer to the compiler too, which would box another number to store it.
    const level = Math.round(Math.min(loudest, 1) * 32_767) | 0;
    if (level > Atomics.load(this.#state, place)) Atomics.store(this.#state, place, level);
  }

  /** Time passes, in whole numbers, as others would be garbage. */
  #pass(samples) {
    this.#rest += samples * 1000;
    while (this.#rest >= this.#rate) {
      this.#rest -= this.#rate;
      this.#ms++;
      this.#sinceBell++;
    }
    if (this.#sinceBell < BELL_MS) return;
    this.#sinceBell = 0;
    this.#receiver.writeStats(this.#figures);
    Atomics.add(this.#state, BELL, 1);
    Atomics.notify(this.#state, BELL);
  }
}
