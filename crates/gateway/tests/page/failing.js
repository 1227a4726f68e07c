// What may fail in the browser itself, and that the next try goes well: the worklet, the Worker, the microphone, storage, sound that the
// phone takes.
'use strict';
const { inState, launch, rest, run, says, talk, url, visit } = require('./driver.js');
const { front } = require('./front.js');

const [deviceId, clientId, token] = rest;

/** Keeps what the page opens within reach. */
function watch() {
  window.contexts = [];
  window.AudioContext = class extends AudioContext {
    constructor(options) {
      super(options);
      window.contexts.push(this);
    }
  };
  window.streams = [];
  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await open(wanted);
    window.streams.push(stream);
    return stream;
  };
}

/** Whether every microphone that was opened is closed again. */
const areClosed = (page) =>
  page.evaluate(() => window.streams.length > 0 && window.streams.flatMap((stream) => stream.getTracks()).every((track) => track.readyState === 'ended'));

run(async (seen) => {
  const browser = await launch();
  const open = (address = url, first = watch) => visit(browser, address, seen, {}, first);
  const state = (page) => page.textContent('#state');
  const close = (page) => page.context().close();

  // The worklet's script is not there, then it is.
  const given = { '/page/worklet.js': null };
  let page = await open(await front(url, given));
  await page.click('#talk');
  await says(page, 'could not be started');
  seen.noWorklet = await state(page);
  delete given['/page/worklet.js'];
  await talk(page);
  await close(page);

  // It fails while it runs; the next call has another instance of the module, and goes well.
  given['/page/audio.js'] = `export const CODED_RATE = 24_000, FRAME_MS = 20;
    let broken = null;
    export class AudioPath {
      constructor(classes) { broken ??= classes; this.isNew = classes !== broken; }
      process() { if (!this.isNew) throw new Error('on purpose'); }
      close() {}
    }`;
  page = await open(await front(url, given));
  await page.click('#talk');
  await says(page, 'audio part of this page failed');
  await talk(page);
  await page.waitForTimeout(500);
  seen.afterFailedAudio = await page.evaluate(() => document.body.dataset.state);
  await close(page);

  // The Worker's script is not there when the page comes, nor at the first call; then it is.
  const context = await browser.newContext();
  await context.route('**/page/line.js', (route) => route.abort());
  page = await context.newPage();
  await page.goto(url);
  await page.click('#talk');
  await says(page, 'talks with the gateway failed');
  await context.unroute('**/page/line.js');
  await talk(page);
  // It fails amid a call.
  const [worker] = page.workers();
  await worker.evaluate(() => void setTimeout(() => { throw new Error('on purpose'); }));
  await says(page, 'talks with the gateway failed');
  await talk(page);
  await context.close();

  // A microphone that cannot be joined with the output, as in Firefox: it does not stay open.
  page = await open(url, () => {
    AudioContext.prototype.createMediaStreamSource = () => {
      throw new DOMException('different sample-rates', 'NotSupportedError');
    };
  });
  await page.evaluate(watch);
  await page.click('#talk');
  await says(page, '48 kHz');
  seen.closed = await areClosed(page);
  await close(page);

  // The phone takes the sound in a call, and lets the person have it again.
  page = await open();
  await talk(page);
  seen.stillAtFirst = await page.isVisible('#still');
  await page.evaluate(async () => {
    const context = window.contexts.at(-1);
    context.resume = () => Promise.reject(new DOMException('interrupted', 'InvalidStateError'));
    await context.suspend();
  });
  await page.waitForSelector('#still:not([hidden])');
  seen.still = await page.textContent('#still');
  await page.evaluate(() => delete window.contexts.at(-1).resume);
  await page.click('#still');
  await page.waitForSelector('#still', { state: 'hidden' });
  seen.stillState = await page.evaluate(() => [window.contexts.at(-1).state, document.body.dataset.state]);
  await page.click('#talk');
  await inState(page, 'idle');
  seen.closedAtTheEnd = await areClosed(page);
  await close(page);

  // Storage is blocked: the token of the address is there all the same, and what nobody sees of an id is left out.
  const query = new URLSearchParams({ 'device-id': `${deviceId}\u200b`, 'client-id': clientId, token });
  page = await open(`${url}?${query}`, () => {
    for (const name of ['localStorage', 'sessionStorage']) {
      Object.defineProperty(window, name, { get: () => { throw new DOMException('blocked', 'SecurityError'); } });
    }
  });
  await talk(page);
  seen.token = await page.inputValue('#token');
  await close(page);

  // There is no microphone.
  page = await visit(await launch({ has: false }), url, seen);
  await page.click('#talk');
  await says(page, 'There is no microphone');
  seen.noMicrophone = await state(page);

  // What the browser itself says of what was done to it.
  seen.errors = seen.errors.filter((error) => !/net::ERR_FAILED|status of 404|on purpose/.test(error));
});
