// What the scenarios share: a browser with a microphone that plays a file, and what must never happen, watched all along. A scenario is a
// program: `node SCENARIO.js CHROMIUM URL MICROPHONE.wav FOLDER [ARG...]`. It prints what it saw as its last line, as JSON; a line before
// that begins with `ASK` wants something of the test.
'use strict';
const path = require('path');
const { chromium } = require('playwright-core');

const [program, url, microphone, folder, ...rest] = process.argv.slice(2);
const screenshots = process.env.SCREENSHOTS;

/** `says` is what the browser answers when the page asks for the microphone: `yes`, or nothing, which is a no; `has`, whether there is one. */
async function launch({ says = 'yes', has = true, more = [] } = {}) {
  // Containers have no sandbox to give; the page is our own.
  const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-sync'];
  if (has) args.push('--use-fake-device-for-media-stream', `--use-file-for-fake-audio-capture=${microphone}`);
  else args.push('--disable-audio-input');
  if (says === 'yes') args.push('--use-fake-ui-for-media-stream');
  // A page that is hidden is treated as browsers treat it.
  const ignoreDefaultArgs = ['--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding', '--disable-background-timer-throttling'];
  const browser = await chromium.launch({ executablePath: program, args: [...args, ...more], ignoreDefaultArgs });
  browser.on('disconnected', () => fail(new Error('the browser is gone')));
  return browser;
}

/** A page in a context of its own, watched; `first` runs in it before anything else does. */
async function visit(browser, address, seen, options = {}, first = () => {}) {
  const context = await browser.newContext({ colorScheme: 'light', acceptDownloads: true, viewport: { width: 1000, height: 900 }, ...options });
  const page = await context.newPage();
  pages.push(page);
  page.setDefaultTimeout(30_000);
  page.on('crash', () => fail(new Error('the page crashed')));
  page.on('pageerror', (error) => seen.errors.push(String(error)));
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && seen.errors.push(message.text()));
  context.on('request', (request) => {
    const at = new URL(request.url());
    if (at.protocol !== 'blob:' && at.host !== new URL(address).host) seen.elsewhere.push(request.url());
  });
  await page.addInitScript(first);
  await page.goto(address);
  return page;
}

const inState = (page, state) => page.waitForFunction((wanted) => document.body.dataset.state === wanted, state);
const says = (page, part) => page.waitForFunction((wanted) => document.getElementById('state').textContent.includes(wanted), part);

/** Presses Talk, and waits until there is a call. */
async function talk(page) {
  await page.click('#talk');
  await inState(page, 'talking');
}

/** Until an answer began, and until it ended. */
const answers = (page) => page.waitForSelector('#interrupt:not([hidden])');
async function answered(page) {
  await answers(page);
  await page.waitForSelector('#interrupt', { state: 'hidden' });
  // What was sent plays a little longer.
  await page.waitForTimeout(600);
}

/** Saves what was heard by the page's own button. */
async function save(page, name) {
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#save')]);
  const file = path.join(folder, name);
  await download.saveAs(file);
  return [file, download.suggestedFilename()];
}

async function picture(page, name) {
  if (screenshots) await page.screenshot({ path: path.join(screenshots, `page-${name}.png`), fullPage: true });
}

/** Wants something of the test. */
const ask = (what) => console.log(`ASK ${what}`);

/** Those there are, to be asked what they say when something fails. */
const pages = [];
let fail;

function run(scenario, most = 100_000) {
  const seen = { errors: [], elsewhere: [] };
  const failed = new Promise((_, reject) => (fail = reject));
  setTimeout(() => fail(new Error('it takes too long')), most);
  Promise.race([scenario(seen), failed]).then(
    () => {
      // The browser goes with it.
      console.log(JSON.stringify(seen));
      process.exit(0);
    },
    async (error) => {
      const states = pages.filter((page) => !page.isClosed()).map((page) => page.textContent('#state', { timeout: 1000 }).catch(String));
      console.error(error, JSON.stringify(seen), await Promise.all(states));
      process.exit(1);
    },
  );
}

module.exports = { answered, answers, ask, folder, inState, launch, microphone, picture, rest, run, save, says, talk, url, visit };
