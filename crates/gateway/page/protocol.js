// The firmware's WebSocket protocol, as far as a page speaks it: binary frames of version 2, which carry timestamps, and JSON.

const VERSION = 2;
const HEADER = 16;
const OPUS = 0;

/** How a browser says who calls; a WebSocket of it can set no headers. */
export function query({ deviceId, clientId, token }) {
  const fields = { 'device-id': deviceId, 'client-id': clientId, 'protocol-version': VERSION };
  if (token) fields.authorization = `Bearer ${token}`;
  // Not as forms have it: a space is no plus here.
  return Object.entries(fields).map((field) => field.map(encodeURIComponent).join('=')).join('&');
}

export function hello({ codedRate, frameMs, loopback }) {
  return {
    type: 'hello',
    version: VERSION,
    transport: 'websocket',
    features: loopback ? { loopback: true } : {},
    audio_params: { format: 'opus', sample_rate: codedRate, channels: 1, frame_duration: frameMs },
  };
}

/** A frame with the Opus packet in the first `length` of `opus`. */
export function pack(opus, length) {
  const frame = new Uint8Array(HEADER + length);
  const view = new DataView(frame.buffer);
  view.setUint16(0, VERSION);
  view.setUint16(2, OPUS);
  view.setUint32(12, length);
  for (let i = 0; i < length; i++) frame[HEADER + i] = opus[i];
  return frame;
}

/** The Opus packet of a frame, and its timestamp; `null` if it is none. */
export function unpack(frame) {
  if (frame.byteLength <= HEADER) return null;
  const view = new DataView(frame);
  const isOpus = view.getUint16(0) === VERSION && view.getUint16(2) === OPUS;
  if (!isOpus || view.getUint32(12) !== frame.byteLength - HEADER) return null;
  return { opus: new Uint8Array(frame, HEADER), timestamp: view.getUint32(8) };
}

/** What a text says; `null` if it is no object with a type. */
export function read(text) {
  try {
    const message = JSON.parse(text);
    return typeof message?.type === 'string' ? message : null;
  } catch {
    return null;
  }
}
