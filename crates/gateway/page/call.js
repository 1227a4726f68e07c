// A call as the page holds it: the audio context, the microphone or a recording in its place, the worklet, and the Worker's line.
import { moduleUrl } from '../wasm/index.js';
import { CODED_RATE, FRAME_MS } from './audio.js';
import { FIGURES, LEVEL_IN, LEVEL_OUT, SENDING, UNHEARD, UNSENT, allocate } from './shared.js';

/** Rates that the worklet resamples from and to; another one is left to the browser. */
const RATES = [8000, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];
/** How often it looks whether what is played would be sent. */
const LOOK_MS = 20;

/** The Worker with the line; `null` once it failed, as where it could not be loaded: the next call has another one. */
let line = hire();
/** The call that was connected last. It takes what the Worker tells. */
let connected = null;

function hire() {
  const worker = new Worker(new URL('./line.js', import.meta.url), { type: 'module' });
  worker.onmessage = ({ data }) => connected?.take(data);
  worker.onerror = () => {
    worker.terminate();
    line = null;
    connected?.take({ id: connected.id, what: 'lineFailed' });
  };
  return worker;
}

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
  // Also one that still runs: it was told to rest at the end of the last call, and that takes a moment.
  context.resume().catch(() => {});
  return context;
}

/** Loads what there is to load. A context remembers a script that it could not load, so another try needs another context. */
async function prepare() {
  const bytes = async () => {
    const answer = await fetch(moduleUrl());
    if (!answer.ok) throw new Error(`the audio module is not there: ${answer.status}`);
    return answer.arrayBuffer();
  };
  const own = context;
  prepared ??= Promise.all([bytes(), context.audioWorklet.addModule(new URL('./worklet.js', import.meta.url))]);
  try {
    const [module] = await prepared;
    return module;
  } catch (error) {
    if (context === own) context = null;
    own.close().catch(() => {});
    throw error;
  }
}

/** Says `wish` to the Worker. */
function wish(name, more) {
  line?.postMessage({ ...more, wish: name });
}

/** A WAV file of what was heard in this call or the last one; `null` if there was none. */
export function recorded() {
  return new Promise((resolve) => {
    const asked = line;
    if (asked === null) return resolve(null);
    const done = (wav) => {
      asked.removeEventListener('message', take);
      asked.removeEventListener('error', fail);
      resolve(wav);
    };
    const take = ({ data }) => data.what === 'recording' && done(data.wav);
    const fail = () => done(null);
    asked.addEventListener('message', take);
    asked.addEventListener('error', fail);
    wish('recording');
  });
}

/** How many calls there were. */
let calls = 0;

/**
 * `told(what, more)` is told what the Worker tells, and `microphoneGone`, `audioFailed` and `lineFailed`. In order: `prepare`, then `openMicrophone` or
 * `decode` a recording, then `connect`; it is over when `ended` was told or `abandon` was called.
 */
export class Call {
  id = ++calls;
  #context;
  #node;
  #shared;
  #state;
  #figures;
  #microphone = null;
  #recording = null;
  #told;
  #both;
  #onChange = () => this.#context.state === 'suspended' && this.resume();
  isOver = false;

  /** To be made while a click or key is being handled. */
  constructor(told, both) {
    this.#told = told;
    this.#both = both;
    this.#context = wake();
    this.#shared = allocate(this.#context.sampleRate, both ? 2 : 1);
    this.#state = new Int32Array(this.#shared.state);
    this.#figures = new Float64Array(this.#shared.figures, 0, FIGURES);
  }

  /** Loads what the worklet needs, and begins to listen to nothing. */
  async prepare() {
    const module = await prepare();
    if (this.isOver) return;
    this.#node = new AudioWorkletNode(this.#context, 'evenkeel', {
      outputChannelCount: [1],
      channelCount: 1,
      channelCountMode: 'explicit',
      processorOptions: { module, shared: this.#shared, both: this.#both },
    });
    this.#node.onprocessorerror = () => this.#told('audioFailed');
    this.#node.connect(this.#context.destination);
    // Phones stop audio when the page is left: it goes on when they let it.
    this.#context.addEventListener('statechange', this.#onChange);
    document.addEventListener('visibilitychange', this.#onChange);
  }

