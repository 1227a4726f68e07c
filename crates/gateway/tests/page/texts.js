// What a chat server says is shown; who pushes to talk decides who speaks.
'use strict';
const { inState, launch, picture, run, talk, url, visit } = require('./driver.js');

run(async (seen) => {
  const browser = await launch();
  const page = await visit(browser, `${url}?mode=manual`, seen);
  await talk(page);
  seen.hint = await page.textContent('#state');

  // By the space bar, then with the pointer.
  await page.keyboard.down('Space');
  await page.waitForSelector('#hold.pressed');
  await page.keyboard.up('Space');
  await page.waitForSelector('#lines .tts');
  await page.waitForSelector('#lines .alert');
  await picture(page, 'texts');
  seen.lines = await page.$$eval('#lines li', (lines) => lines.map((line) => `${line.className}: ${line.textContent}`));
  seen.face = await page.getAttribute('#face', 'title');
  seen.markup = await page.$$eval('#lines b', (found) => found.length);

  // Who presses again at once goes on with the same turn.
  await page.waitForTimeout(400);
  const before = seen.lines.length;
  const box = await (await page.$('#hold')).boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.up();
  await page.waitForFunction((count) => document.querySelectorAll('#lines li').length > count, before);

  // Another window takes the keyboard, so nobody sees the key come up.
  await page.keyboard.down('Space');
  await page.waitForSelector('#hold.pressed');
  await page.evaluate(() => window.dispatchEvent(new Event('blur')));
  seen.isHeld = await page.isVisible('#hold.pressed');
  await page.keyboard.up('Space');

  // The other side ends it.
  await page.click('label:has(input[value=realtime])');
  await inState(page, 'idle');
  seen.ended = await page.textContent('#state');
});
