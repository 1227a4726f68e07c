// A conversation with the echo by microphone, with the keyboard alone; then by a recording, in a second call; on each screen.
'use strict';
const { answered, answers, inState, launch, microphone, picture, run, save, url, visit } = require('./driver.js');

const SCREENS = { desktop: { width: 1000, height: 900 }, phone: { width: 360, height: 740 } };

/** On each screen, in light and dark: whether nothing is wider than it, and every target large enough for a finger. */
async function look(page, seen, what) {
  for (const [name, size] of Object.entries(SCREENS)) {
    await page.setViewportSize(size);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      await picture(page, `${what}-${name}-${colorScheme}`);
    }
    const [fits, small] = await page.evaluate(() => {
      const targets = [...document.querySelectorAll('button, label.button, #modes label, summary')].filter((target) => target.offsetWidth > 0);
      const small = targets.filter((target) => target.offsetHeight < 40 || target.offsetWidth < 40).map((target) => target.textContent);
      return [document.documentElement.scrollWidth <= window.innerWidth, small];
    });
    seen.screens[`${what} ${name}`] = fits && small.length === 0 ? true : [fits, small];
  }
  await page.setViewportSize(SCREENS.desktop);
}

run(async (seen) => {
  seen.screens = {};
  const browser = await launch();
  const page = await visit(browser, url, seen);
  await page.waitForSelector('#talk:not([disabled])');
  seen.isolated = await page.evaluate(() => window.crossOriginIsolated);
  await look(page, seen, 'idle');

  // The first thing that Tab comes to is the button, and Enter presses it.
  await page.keyboard.press('Tab');
  seen.first = await page.evaluate(() => document.activeElement.id);
  await page.keyboard.press('Enter');
  await inState(page, 'talking');
  await answers(page);
  await look(page, seen, 'talking');
  await answered(page);
  const text = (id) => page.textContent(`#${id}`);
  seen.figures = {};
  await page.waitForFunction(() => document.getElementById('round-trip').textContent.includes('ms'));
  for (const id of ['round-trip', 'lost', 'concealed', 'jitter', 'buffer', 'underruns']) seen.figures[id] = await text(id);
  [seen.heard, seen.name] = await save(page, 'heard.wav');
  await page.click('#talk');
  await inState(page, 'idle');
  seen.afterwards = await text('state');

  // A recording in the microphone's place begins a call by itself, in the same audio context.
  await page.setInputFiles('#file', microphone);
  await inState(page, 'talking');
  seen.playing = await text('file-state');
  await answered(page);
  [seen.heardOfFile] = await save(page, 'heard-of-file.wav');
  // One that is none says so, and the call goes on.
  await page.setInputFiles('#file', { name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from('no sound') });
  seen.noRecording = await page.textContent('#lines .alert');
  seen.goesOn = await page.evaluate(() => document.body.dataset.state);
  await page.click('summary');
  await look(page, seen, 'settings');

  // The package by itself, as a page that loads it has it.
  seen.loaded = await page.evaluate(async () => {
    const { load } = await import('/wasm/index.js');
    const [simd, plain] = [await load(), await load({ simd: false })];
    return [simd, plain].map(({ OpusEncoder, OpusDecoder }) => {
      const packet = new OpusEncoder(48_000, 1).encode(new Float32Array(960).fill(0.1));
      return new OpusDecoder(48_000, 1).decode(packet).length;
    });
  });
});
