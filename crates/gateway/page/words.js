// What the page says in plain words: what went wrong, and what to do.

/** Why this browser cannot call from here; `null` if it can. */
export function hindrance() {
  if (!window.isSecureContext) {
    return (
      'Browsers give a microphone only to pages that came over TLS (https://) or from their own machine (http://127.0.0.1). ' +
      'Open this page there; for other machines and phones the gateway needs web.tls_listen.'
    );
  }
  if (!('AudioWorkletNode' in window) || !('WebAssembly' in window)) {
    return 'This browser is too old to call: it has no audio worklets. Any browser from 2023 on has them.';
  }
  if (!window.crossOriginIsolated || !('SharedArrayBuffer' in window)) {
    return (
      'This browser does not let the page share memory with its audio. Either it is too old (any from 2023 on can), or something between ' +
      'it and the gateway, such as a proxy, takes the headers Cross-Origin-Opener-Policy and Cross-Origin-Embedder-Policy away.'
    );
  }
  return null;
}

/** Why there is no microphone. */
export function ofMicrophone({ name, message }) {
  switch (name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return (
        'The microphone was refused. Allow it for this page (mostly a sign in the address bar, or the settings of the browser or phone) ' +
        'and try again, or send a recording instead.'
      );
    case 'NotFoundError':
    case 'OverconstrainedError':
      return 'There is no microphone. Plug one in and try again, or send a recording instead.';
    case 'NotSupportedError':
      return (
        'The microphone and the sound output have different rates, which this browser cannot join. Set the sound card to 48 kHz in the ' +
        'settings of the system and try again, or send a recording instead.'
      );
    case 'NotReadableError':
    case 'AbortError':
      return 'The microphone could not be opened: another program may have it. Close that and try again, or send a recording instead.';
    default:
      return `The microphone could not be opened (${message || name}). You can send a recording instead.`;
  }
}

export const MICROPHONE_GONE = 'The microphone is gone: it was unplugged, or taken back. Hang up and talk again to use another one.';

/** Why a file is no recording. */
export function ofFile(file) {
  return `“${file.name}” is not a recording that this browser can play. WAV, MP3 and most others are.`;
}

export const AUDIO_FAILED = 'The audio part of this page failed. Reload the page; if that does not help, another browser may.';

export const LINE_FAILED = 'The part of this page that talks with the gateway failed. Try again; if that does not help, reload the page.';

/** Of a recording that was chosen before there was a call, or while it was interrupted. */
export const FILE_WAITS = 'The recording is played as soon as there is a call.';

export function ofAudio({ message, name }) {
  return `Audio could not be started (${message || name}).`;
}

/** What the person may do, by the mode. */
export const DOING = {
  auto: 'Speak. When you pause, the answer comes.',
  realtime: 'Speak whenever you like.',
  manual: window.matchMedia('(hover: none)').matches
    ? 'Hold the button while you speak.'
    : 'Hold the button, or the space bar, while you speak.',
};

export const ANSWERING = 'The answer plays.';

/** Why the connection is waited for. */
const WAITING = {
  broken: 'The connection broke.',
  silent: 'The gateway has gone silent.',
  unreachable: 'The gateway cannot be reached.',
  draining: 'The gateway takes no calls just now: it is about to stop or to restart.',
  full: 'The gateway could not take the call.',
  room_gone: 'The other side cannot be reached, or broke off.',
  media_failed: 'No audio came through to the other side.',
};

export function waiting(why, ms) {
  const seconds = Math.max(1, Math.round(ms / 1000));
  return `${WAITING[why]} Trying again in ${seconds} s.`;
}

const ENDED = {
  taken: 'Another page or device called with the same device id, and took over.',
  protocol: 'The gateway closed the connection, as it did not understand the page. Reload the page.',
  room_ended: 'The other side ended the call.',
  peer_gone: 'The other side hung up.',
  idle: 'The call ended, as nobody said anything for long.',
  operator: 'An operator of the gateway ended the call.',
  goodbye: 'The gateway ended the call.',
};

/** Why the call is over; `text` is what the gateway said. */
export function ended(why, text) {
  if (why === null) return '';
  if (why !== 'refused') return ENDED[why];
  if (/token/.test(text)) return `The gateway did not let this device in: ${text}. Who runs the gateway has tokens to give.`;
  return `The gateway did not let this device in: ${text}.`;
}
