// What a person is told who may not: no microphone, a page that is not secure, a wrong token.
'use strict';
const { answered, inState, launch, microphone, picture, rest, run, save, says, talk, url, visit } = require('./driver.js');

const [insecure, signed, deviceId, clientId, token] = rest;

run(async (seen) => {
  const browser = await launch({ says: 'no', more: ['--host-resolver-rules=MAP elsewhere.test 127.0.0.1'] });
  const state = (page) => page.textContent('#state');

  // This one is a browser that cannot wait for what the worklet leaves, and has to look (Firefox until 2025).
  let page = await visit(browser, url, seen);
  const worker = page.workers()[0] ?? (await page.waitForEvent('worker'));
  await worker.evaluate(() => (Atomics.waitAsync = undefined));
  await page.click('#talk');
  await says(page, 'microphone was refused');
  seen.noMicrophone = await state(page);
  await picture(page, 'refused');
  // A recording needs none.
  await page.setInputFiles('#file', microphone);
  await inState(page, 'talking');
  await answered(page);
  [seen.heardOfFile] = await save(page, 'without-microphone.wav');
  await page.context().close();

  page = await visit(browser, insecure, seen);
  seen.insecure = await state(page);
  seen.insecureTalk = await page.isDisabled('#talk');
  await picture(page, 'insecure');
  // What the browser itself says of that.
  seen.errors = seen.errors.filter((error) => !/Cross-Origin-Opener-Policy header has been ignored/.test(error));
  await page.context().close();

  page = await visit(browser, signed, seen, { permissions: ['microphone'] });
  await says(page, 'a token only');
  seen.asksForToken = await page.isVisible('#token');
  await page.fill('#device-id', deviceId);
  await page.fill('#client-id', clientId);
  await page.fill('#token', 'wrong.1');
  await page.click('#talk');
  await says(page, 'did not let this device in');
  seen.wrongToken = await state(page);
  await picture(page, 'wrong-token');
  await page.fill('#device-id', 'me');
  await page.click('#talk');
  await says(page, 'MAC address');
  seen.focus = await page.evaluate(() => document.activeElement.id);
  await page.fill('#device-id', deviceId);
  await page.fill('#token', token);
  await talk(page);
  await page.context().close();

  // The same by the address, where the token does not stay.
  const query = new URLSearchParams({ 'device-id': deviceId, 'client-id': clientId, token });
  page = await visit(browser, `${signed}?${query}`, seen, { permissions: ['microphone'] });
  seen.address = new URL(page.url()).search;
  await talk(page);

  // Another page with the same ids takes the call over, and both say what happened.
  const other = await visit(browser, `${signed}?${query}`, seen, { permissions: ['microphone'] });
  await talk(other);
  await says(page, 'took over');
  seen.taken = await page.evaluate(() => document.body.dataset.state);
});
