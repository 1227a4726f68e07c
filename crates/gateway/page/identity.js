// Who calls: a device id and a client id that this browser keeps, unless the address or the person says otherwise.

const HEX = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0'));

/** What the address says, by the names that devices use; a token does not stay in it. */
export function fromAddress() {
  const given = new URLSearchParams(window.location.search);
  const token = given.get('token') ?? given.get('authorization')?.replace(/^Bearer /, '');
  if (token) {
    keep('sessionStorage', 'token', token);
    given.delete('token');
    given.delete('authorization');
    window.history.replaceState(null, '', window.location.pathname + `?${given}`.replace(/\?$/, ''));
  }
  return given;
}

/** The ids and the token to begin with. */
export function identity(given) {
  return {
    deviceId: given.get('device-id') ?? kept('localStorage', 'device-id', macAddress),
    clientId: given.get('client-id') ?? kept('localStorage', 'client-id', uuid),
    token: read('sessionStorage', 'token') ?? '',
  };
}

/** Without what nobody sees: what was copied from elsewhere often has such, and no id or token does. */
export function clean(text) {
  return text.replace(/\p{C}/gu, '').trim();
}

/** What the person wrote is kept: the ids for good, the token for as long as the tab is there. */
export function remember({ deviceId, clientId, token }) {
  keep('localStorage', 'device-id', deviceId);
  keep('localStorage', 'client-id', clientId);
  keep('sessionStorage', 'token', token);
}

/** Locally administered, of one device (IEEE 802, 8.4). */
function macAddress() {
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  bytes[0] = (bytes[0] & 0xfc) | 0x02;
  return HEX(bytes).join(':');
}

/** Version 4 (RFC 9562), also where the page is not secure and crypto.randomUUID is not there. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return HEX(bytes).join('').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

function kept(storage, name, make) {
  const old = read(storage, name);
  if (old) return old;
  const made = make();
  keep(storage, name, made);
  return made;
}

/** Where the browser keeps nothing for pages, it is kept here, until the page is left. */
const here = new Map();

function read(storage, name) {
  try {
    return window[storage].getItem(`evenkeel.${name}`) ?? here.get(name) ?? null;
  } catch {
    return here.get(name) ?? null;
  }
}

function keep(storage, name, value) {
  here.set(name, value);
  try {
    window[storage].setItem(`evenkeel.${name}`, value);
  } catch {
    // Then only here.
  }
}
