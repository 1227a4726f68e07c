// What is seen of a call: its state, the levels, the figures, and what was said.
import { RECEIVER_STATS } from '../wasm/index.js';

const $ = (id) => document.getElementById(id);

/** Lines of the conversation that are kept. */
const MOST_LINES = 200;

export function say(text, isBad = false) {
  $('state').textContent = text;
  $('state').classList.toggle('bad', isBad);
}

/** `idle`, `starting`, `talking` or `waiting`; the style sheet and what can be pressed follow. */
export function show(state) {
  document.body.dataset.state = state;
  const isIdle = state === 'idle';
  $('talk').textContent = isIdle ? 'Talk' : 'Hang up';
  for (const field of document.querySelectorAll('#settings input')) field.disabled = !isIdle;
  if (isIdle) setLevels(0, 0);
  setStill(false);
}

/** Says beside the state that sound stands still, and what to do. */
export function setStill(isStill) {
  $('still').hidden = !isStill;
}

/** Adds what was said to the conversation, and keeps its end in sight for who has not scrolled up. */
export function addLine(kind, text) {
  const lines = $('lines');
  const isAtEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
  const line = document.createElement('li');
  line.className = kind;
  line.textContent = text;
  lines.append(line);
  while (lines.children.length > MOST_LINES) lines.firstElementChild.remove();
  $('conversation').hidden = false;
  if (isAtEnd) lines.scrollTop = lines.scrollHeight;
}

export function clearLines() {
  $('lines').replaceChildren();
  $('conversation').hidden = true;
}

/** Loudest samples, 0 to 1: meters show 60 dB. */
export function setLevels(input, output) {
  set($('level-in'), input);
  set($('level-out'), output);
}

const shown = new Map();

function set(meter, loudest) {
  const now = loudest > 0.001 ? 1 + (20 * Math.log10(loudest)) / 60 : 0;
  // It falls slowly, or nobody would see a word.
  const level = Math.max(now, (shown.get(meter) ?? 0) - 0.03);
  shown.set(meter, level);
  meter.value = Math.max(0, level);
}

const place = (name) => RECEIVER_STATS.indexOf(name);

/** Figures of the call. */
export function setFigures({ received, unsent, unheard }, roundTrip) {
  const of = (name) => received[place(name)];
  const ms = (value) => `${Math.round(value)} ms`;
  const values = {
    'round-trip': roundTrip === null ? '–' : roundTrip < 10 ? `${roundTrip.toFixed(1)} ms` : ms(roundTrip),
    lost: of('lost') + of('late') + of('refused') + unsent + unheard,
    concealed: of('concealed') + of('recovered'),
    jitter: `${of('jitterMs').toFixed(1)} ms`,
    buffer: ms(of('delayMs')),
    underruns: of('underruns'),
  };
  for (const [id, value] of Object.entries(values)) $(id).textContent = value;
}

/** Faces that chat servers name. */
const FACES = {
  neutral: '😐', happy: '🙂', laughing: '😆', funny: '😂', sad: '😔', angry: '😠', crying: '😭', loving: '😍', embarrassed: '😳',
  surprised: '😯', shocked: '😱', thinking: '🤔', winking: '😉', cool: '😎', relaxed: '😌', delicious: '🤤', kissy: '😘', confident: '😏',
  sleepy: '😴', silly: '😜', confused: '🙄',
};

export function setFace(emotion) {
  $('face').textContent = FACES[emotion] ?? '';
  $('face').title = emotion ?? '';
}
