// The Worker of the page: carries packets between the connection and the worklet's memory, takes turns with the gateway as the firmware
// does, and keeps what was heard. It lives as long as the page; calls begin and end in it.
import { RECEIVER_STATS } from '../wasm/index.js';
import { Connection } from './connection.js';
import { Recording } from './recording.js';
import { BELL, FIGURES, PAUSES, PacketRing, SENDING, SampleRing, UNHEARD, UNSENT } from './shared.js';

/** People let go of a button before their last word has ended. */
const AFTER_RELEASE_MS = 150;
/** What plays behind the jitter buffer: the browser's own output. */
const OUTPUT_MS = 50;
/** How often it looks by itself where a Worker cannot wait for the worklet's bell. */
const LOOK_MS = 10;

const DELAY = RECEIVER_STATS.indexOf('delayMs');

/** The call there is, and what was heard of the last one. */
let call = null;
let recording = null;

const wishes = {
  start: (options) => (call = new Call(options)),
  stop: () => call?.stop(),
  mode: ({ mode }) => call?.setMode(mode),
  press: () => call?.press(),
  release: () => call?.release(),
  interrupt: () => call?.interrupt(),
  recording: () => self.postMessage({ what: 'recording', wav: recording?.toWav() ?? null }),
};

self.onmessage = ({ data }) => wishes[data.wish](data);
self.addEventListener('online', () => call?.hurry());

class Call {
  #id;
  #state;
  #figures;
  #up;
  #down;
  #recorded;
  #packet = new Uint8Array(2048);
  #sequence = 0;
  #connection;
  #mode;
  #isOver = false;
  #isSpeaking = false;
  #isPressed = false;
  #released;
  #turn;

  constructor({ id, shared, rate, both, mode, ...options }) {
    this.#id = id;
    this.#state = new Int32Array(shared.state);
    this.#figures = new Float64Array(shared.figures, 0, FIGURES);
    this.#up = PacketRing.up(shared);
    this.#down = PacketRing.down(shared);
    this.#recorded = new SampleRing(shared);
    this.#mode = mode;
    recording = new Recording(rate, both ? 2 : 1);
    this.#connection = new Connection(options, this);
    // To the page, as any other error here.
    this.#carry().catch(reportError);
  }

  // What the person wants.

  stop() {
    this.#connection.close();
  }

  /** `auto`: they take turns. `realtime`: both may speak at once. `manual`: the person speaks while a button is pressed. */
  setMode(mode) {
    clearTimeout(this.#released);
    this.#mode = mode;
    this.#isPressed = false;
    if (mode === 'manual') this.#deafen();
    else if (mode === 'auto' && this.#isSpeaking) this.#rest();
    else this.#listen();
  }

  press() {
    clearTimeout(this.#released);
    if (this.#isPressed) return;
    this.#isPressed = true;
    this.interrupt();
    this.#listen();
  }

  release() {
    clearTimeout(this.#released);
    if (!this.#isPressed) return;
    this.#released = setTimeout(() => {
      this.#isPressed = false;
      this.#deafen();
    }, AFTER_RELEASE_MS);
  }

  interrupt() {
    if (this.#isSpeaking) this.#connection.say({ type: 'abort' });
  }

  hurry() {
    this.#connection.hurry();
  }

  // What the connection tells.

  connecting() {
    this.#tell('connecting');
  }

  began() {
    this.#tell('talking');
    if (this.#mode !== 'manual' || this.#isPressed) this.#listen();
  }

  took(message) {
    switch (message.type) {
      case 'tts':
        return this.#takeSpeech(message);
      case 'stt':
      case 'llm':
      case 'alert':
      case 'error':
        return this.#tell('said', { message });
    }
  }

  heard(opus, timestamp) {
    // A worklet that stands still has no use for what it cannot play, and nothing to conceal.
    if (this.#down.push(opus, opus.length, this.#sequence, timestamp)) this.#sequence++;
    else Atomics.add(this.#state, UNHEARD, 1);
  }

  roundTrip(ms) {
    this.#tell('roundTrip', { ms });
  }

  waiting(why, ms) {
    this.#hush();
    this.#rest();
    this.#tell('waiting', { why, ms });
  }

  ended(why, text) {
    this.#hush();
    clearTimeout(this.#released);
    this.#keep();
    this.#rest();
    this.#isOver = true;
    call = null;
    this.#tell('ended', { why, text });
  }

  #takeSpeech({ state, text }) {
    if (state === 'start') {
      this.#isSpeaking = true;
      clearTimeout(this.#turn);
      this.#tell('speaking', { is: true });
      // Taking turns, nobody speaks into another's words.
      if (this.#mode === 'auto') this.#rest();
    } else if (state === 'stop') {
      this.#hush();
      // It was sent, and plays a little longer here.
      const rest = this.#figures[DELAY] + OUTPUT_MS;
      if (this.#mode === 'auto') this.#turn = setTimeout(() => this.#mode === 'auto' && this.#listen(), rest);
    } else if (state === 'sentence_start' && text) {
      this.#tell('said', { message: { type: 'tts', text } });
    }
  }

  /** The gateway has said what it had to say. */
  #hush() {
    clearTimeout(this.#turn);
    Atomics.add(this.#state, PAUSES, 1);
    if (this.#isSpeaking) this.#tell('speaking', { is: false });
    this.#isSpeaking = false;
  }

  #listen() {
    if (!this.#connection.isInSession) return;
    this.#connection.say({ type: 'listen', state: 'start', mode: this.#mode });
    Atomics.store(this.#state, SENDING, 1);
  }

  /** The microphone is sent no more. */
  #rest() {
    Atomics.store(this.#state, SENDING, 0);
  }

  #deafen() {
    this.#rest();
    this.#send();
    this.#connection.say({ type: 'listen', state: 'stop' });
  }

  /** Carries what the worklet left, each time it rings, until the call has ended. */
  async #carry() {
    while (!this.#isOver) {
      const rung = Atomics.load(this.#state, BELL);
      this.#send();
      this.#keep();
      if (Atomics.waitAsync === undefined) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      else await Atomics.waitAsync(this.#state, BELL, rung, 1000).value;
    }
  }

  #send() {
    for (let length = this.#up.take(this.#packet); length >= 0; length = this.#up.take(this.#packet)) {
      if (!this.#connection.send(this.#packet, length)) Atomics.add(this.#state, UNSENT, 1);
    }
  }

  #keep() {
    recording.add(this.#recorded.take());
  }

  #tell(what, more) {
    self.postMessage({ ...more, id: this.#id, what });
  }
}
