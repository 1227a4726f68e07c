// A network that is cut, comes back, and stands still: the page says so, and calls anew by itself. Then the gateway drains.
'use strict';
const net = require('net');
const { answered, ask, inState, launch, microphone, picture, run, save, says, talk, url, visit } = require('./driver.js');

/** The network between the browser and the gateway. */
class Network {
  #target = Number(new URL(url).port);
  #pairs = new Set();
  /** Bytes that the gateway never sent, to come right behind its answer to the next upgrade. */
  injected = null;
  #server = net.createServer((from) => this.#carry(from));
  isDown = false;

  async open() {
    await new Promise((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${this.#server.address().port}/`;
  }

  #carry(from) {
    const to = net.connect(this.#target, '127.0.0.1');
    const pair = [from, to];
    if (this.isDown) from.resetAndDestroy();
    this.#pairs.add(pair);
    from.pipe(to);
    to.on('data', (data) => {
      from.write(data);
      if (!this.injected || !data.toString('latin1').startsWith('HTTP/1.1 101')) return;
      from.write(this.injected);
      this.injected = null;
    });
    for (const end of pair) {
      end.on('error', () => {});
      end.on('close', () => {
        this.#pairs.delete(pair);
        pair.forEach((other) => other.destroy());
      });
    }
  }

  cut() {
    this.isDown = true;
    for (const pair of this.#pairs) pair.forEach((end) => end.resetAndDestroy());
  }

  heal() {
    this.isDown = false;
  }

  /** Nothing comes through any more, and nobody is told. */
  stall() {
    for (const [from, to] of this.#pairs) {
      from.unpipe(to);
      from.pause();
      to.pause();
    }
  }
}

/** A frame of a server (RFC 6455, 5.2), shorter than 126 bytes. */
const frame = (opcode, payload) => Buffer.concat([Buffer.from([0x80 | opcode, payload.length]), payload]);
const text = (message) => frame(1, Buffer.from(JSON.stringify(message)));

run(async (seen) => {
  const network = new Network();
  // Nothing of this belongs to the session: it neither ends the call, nor does an answer begin.
  network.injected = Buffer.concat([
    text({ type: 'goodbye', session_id: 'other', reason: 'room_ended' }),
    text({ type: 'tts', state: 'start', session_id: 'other' }),
    text({ type: 'stt', text: 'of nobody', session_id: 'other' }),
    frame(2, Buffer.from([0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0x48, 0xff, 0xfe])),
  ]);
  const browser = await launch();
  const page = await visit(browser, await network.open(), seen);
  const state = () => page.textContent('#state');
  await talk(page);
  seen.ofNobody = await page.$$eval('#lines li', (lines) => lines.length);

  network.cut();
  await says(page, 'connection broke');
  seen.cut = await state();
  await says(page, 'cannot be reached');
  seen.away = await state();
  await picture(page, 'waiting');
  // A recording waits too.
  await page.setInputFiles('#file', microphone);
  await page.waitForFunction(() => document.getElementById('file-state').textContent.includes('as soon as there is a call'));
  network.heal();
  await inState(page, 'talking');
  await page.waitForFunction(() => document.getElementById('file-state').textContent.startsWith('Playing'));
  // The first answer may be to half of what was said.
  await answered(page);
  await answered(page);
  [seen.heardAfterwards] = await save(page, 'after-the-cut.wav');

  network.stall();
  await says(page, 'gone silent');
  seen.stalled = await state();
  await inState(page, 'talking');

  // Nothing that the browser says of a network that is not there is an error of the page.
  seen.errors = seen.errors.filter((error) => !/net::ERR_|WebSocket connection to .* failed/.test(error));

  ask('drain');
  await says(page, 'takes no calls');
  seen.draining = await state();
  await page.click('#talk');
  await inState(page, 'idle');
});
