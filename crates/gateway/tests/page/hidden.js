// A page that is hidden while the answer plays: audio goes on. Also over TLS. A driver keeps its own pages in view, so this one is driven
// by the protocol of Chromium's tools (Target, Runtime).
'use strict';
const fs = require('fs');
const path = require('path');
const { folder, launch, run, url } = require('./driver.js');

class Tab {
  #cdp;
  #session;
  #waiting = new Map();
  #calls = 0;

  static async open(cdp, address) {
    const tab = new Tab();
    tab.#cdp = cdp;
    tab.target = (await cdp.send('Target.createTarget', { url: address })).targetId;
    tab.#session = (await cdp.send('Target.attachToTarget', { targetId: tab.target, flatten: false })).sessionId;
    cdp.on('Target.receivedMessageFromTarget', ({ sessionId, message }) => {
      const { id, result, error } = JSON.parse(message);
      if (sessionId === tab.#session) tab.#waiting.get(id)?.(result ?? error);
    });
    return tab;
  }

  show() {
    return this.#cdp.send('Target.activateTarget', { targetId: this.target });
  }

  /** The value of an expression in the page. */
  async value(expression) {
    const id = ++this.#calls;
    const params = { expression, awaitPromise: true, returnByValue: true, userGesture: true };
    const message = JSON.stringify({ id, method: 'Runtime.evaluate', params });
    const answer = new Promise((resolve) => this.#waiting.set(id, resolve));
    await this.#cdp.send('Target.sendMessageToTarget', { sessionId: this.#session, message });
    const { result, exceptionDetails } = await answer;
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description}`);
    return result?.value;
  }

  async until(expression) {
    const end = Date.now() + 30_000;
    while (!(await this.value(expression))) {
      if (Date.now() > end) throw new Error(`never came true: ${expression}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

run(async (seen) => {
  const browser = await launch({ more: ['--ignore-certificate-errors'] });
  const cdp = await browser.newBrowserCDPSession();
  const tab = await Tab.open(cdp, url);
  await tab.until("document.getElementById('talk')?.disabled === false && window.crossOriginIsolated");
  await tab.value("document.getElementById('talk').click()");
  await tab.until("!document.getElementById('interrupt').hidden");

  const other = await Tab.open(cdp, 'about:blank');
  await other.show();
  await tab.until("document.visibilityState === 'hidden'");
  await tab.until("document.getElementById('interrupt').hidden");
  await new Promise((resolve) => setTimeout(resolve, 600));
  seen.wasHidden = await tab.value("document.visibilityState === 'hidden'");
  await tab.show();
  await tab.until("document.visibilityState === 'visible'");
  seen.state = await tab.value('document.body.dataset.state');
  const wav = await tab.value(`import('/page/call.js').then(({ recorded }) => recorded()).then((wav) => new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(wav);
  }))`);
  seen.heard = path.join(folder, 'while-hidden.wav');
  fs.writeFileSync(seen.heard, Buffer.from(wav.split(',')[1], 'base64'));
});
