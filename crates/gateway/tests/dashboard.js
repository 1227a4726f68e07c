// Looks at the dashboard as an operator does, in Chromium, and prints what it saw as one line of JSON.
'use strict';
const fs = require('fs');
const path = require('path');
const { chromium } = require('playwright-core');

const [program, port, token, screenshots] = process.argv.slice(2);
const SIZES = { desktop: { width: 1280, height: 800 }, phone: { width: 360, height: 740 } };
const seen = { errors: [], elsewhere: [], sizes: {} };

(async () => {
  // Containers have no sandbox to give; the page is our own.
  const args = ['--no-sandbox', '--disable-gpu', '--host-resolver-rules=MAP elsewhere.test 127.0.0.1'];
  const browser = await chromium.launch({ executablePath: program, args });
  const context = await browser.newContext({ colorScheme: 'light', acceptDownloads: true });
  const page = await context.newPage();
  page.setDefaultTimeout(30000);
  page.on('pageerror', error => seen.errors.push(String(error)));
  page.on('console', message => message.type() === 'error' && seen.errors.push(message.text()));
  page.on('request', request => {
    const at = new URL(request.url());
    if (at.protocol !== 'blob:' && at.host !== `127.0.0.1:${port}`) seen.elsewhere.push(request.url());
  });

  await page.goto(`http://127.0.0.1:${port}/`);
  // A curve takes a few samples.
  await page.waitForFunction(() =>
    [...document.querySelectorAll('.call polyline')].some(line => line.getAttribute('points').split(' ').length > 3));
  for (const [name, size] of Object.entries(SIZES)) {
    await page.setViewportSize(size);
    seen.sizes[name] = await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);
    if (screenshots) await page.screenshot({ path: path.join(screenshots, `dashboard-${name}.png`), fullPage: true });
  }
  if (screenshots) {
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.screenshot({ path: path.join(screenshots, 'dashboard-dark.png'), fullPage: true });
  }
  seen.state = await page.textContent('#state');
  seen.page = await page.$eval('#page', link => link.hidden ? null : link.href);
  seen.tiles = await page.locator('#tiles .tile').allTextContents();
  seen.lanes = await page.locator('#lanes .tile').count();
  seen.calls = await page.locator('.call').allTextContents();
  seen.plots = await page.locator('.call svg').count();

  // The page is drawn anew every two seconds: what a finger is on must stay in place.
  const before = await page.locator('.call button').first().elementHandle();
  await page.waitForTimeout(4500);
  seen.stays = await before.evaluate(button => button.isConnected);

  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.locator('.call button', { hasText: 'Trace' }).first().click(),
  ]);
  seen.trace = JSON.parse(fs.readFileSync(await download.path()));
  seen.traceName = download.suggestedFilename();

  // Under another name than this machine's own, the token is asked for.
  const stranger = await context.newPage();
  stranger.setDefaultTimeout(30000);
  await stranger.goto(`http://elsewhere.test:${port}/`);
  await stranger.waitForSelector('#login:not([hidden])');
  seen.strangerCalls = await stranger.locator('.call').count();
  await stranger.fill('#token', 'wrong');
  await stranger.press('#token', 'Enter');
  await stranger.waitForTimeout(1000);
  seen.wrongToken = await stranger.isVisible('#login');
  await stranger.fill('#token', token);
  await stranger.press('#token', 'Enter');
  await stranger.waitForSelector('.call');
  seen.loginLeft = await stranger.isVisible('#login');
  await browser.close();
  console.log(JSON.stringify(seen));
})().catch(error => {
  console.error(error, JSON.stringify(seen));
  process.exit(1);
});
