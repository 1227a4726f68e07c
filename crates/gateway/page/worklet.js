// The audio worklet: a thin shell around the audio path, which does all the work (audio.js).
import { instantiate } from '../wasm/index.js';
import { AudioPath } from './audio.js';

/**
 * Of the one instance that all calls share: a worklet that leaves no garbage is seldom collected, and instances are large. After an
 * error nobody knows what the instance holds, so the next call has another one.
 */
let classes = null;

class Evenkeel extends AudioWorkletProcessor {
  #path;

  constructor({ processorOptions: { module, shared, both } }) {
    super();
    try {
      this.#path = new AudioPath((classes ??= instantiate(module)), sampleRate, shared, both);
    } catch (error) {
      classes = null;
      throw error;
    }
    // Whatever is said to it: the call is over.
    this.port.onmessage = () => {
      this.#path?.close();
      this.#path = null;
    };
  }

  process(inputs, outputs) {
    if (this.#path === null) return false;
    try {
      this.#path.process(inputs[0][0], outputs[0][0]);
    } catch (error) {
      this.#path = classes = null;
      throw error;
    }
    return true;
  }
}

registerProcessor('evenkeel', Evenkeel);
