'use strict';
// An AudioProcessor that steps down a ladder of quality rather than fail, and says so by events.
const { EventEmitter } = require('node:events');
const { native } = require('./native.js');
const { rangeError, typeError } = require('./error.js');

/** What a rung is called for short: `full/5` is of the mode `full`. */
const modeOf = (rung) => rung.split('/')[0];

/**
 * Frames that the encoder fails at go out on the next rung that carries them. The rung is changed by whoever holds it.
 *
 * Events: `modeChange` ({ from, to, reason }), `fallback` (frames so far that a lower rung carried), `mute` (frames so
 * far that none did), `emergency` (the rung in clear was entered).
 */
class FallbackAudioProcessor extends EventEmitter {
  #native;
  #fallbacks = 0;
  #muted = 0;

  constructor(key, options = {}) {
    super();
    if (options === null || typeof options !== 'object') throw typeError('options must be an object');
    this.#native = new native.AudioProcessor(key, { ...options, adapt: new.target.adapts === true });
  }

  /** As AudioProcessor's. */
  processAudio(samples, header) {
    const packet = this.#native.processAudio(samples, header);
    this.#tell();
    return packet;
  }

  /** As AudioProcessor's. */
  open(packet, iv) {
    return iv === undefined ? this.#native.open(packet) : this.#native.open(packet, iv);
  }

  get rung() {
    return this.#native.rung();
  }

  get rungs() {
    return this.#native.rungs();
  }

  /** `full`, `medium`, `minimal`, `emergency` or `muted`. */
  get mode() {
    return modeOf(this.rung);
  }

  /** Goes to the best rung of a mode, or to a rung by its name. */
  setMode(mode) {
    if (typeof mode !== 'string') throw typeError('a mode is a string');
    const rungs = this.rungs;
    const position = mode === 'muted' ? rungs.length : rungs.findIndex((rung) => rung === mode || modeOf(rung) === mode);
    if (position < 0) throw rangeError(`there is no mode ${mode} here; there are ${rungs.join(', ')} and muted`);
    this.#native.setPosition(position);
    this.#tell();
  }

  /** Lets the encoder fail for so many frames, to rehearse what is heard then. */
  rehearseFailure(frames) {
    this.#native.rehearseFailure(frames);
  }

  getStats() {
    return this.#native.getStats();
  }

  close() {
    return this.#native.close();
  }

  /** For AdaptiveAudioProcessor, below. */
  static observe(processor, ms, nowMs) {
    processor.#native.observe(ms, nowMs);
    processor.#tell();
  }

  #tell() {
    for (const change of this.#native.takeChanges()) {
      this.emit('modeChange', change);
      if (change.to === 'emergency') this.emit('emergency', change);
    }
    // Asked for only where somebody listens, as it costs more than a frame should.
    if (this.listenerCount('fallback') + this.listenerCount('mute') === 0) return;
    const { fallbacks, muted } = this.#native.getStats();
    if (fallbacks > this.#fallbacks) this.emit('fallback', (this.#fallbacks = fallbacks));
    if (muted > this.#muted) this.emit('mute', (this.#muted = muted));
  }
}

const { observe } = FallbackAudioProcessor;
delete FallbackAudioProcessor.observe;

/** Changes the rung by itself: down when frames take too long, up when there is room. */
class AdaptiveAudioProcessor extends FallbackAudioProcessor {
  static adapts = true;

  /**
   * Tells it what a frame took, in milliseconds, where the caller knows more of its way than `processAudio` sees.
   * `nowMs` is the time since any moment, the same one each time; by default since construction.
   */
  observe(ms, nowMs) {
    observe(this, ms, nowMs);
  }
}

module.exports = { FallbackAudioProcessor, AdaptiveAudioProcessor };
