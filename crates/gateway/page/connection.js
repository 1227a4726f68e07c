// The connection to the gateway, and the session on it: made, watched, and made anew where the network fails. It knows the protocol, and
// nothing of who speaks when (line.js).
import { hello, pack, query, read, unpack } from './protocol.js';

/** Waits between attempts, in ms; then the last one again and again. */
const WAITS = [500, 1000, 2000, 4000, 8000];
/** How long it may take until the gateway has answered a hello. */
const CONNECT_MS = 10_000;
/** How often the round trip is measured, and after how long without a word the connection is taken for lost. */
const PING_MS = 1000;
const SILENT_MS = 6000;
/** Bytes that may wait for the network: two seconds of packets. What comes behind them is not worth sending any more. */
const MOST_BUFFERED = 10_000;
/** How long a session must have stood for the next attempt to be a first one again. */
const STOOD_MS = 5000;

/** Reasons of a goodbye after which nobody wants to be called again. */
const FINAL = ['room_ended', 'idle', 'operator', 'peer_gone', 'goodbye'];
/** Reasons after which another attempt may do, and which have words of their own; all others are a connection that broke. */
const PASSING = ['draining', 'room_gone', 'media_failed'];

/** What an upgrade would be told; `null` where nothing answers. */
export async function ask(identity) {
  try {
    const answer = await fetch(`/admission?${query(identity)}`, { cache: 'no-store' });
    return await answer.json();
  } catch {
    return null;
  }
}

/**
 * `events` are told what happens: `connecting()`, `began()` a session, `took(message)`, `heard(opus, timestamp)`, `roundTrip(ms)`,
 * `waiting(why, ms)` for the next attempt, and `ended(why, text)`, after which nothing comes.
 */
export class Connection {
  #options;
  #events;
  #attempt = null;
  #socket = null;
  #session = null;
  #goodbye = null;
  #attempts = 0;
  #timers = new Map();
  #heard = 0;
  #pings = new Map();
  #pinged = 0;

  constructor(options, events) {
    this.#options = options;
    this.#events = events;
    this.#connect();
  }

  get isInSession() {
    return this.#session !== null;
  }

  /** Says something in the session; without one, nothing. */
  say(message) {
    if (this.isInSession) this.#write(JSON.stringify({ session_id: this.#session, ...message }));
  }

  /** Sends the Opus packet in the first bytes of `opus`. `false` where there is no session or the network does not keep up. */
  send(opus, length) {
    if (!this.isInSession || this.#socket.bufferedAmount > MOST_BUFFERED) return false;
    this.#write(pack(opus, length));
    return true;
  }

  /** The network is back: no reason to wait. */
  hurry() {
    if (this.#timers.has('again')) this.#connect();
  }

  close() {
    this.say({ type: 'goodbye' });
    this.#end(null);
  }

  async #connect() {
    this.#clear();
    this.#events.connecting();
    this.#set('connect', CONNECT_MS, () => this.#again('silent'));
    const attempt = (this.#attempt = Symbol('attempt'));
    // A browser does not say why a WebSocket was refused; the gateway does, to whoever asks.
    const asked = await ask(this.#options.identity);
    if (this.#attempt !== attempt) return;
    if (asked === null) return this.#again('unreachable');
    if ([400, 401, 403].includes(asked.status)) return this.#end('refused', asked.why);
    if (asked.status !== 200) return this.#again(asked.status === 503 ? 'draining' : 'broken');
    this.#open(attempt);
  }

  #open(attempt) {
    const scheme = self.location.protocol === 'https:' ? 'wss' : 'ws';
    const socket = new WebSocket(`${scheme}://${self.location.host}/?${query(this.#options.identity)}`);
    socket.binaryType = 'arraybuffer';
    this.#socket = socket;
    this.#goodbye = null;
    // One that was given up has nothing to say any more.
    const own = (what) => (event) => this.#attempt === attempt && what(event);
    socket.onopen = own(() => this.#write(JSON.stringify(hello(this.#options))));
    socket.onmessage = own(({ data }) => this.#take(data));
    socket.onclose = own(({ code }) => this.#closed(code));
  }

  #closed(code) {
    if (FINAL.includes(this.#goodbye)) this.#end(this.#goodbye);
    else if (this.#goodbye !== null) this.#again(PASSING.includes(this.#goodbye) ? this.#goodbye : 'broken');
    else if (code === 1000) this.#end('taken');
    else if (code === 1008) this.#end('protocol');
    else this.#again('broken');
  }

  /** Another attempt, after a while. */
  #again(why) {
    this.#leave();
    const wait = WAITS[Math.min(this.#attempts++, WAITS.length - 1)] * (0.75 + Math.random() / 2);
    this.#set('again', wait, () => this.#connect());
    this.#events.waiting(why, wait);
  }

  #end(why, text) {
    this.#leave();
    this.#events.ended(why, text);
  }

  #leave() {
    this.#clear();
    this.#socket?.close();
    this.#attempt = null;
    this.#socket = null;
    this.#session = null;
    this.#pings.clear();
  }

  #take(data) {
    this.#heard = performance.now();
    if (typeof data !== 'string') return this.#takeAudio(data);
    const message = read(data);
    if (message === null) return;
    if (!this.isInSession) return this.#takeAnswer(message);
    if (message.type === 'pong') return this.#takePong(message.id);
    // Of a session that is over, or of none.
    if (message.session_id !== undefined && message.session_id !== this.#session) return;
    if (message.type === 'goodbye') this.#goodbye = message.reason ?? 'goodbye';
    this.#events.took(message);
  }

  #takeAudio(data) {
    const packet = this.isInSession ? unpack(data) : null;
    if (packet !== null) this.#events.heard(packet.opus, packet.timestamp);
  }

  /** What comes before there is a session, and is no answer to hello, was meant for nobody. */
  #takeAnswer(message) {
    if (message.type === 'hello' && typeof message.session_id === 'string') return this.#begin(message.session_id);
    if (message.type !== 'error') return;
    this.#events.took(message);
    this.#again('full');
  }

  #begin(session) {
    this.#clear();
    this.#session = session;
    this.#set('stood', STOOD_MS, () => (this.#attempts = 0));
    this.#timers.set('ping', setInterval(() => this.#ping(), PING_MS));
    this.#ping();
    this.#events.began();
  }

  #ping() {
    const now = performance.now();
    if (now - this.#heard > SILENT_MS) return this.#again('silent');
    this.#pings.set(++this.#pinged, now);
    this.#write(JSON.stringify({ type: 'ping', id: this.#pinged }));
  }

  #takePong(id) {
    const at = this.#pings.get(id);
    this.#pings.delete(id);
    if (at !== undefined) this.#events.roundTrip(this.#heard - at);
  }

  #write(data) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(data);
  }

  #set(name, ms, what) {
    this.#timers.set(name, setTimeout(what, ms));
  }

  #clear() {
    // The numbers of intervals and timeouts are of one kind.
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }
}
