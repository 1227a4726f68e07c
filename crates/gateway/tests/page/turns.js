// Who speaks is chosen anew within a call: amid an answer, and while the button is held.
'use strict';
const { launch, run, talk, url, visit } = require('./driver.js');

run(async (seen) => {
  const browser = await launch();
  const page = await visit(browser, `${url}?mode=realtime`, seen);
  const hears = (text) =>
    page.waitForFunction((wanted) => [...document.querySelectorAll('#lines .tts')].some((line) => line.textContent === wanted), text);
  const choose = (mode) => page.evaluate((value) => document.querySelector(`input[value=${value}]`).click(), mode);
  await talk(page);
  await hears('I hear you.');
  // Taking turns, the microphone rests until the answer is over.
  await choose('auto');
  await hears('Nobody speaks into it.');
  await hears('Your turn.');

  // The button goes away under the finger: that is no end of what is said now.
  await choose('manual');
  const box = await page.locator('#hold').boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  await page.waitForSelector('#hold.pressed');
  await choose('auto');
  await page.mouse.up();
  await hears('Still there.');
  await choose('manual');
  seen.isHeld = await page.isVisible('#hold.pressed');
});
