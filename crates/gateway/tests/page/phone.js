// A phone: a finger holds the button while the person speaks, and the echo says it back.
'use strict';
const { answered, launch, picture, run, save, url, visit } = require('./driver.js');

run(async (seen) => {
  const browser = await launch();
  const phone = { viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true };
  const page = await visit(browser, `${url}?mode=manual`, seen, phone);
  await page.tap('#talk');
  await page.waitForSelector('body[data-state=talking]');
  seen.hint = await page.textContent('#state');
  const cdp = await page.context().newCDPSession(page);
  const box = await page.locator('#hold').boundingBox();
  const finger = { x: box.x + box.width / 2, y: box.y + box.height / 2 };
  const touch = (type, touchPoints) => cdp.send('Input.dispatchTouchEvent', { type, touchPoints });
  const loud = () => page.waitForFunction(() => document.getElementById('level-in').value > 0.5);
  const quiet = () => page.waitForFunction(() => document.getElementById('level-in').value < 0.1);

  // From one silence to the next, over all that is said between.
  await quiet();
  await touch('touchStart', [finger]);
  await page.waitForSelector('#hold.pressed');
  await picture(page, 'phone-held');
  await loud();
  await page.waitForTimeout(2200);
  // A finger that moves a little still holds.
  await touch('touchMove', [{ ...finger, y: finger.y + 15 }]);
  seen.stillPressed = await page.isVisible('#hold.pressed');
  await touch('touchEnd', []);
  await page.waitForSelector('#hold:not(.pressed)');
  await answered(page);
  [seen.heard] = await save(page, 'heard-on-a-phone.wav');
});
