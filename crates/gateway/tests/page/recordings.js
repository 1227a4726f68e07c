// Recordings in the microphone's place, within a call: what is chosen last is heard whole, whatever plays or is asked at that moment.
'use strict';
const { answered, inState, launch, microphone, run, save, url, visit } = require('./driver.js');

run(async (seen) => {
  const browser = await launch();
  const page = await visit(browser, `${url}?mode=manual`, seen);
  const playing = () => page.waitForFunction(() => document.getElementById('file-state').textContent.startsWith('Playing'));

  // One more while the first has not got beyond its silence: its end must not be that of the second.
  await page.setInputFiles('#file', microphone);
  await inState(page, 'talking');
  await playing();
  await page.setInputFiles('#file', microphone);
  await answered(page);
  [seen.second] = await save(page, 'second.wav');
  await page.waitForFunction(() => document.getElementById('file-state').textContent.startsWith('It was played'));
  await page.click('#talk');
  await inState(page, 'idle');
  await page.context().close();

  // While the browser asks for the microphone: it waits for the answer, and is played then.
  const waiting = await visit(browser, url, seen, {}, () => {
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    const allowed = new Promise((resolve) => (window.allow = resolve));
    navigator.mediaDevices.getUserMedia = (wanted) => allowed.then(() => open(wanted));
  });
  await waiting.click('#talk');
  await waiting.waitForFunction(() => document.getElementById('state').textContent.includes('Waiting for the microphone'));
  await waiting.setInputFiles('#file', microphone);
  await waiting.waitForFunction(() => document.getElementById('file-state').textContent.includes('as soon as there is a call'));
  await waiting.evaluate(() => window.allow());
  await waiting.waitForFunction(() => document.getElementById('file-state').textContent.startsWith('Playing'));
  await answered(waiting);
  [seen.afterTheQuestion] = await save(waiting, 'after-the-question.wav');
});
