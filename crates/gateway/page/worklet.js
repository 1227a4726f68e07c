// The audio worklet: a thin shell around the audio path, which does all the work (audio.js).
import { instantiate } from '../wasm/index.js';
import { AudioPath } from './audio.js';

/** Of the one instance that all calls share: a worklet that leaves no garbage is seldom collected, and instances are large. */
let classes = null;

class Evenkeel extends AudioWorkletProcessor {
  #path;

  constructor({ processorOptions: { module, shared, both } }) {
    super();
    classes ??= instantiate(module);
    this.#path = new AudioPath(classes, sampleRate, shared, both);
    // Whatever is said to it: the call is over.
    this.port.onmessage = () => {
      this.#path.close();
      this.#path = null;
    };
  }

  process(inputs, outputs) {
    if (this.#path === null) return false;
    this.#path.process(inputs[0][0], outputs[0][0]);
    return true;
  }
}

registerProcessor('evenkeel', Evenkeel);
