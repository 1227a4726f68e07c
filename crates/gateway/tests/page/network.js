// A network that is cut, comes back, and stands still: the page says so, and calls anew by itself. Then the gateway drains.
'use strict';
const net = require('net');
const { answered, answers, ask, inState, launch, picture, run, save, says, talk, url, visit } = require('./driver.js');

/** The network between the browser and the gateway. */
class Network {
  #target = Number(new URL(url).port);
  #pairs = new Set();
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
    from.pipe(to).pipe(from);
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
      to.unpipe(from);
      from.pause();
      to.pause();
    }
  }
}

run(async (seen) => {
  const network = new Network();
  const browser = await launch();
  const page = await visit(browser, await network.open(), seen);
  const state = () => page.textContent('#state');
  await talk(page);

  network.cut();
  await says(page, 'connection broke');
  seen.cut = await state();
  await says(page, 'cannot be reached');
  seen.away = await state();
  await picture(page, 'waiting');
  network.heal();
  await inState(page, 'talking');
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
