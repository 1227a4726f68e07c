// What `make page-bench` measures in the browser: `echo yes|no`, one conversation with the parrot, with echo cancellation or without;
// `loopback SECONDS`, a call in which each packet comes straight back, with how often the worklet had nothing to play and what is allocated
// in it once the browser has compiled it; `idle SECONDS`, the same of a worklet that does nothing: the browser's own part of it.
'use strict';
const { answered, launch, rest, run, save, talk, url, visit } = require('./driver.js');
const { front } = require('./front.js');

/** Until the buffer knows the network. */
const WARM_UP = 20_000;

/**
 * While a compiler of the browser's works, it allocates in the worklet's name, in objects of all sizes. It has compiled what it will once a
 * stretch of so many ms saw less than so many bytes; what a worklet leaves for each packet is more in less time.
 */
const STRETCH = 15_000;
const STILL = 500;
const MOST_STRETCHES = 8;

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The worklet, for the protocol of Chromium's tools. */
class Worklet {
  #cdp;
  #session;
  #waiting = new Map();
  #calls = 0;

  static async of(page) {
    const worklet = new Worklet();
    worklet.#cdp = await page.context().newCDPSession(page);
    worklet.#cdp.on('Target.attachedToTarget', ({ targetInfo, sessionId }) => {
      if (targetInfo.type === 'worklet') worklet.#session = sessionId;
    });
    worklet.#cdp.on('Target.receivedMessageFromTarget', ({ message }) => {
      const { id, result } = JSON.parse(message);
      worklet.#waiting.get(id)?.(result);
    });
    await worklet.#cdp.send('Target.setAutoAttach', { autoAttach: true, waitForDebuggerOnStart: false, flatten: false });
    return worklet;
  }

  async send(method, params = {}) {
    const id = ++this.#calls;
    const answer = new Promise((resolve) => this.#waiting.set(id, resolve));
    await this.#cdp.send('Target.sendMessageToTarget', { sessionId: this.#session, message: JSON.stringify({ id, method, params }) });
    return answer;
  }

  /** From here on every allocation counts, also of what is gone at the end. */
  async count() {
    await this.send('HeapProfiler.enable');
    const all = { samplingInterval: 64, includeObjectsCollectedByMajorGC: true, includeObjectsCollectedByMinorGC: true };
    await this.send('HeapProfiler.startSampling', all);
  }

  /** Bytes since then. */
  async counted() {
    const { profile } = await this.send('HeapProfiler.stopSampling');
    const sum = (node) => node.children.reduce((total, child) => total + sum(child), node.selfSize);
    return sum(profile.head);
  }

  /** Waits until the browser has compiled it: how long that was, in s. `null` if it was not done when it should have been. */
  async settle() {
    for (let stretch = 1; stretch <= MOST_STRETCHES; stretch++) {
      await this.count();
      await wait(STRETCH);
      if ((await this.counted()) < STILL) return (stretch * STRETCH) / 1000;
    }
    return null;
  }
}

async function figures(page) {
  return page.evaluate(() => {
    const of = (id) => parseFloat(document.getElementById(id).textContent);
    const output = window.contexts.at(-1).playbackStats;
    const holes = output ? { events: output.underrunEvents, seconds: output.underrunDuration } : null;
    return { underruns: of('underruns'), concealed: of('concealed'), lost: of('lost'), buffer: of('buffer'), holes };
  });
}

const measures = {
  async echo(page, seen, [cancels]) {
    if (cancels === 'no') {
      await page.click('summary');
      await page.uncheck('#echo');
    }
    await talk(page);
    await answered(page);
    [seen.heard] = await save(page, 'heard.wav');
  },

  async loopback(page, seen, [seconds]) {
    const worklet = await Worklet.of(page);
    await talk(page);
    await wait(WARM_UP);
    const before = await figures(page);
    seen.settled = await worklet.settle();
    await worklet.count();
    await wait(1000 * seconds);
    seen.garbage = await worklet.counted();
    const after = await figures(page);
    seen.rate = await page.evaluate(() => window.contexts.at(-1).sampleRate);
    for (const name of ['underruns', 'concealed', 'lost']) seen[name] = after[name] - before[name];
    seen.buffer = after.buffer;
    seen.holes = after.holes && { events: after.holes.events - before.holes.events, seconds: after.holes.seconds - before.holes.seconds };
    [seen.heard] = await save(page, 'both.wav');
  },

  async idle(page, seen, [seconds]) {
    const worklet = await Worklet.of(page);
    await talk(page);
    await wait(WARM_UP);
    seen.settled = await worklet.settle();
    await worklet.count();
    await wait(1000 * seconds);
    seen.garbage = await worklet.counted();
  },
};

run(async (seen) => {
  const [what, ...more] = rest;
  const browser = await launch();
  const query = what !== 'echo' ? '?loopback=1&record=both&mode=realtime' : '';
  const idle = 'export const CODED_RATE = 24_000, FRAME_MS = 20; export class AudioPath { process() {} close() {} }';
  const address = what === 'idle' ? await front(url, { '/page/audio.js': idle }) : url;
  // The page keeps its audio context to itself.
  const page = await visit(browser, address + query, seen, {}, () => {
    window.contexts = [];
    window.AudioContext = class extends AudioContext {
      constructor(options) {
        super(options);
        window.contexts.push(this);
      }
    };
  });
  await measures[what](page, seen, more);
}, 400_000);
