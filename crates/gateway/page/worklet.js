// The audio worklet: a thin shell around the audio path, which does all the work (audio.js).
import { instantiate } from '../wasm/index.js';
import { AudioPath } from './audio.js';
import { ENDED } from './shared.js';

class Evenkeel extends AudioWorkletProcessor {
  #path;
  #state;

  constructor({ processorOptions: { module, shared, both } }) {
    super();
    this.#path = new AudioPath(instantiate(module), sampleRate, shared, both);
    this.#state = new Int32Array(shared.state);
  }

  process(inputs, outputs) {
    this.#path.process(inputs[0][0], outputs[0][0]);
    return Atomics.load(this.#state, ENDED) === 0;
  }
}

registerProcessor('evenkeel', Evenkeel);