  /** Whether sound stands still, as while a phone has it for something else, or until a browser was shown that the person wants it. */
  get isStill() {
    return this.#context.state !== 'running';
  }

  /** Lets sound go on; where `isStill` remains, to be called while a click or key is being handled. */
  resume() {
    this.#context.resume().catch(() => {});
  }

  connect(options) {
    line ??= hire();
    connected = this;
    const [shared, rate] = [this.#shared, this.#context.sampleRate];
    wish('start', { ...options, id: this.id, shared, rate, both: this.#both, codedRate: CODED_RATE, frameMs: FRAME_MS });
  }

  /** Opens the microphone; fails with what the browser says. */
  async openMicrophone({ echoCancellation, noiseSuppression }) {
    const audio = { echoCancellation, noiseSuppression, autoGainControl: noiseSuppression, channelCount: 1 };
    const stream = await navigator.mediaDevices.getUserMedia({ audio });
    if (this.isOver) return stop(stream);
    try {
      this.#microphone = { stream, node: this.#context.createMediaStreamSource(stream) };
    } catch (error) {
      // Firefox, where microphone and output have different rates.
      stop(stream);
      throw error;
    }
    stream.getAudioTracks()[0].onended = () => this.#told('microphoneGone');
    this.#microphone.node.connect(this.#node);
  }

  get hasMicrophone() {
    return this.#microphone !== null;
  }

  /** Reads a file; fails if it is no recording. */
  async decode(file) {
    return this.#context.decodeAudioData(await file.arrayBuffer());
  }

  /** Plays a recording in the microphone's place, as soon as that is sent. Resolves to whether it was played to its end. */
  async play(buffer) {
    this.#recording?.disconnect();
    const source = this.#context.createBufferSource();
    source.buffer = buffer;
    this.#recording = source;
    this.#microphone?.node.disconnect();
    const isCurrent = () => !this.isOver && this.#recording === source;
    while (isCurrent() && Atomics.load(this.#state, SENDING) === 0) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    if (!isCurrent()) return false;
    source.connect(this.#node);
    await new Promise((resolve) => {
      source.onended = resolve;
      source.start();
    });
    if (!isCurrent()) return false;
    source.disconnect();
    this.#recording = null;
    this.#microphone?.node.connect(this.#node);
    return true;
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

  /** What the receiver counted, in the order of RECEIVER_STATS; and the packets that could not be sent, or not be handed to it. */
  figures() {
    const [unsent, unheard] = [UNSENT, UNHEARD].map((place) => Atomics.load(this.#state, place));
    return { received: this.#figures, unsent, unheard };
  }

  /** The loudest samples since it was last asked, 0 to 1. */
  levels() {
    const loudest = (place) => Atomics.exchange(this.#state, place, 0) / 32_767;
    return [loudest(LEVEL_IN), loudest(LEVEL_OUT)];
  }

  /** What the Worker tells. */
  take({ id, what, ...more }) {
    // Of another call, or of none.
    if (id !== this.id) return;
    if (what === 'ended') this.abandon();
    this.#told(what, more);
  }

  /** Lets go of everything; of a call that was not connected, all there is to do. */
  abandon() {
    if (this.isOver) return;
    this.isOver = true;
    this.#context.removeEventListener('statechange', this.#onChange);
    document.removeEventListener('visibilitychange', this.#onChange);
    if (this.#microphone) stop(this.#microphone.stream);
    this.#microphone?.node.disconnect();
    this.#recording?.disconnect();
    this.#node?.disconnect();
    this.#node?.port.postMessage(null);
    this.#context.suspend().catch(() => {});
  }
}

function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}
