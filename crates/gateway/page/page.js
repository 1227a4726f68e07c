// The page: what is pressed becomes a call, and what happens in a call is shown.
import { Call, recorded } from './call.js';
import { ask } from './connection.js';
import { clean, fromAddress, identity, remember } from './identity.js';
import * as view from './view.js';
import * as words from './words.js';

const $ = (id) => document.getElementById(id);
const address = fromAddress();

const NO_MICROPHONE = $('file-state').textContent;

let call = null;
let roundTrip = null;
/** A recording that waits for the call to begin, or to go on. */
let toPlay = null;
/** The file that was chosen last, of a call. */
let chosen = null;

const mode = () => document.querySelector('input[name=mode]:checked').value;
const state = () => document.body.dataset.state;
const given = () => ({ deviceId: clean($('device-id').value), clientId: clean($('client-id').value), token: clean($('token').value) });

/** Begins a call, with the microphone or with a recording in its place. */
async function talk(file) {
  view.clearLines();
  roundTrip = null;
  view.show('starting');
  view.say(file ? 'Reading the recording…' : 'Waiting for the microphone…');
  let begun;
  try {
    // What one tells that was given up is of no interest.
    begun = new Call((what, more) => call === begun && told[what](more), address.get('record') === 'both');
    call = begun;
    await begun.prepare();
  } catch (error) {
    return giveUp(begun, words.ofAudio(error));
  }
  if (begun.isOver) return;
  try {
    if (file) toPlay = await begun.decode(file);
    else await begun.openMicrophone({ echoCancellation: $('echo').checked, noiseSuppression: $('noise').checked });
  } catch (error) {
    return giveUp(begun, file ? words.ofFile(file) : words.ofMicrophone(error));
  }
  if (begun.isOver) return;
  begun.connect({ identity: given(), mode: mode(), loopback: address.get('loopback') === '1' });
}

function giveUp(begun, why) {
  begun?.abandon();
  if (call === begun || begun === undefined) end(why);
}

function end(why) {
  call = null;
  toPlay = null;
  chosen = null;
  view.show('idle');
  view.say(why || 'The call has ended.', Boolean(why));
  view.setFace(null);
  $('interrupt').hidden = true;
  $('file-state').textContent = NO_MICROPHONE;
}

/** What a call tells. */
const told = {
  connecting() {
    view.show('starting');
    view.say('Connecting…');
  },
  talking() {
    view.show('talking');
    view.say(words.DOING[mode()]);
    $('save').hidden = false;
    if (toPlay !== null) play(toPlay);
  },
  waiting({ why, ms }) {
    view.show('waiting');
    view.say(words.waiting(why, ms), true);
  },
  speaking({ is }) {
    $('interrupt').hidden = !is;
    if (state() === 'talking') view.say(is ? words.ANSWERING : words.DOING[mode()]);
  },
  roundTrip({ ms }) {
    roundTrip = ms;
  },
  said({ message }) {
    const { type, text, emotion, status, message: what } = message;
    if (type === 'llm') view.setFace(emotion);
    else if (type === 'stt' || type === 'tts') view.addLine(type, String(text));
    else view.addLine('alert', [status, what].filter(Boolean).join(': '));
  },
  ended({ why, text }) {
    end(words.ended(why, text));
    if (why === 'refused') openSettings(text);
  },
  microphoneGone() {
    view.addLine('alert', words.MICROPHONE_GONE);
  },
  audioFailed() {
    hangUp(words.AUDIO_FAILED);
  },
  lineFailed() {
    hangUp(words.LINE_FAILED);
  },
};

/** Where a field is wrong, the person should see which. */
function openSettings(why) {
  $('settings').open = true;
  const field = /device-id/.test(why) ? 'device-id' : /client-id/.test(why) ? 'client-id' : 'token';
  $(field).focus();
}

async function play(buffer) {
  const own = call;
  const isManual = mode() === 'manual';
  toPlay = null;
  own.interrupt();
  if (isManual) own.press();
  $('file-state').textContent = `Playing ${Math.ceil(buffer.duration)} s in the microphone's place…`;
  // Another one that was chosen meanwhile has the turn now.
  if (!(await own.play(buffer))) return;
  if (isManual) own.release();
  $('file-state').textContent = own.hasMicrophone ? NO_MICROPHONE : 'It was played. Listen, or send another one.';
}

