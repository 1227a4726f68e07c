// A call as the page holds it: the audio context, the microphone or a recording in its place, the worklet, and the Worker's line.
import { moduleUrl } from '../wasm/index.js';
import { CODED_RATE, FRAME_MS } from './audio.js';
import { FIGURES, LEVEL_IN, LEVEL_OUT, UNSENT, allocate } from './shared.js';

/** Rates that the worklet resamples from and to; another one is left to the browser. */
const RATES = [8000, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];

const LINE = new Worker(new URL('./line.js', import.meta.url), { type: 'module' });

/** The audio context of all calls, and what its worklet needs: the bytes of the module. It rests between calls. */
let context = null;
let prepared = null;

/** To be called while a click or key is being handled, or some browsers let nothing be heard. */
function wake() {
  if (context === null || context.state === 'closed') {
    prepared = null;
    context = new AudioContext({ latencyHint: 'interactive' });
    if (!RATES.includes(context.sampleRate)) {
      context.close();
      context = new AudioContext({ latencyHint: 'interactive', sampleRate: 48_000 });
    }
  }
  // Also one that runs: it may just have been told to rest.
  context.resume().catch(() => {});
}

/** Loads what there is to load; what failed is tried again the next time. */
async function prepare() {
  const bytes = async () => {
    const answer = await fetch(moduleUrl());
    if (!answer.ok) throw new Error(`the audio module is not there: ${answer.status}`);
    return answer.arrayBuffer();
  };
  prepared ??= Promise.all([bytes(), context.audioWorklet.addModule(new URL('./worklet.js', import.meta.url))]);
  try {
    const [module] = await prepared;
    return module;
  } catch (error) {
    prepared = null;
    throw error;
  }
}

/** Says `wish` to the Worker. */
function wish(name, more) {
  LINE.postMessage({ ...more, wish: name });
}

/** A WAV file of what was heard in this call or the last one; `null` if there was none. */
export function recorded() {
  return new Promise((resolve) => {
    const take = ({ data }) => {
      if (data.what !== 'recording') return;
      LINE.removeEventListener('message', take);
      resolve(data.wav);
    };
    LINE.addEventListener('message', take);
    wish('recording');
  });
}

/** How many calls there were. */
let calls = 0;

/**
 * `told(what, more)` is told what the Worker tells, and `microphoneGone` and `failed`. In order: `prepare`, then `openMicrophone` or
 * `decode` a recording, then `connect`; it is over when `ended` was told or `abandon` was called.
 */
export class Call {
  #id = ++calls;
  #node;
  #shared;
  #state;
  #figures;
  #microphone = null;
  #recording = null;
  #told;
  #both;
  #onChange = () => context.state !== 'running' && wake();
  isOver = false;

  /** To be made while a click or key is being handled. */
  constructor(told, both) {
    this.#told = told;
    this.#both = both;
    wake();
    this.#shared = allocate(context.sampleRate, both ? 2 : 1);
    this.#state = new Int32Array(this.#shared.state);
    this.#figures = new Float64Array(this.#shared.figures, 0, FIGURES);
  }

  /** Loads what the worklet needs, and begins to listen to nothing. */
  async prepare() {
    const module = await prepare();
    if (this.isOver) return;
    this.#node = new AudioWorkletNode(context, 'evenkeel', {
      outputChannelCount: [1],
      channelCount: 1,
      channelCountMode: 'explicit',
      processorOptions: { module, shared: this.#shared, both: this.#both },
    });
    this.#node.onprocessorerror = () => this.#told('failed');
    this.#node.connect(context.destination);
    // Phones stop audio when another program speaks, or the page is left: it goes on when they let it.
    context.addEventListener('statechange', this.#onChange);
    document.addEventListener('visibilitychange', this.#onChange);
  }

  connect(options) {
    LINE.onmessage = ({ data }) => this.#take(data);
    // As where Workers cannot be modules.
    LINE.onerror = () => this.#told('failed');
    const [shared, rate] = [this.#shared, context.sampleRate];
    wish('start', { ...options, id: this.#id, shared, rate, both: this.#both, codedRate: CODED_RATE, frameMs: FRAME_MS });
  }

  /** Opens the microphone; fails with what the browser says. */
  async openMicrophone({ echoCancellation, noiseSuppression }) {
    const audio = { echoCancellation, noiseSuppression, autoGainControl: noiseSuppression, channelCount: 1 };
    const stream = await navigator.mediaDevices.getUserMedia({ audio });
    if (this.isOver) return stop(stream);
    this.#microphone = { stream, node: context.createMediaStreamSource(stream) };
    stream.getAudioTracks()[0].onended = () => this.#told('microphoneGone');
    this.#microphone.node.connect(this.#node);
  }

  get hasMicrophone() {
    return this.#microphone !== null;
  }

  /** Reads a file; fails if it is no recording. */
  async decode(file) {
    return context.decodeAudioData(await file.arrayBuffer());
  }

  /** Plays a recording in the microphone's place. Resolves when it has ended. */
  async play(buffer) {
    this.#recording?.stop();
    const source = context.createBufferSource();
    source.buffer = buffer;
    this.#recording = source;
    this.#microphone?.node.disconnect();
    source.connect(this.#node);
    await new Promise((resolve) => {
      source.onended = resolve;
      source.start();
    });
    source.disconnect();
    if (this.#recording !== source) return;
    this.#recording = null;
    if (!this.isOver) this.#microphone?.node.connect(this.#node);
  }

  setMode(mode) {
    wish('mode', { mode });
  }

  press() {
    wish('press');
  }

  release() {
    wish('release');
  }

  interrupt() {
    wish('interrupt');
  }

  hangUp() {
    wish('stop');
  }

  /** What the receiver counted, in the order of RECEIVER_STATS; and the packets that could not be sent. */
  figures() {
    return { received: this.#figures, unsent: Atomics.load(this.#state, UNSENT) };
  }

  /** The loudest samples since it was last asked, 0 to 1. */
  levels() {
    const loudest = (place) => Atomics.exchange(this.#state, place, 0) / 32_767;
    return [loudest(LEVEL_IN), loudest(LEVEL_OUT)];
  }

  #take({ id, what, ...more }) {
    // Of another call, or of none.
    if (id !== this.#id) return;
    if (what === 'ended') this.abandon();
    this.#told(what, more);
  }

  /** Lets go of everything; of a call that was not connected, all there is to do. */
  abandon() {
    if (this.isOver) return;
    this.isOver = true;
    context.removeEventListener('statechange', this.#onChange);
    document.removeEventListener('visibilitychange', this.#onChange);
    if (this.#microphone) stop(this.#microphone.stream);
    this.#microphone?.node.disconnect();
    this.#recording?.stop();
    this.#recording?.disconnect();
    this.#node?.disconnect();
    this.#node?.port.postMessage(null);
    context.suspend().catch(() => {});
  }
}

function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}