async function send(file) {
  if (call === null) return talk(file);
  const own = call;
  chosen = file;
  const isWanted = () => call === own && chosen === file;
  let buffer;
  try {
    buffer = await own.decode(file);
  } catch {
    if (isWanted()) view.addLine('alert', words.ofFile(file));
    return;
  }
  if (!isWanted()) return;
  if (state() === 'talking') return play(buffer);
  toPlay = buffer;
  $('file-state').textContent = words.FILE_WAITS;
}

async function save() {
  const wav = await recorded();
  if (wav === null) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(wav);
  link.download = 'heard.wav';
  link.click();
  // Some browsers read it only once the person has said where to.
  setTimeout(() => URL.revokeObjectURL(link.href), 600_000);
}

/** Levels follow the eye, figures the mind. */
function draw() {
  if (call !== null && !call.isOver) view.setLevels(...call.levels());
  requestAnimationFrame(draw);
}

function count() {
  if (call === null || call.isOver) return;
  view.setFigures(call.figures(), roundTrip);
  if (state() === 'talking') view.setStill(call.isStill);
}

function press(isPressed) {
  if ($('hold').classList.toggle('pressed', isPressed)) call?.press();
  else call?.release();
}

/** Where nobody sees the button or key come up again. */
function letGo() {
  if ($('hold').classList.contains('pressed')) press(false);
}

/** While a button is held: with a finger, a mouse or the space bar. */
function holds() {
  const hold = $('hold');
  hold.addEventListener('pointerdown', (event) => {
    hold.setPointerCapture(event.pointerId);
    press(true);
  });
  for (const name of ['pointerup', 'pointercancel']) hold.addEventListener(name, () => press(false));
  hold.addEventListener('contextmenu', (event) => event.preventDefault());
  const isSpace = (event) => event.code === 'Space' && mode() === 'manual' && call !== null && !/^(INPUT|SUMMARY)$/.test(event.target.tagName);
  document.addEventListener('keydown', (event) => {
    if (!isSpace(event)) return;
    event.preventDefault();
    if (!event.repeat) press(true);
  });
  document.addEventListener('keyup', (event) => {
    if (!isSpace(event)) return;
    event.preventDefault();
    press(false);
  });
  window.addEventListener('blur', letGo);
  document.addEventListener('visibilitychange', () => document.visibilityState === 'hidden' && letGo());
}

/** Whether a token is needed, so that nobody has to be refused to learn it. */
async function askForToken() {
  if ($('token').value) return;
  const asked = await ask(given());
  if (asked?.status !== 401 || call !== null) return;
  $('settings').open = true;
  view.say('This gateway lets in devices with a token only: give one below.');
}

function start() {
  const { deviceId, clientId, token } = identity(address);
  [$('device-id').value, $('client-id').value, $('token').value] = [deviceId, clientId, token];
  const wanted = document.querySelector(`input[name=mode][value="${CSS.escape(address.get('mode') ?? 'auto')}"]`);
  if (wanted) wanted.checked = true;
  document.body.dataset.mode = mode();
  const hindrance = words.hindrance();
  if (hindrance !== null) {
    view.say(hindrance, true);
    return;
  }
  $('talk').disabled = $('file').disabled = false;
  $('talk').onclick = () => (call === null ? talk(null) : hangUp(''));
  $('file').onchange = () => {
    const [file] = $('file').files;
    if (file) send(file);
    // The same one may be chosen again.
    $('file').value = '';
  };
  $('interrupt').onclick = () => call?.interrupt();
  $('save').onclick = save;
  for (const radio of document.querySelectorAll('input[name=mode]')) {
    radio.onchange = () => {
      letGo();
      document.body.dataset.mode = mode();
      call?.setMode(mode());
      if (state() === 'talking') view.say(words.DOING[mode()]);
    };
  }
  for (const id of ['device-id', 'client-id', 'token']) $(id).onchange = () => remember(given());
  $('identity').onsubmit = (event) => event.preventDefault();
  holds();
  document.addEventListener('click', () => call?.isStill && call.resume());
  view.say('Press Talk, and allow the microphone.');
  requestAnimationFrame(draw);
  setInterval(count, 500);
  askForToken();
}

function hangUp(why) {
  call.hangUp();
  call.abandon();
  end(why);
}

start();
