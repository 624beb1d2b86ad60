// The page of `examples/debug_page.rs` in a headless Chromium, against its server.
//
// Run: node debug_page.mjs CHROMIUM URL SCREENSHOTS

import assert from 'node:assert/strict';
import axe from 'axe-core';
import { chromium } from 'playwright-core';

const [executablePath, url, screenshots] = process.argv.slice(2);
const LIMIT = 60_000;
const calls = `${url}/debug/calls`;

const browser = await chromium.launch({ executablePath, timeout: LIMIT });

/** Runs `test` on a page of its own, and sees to it that the browser has nothing to complain of. */
async function onPage(options, test) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 }, ...options });
  context.setDefaultTimeout(LIMIT);
  const page = await context.newPage();
  const wrong = [];
  page.on('pageerror', (error) => wrong.push(`error: ${error.message}`));
  page.on('console', (message) => {
    if (message.type() === 'error') wrong.push(message.text());
  });
  page.on('request', (request) => {
    const isOwn = request.url().startsWith(`${url}/`);
    const isIcon = request.url() === `${url}/favicon.ico`;
    if (!isOwn && !isIcon) wrong.push(`request: ${request.url()}`);
  });
  await page.goto(calls);
  await test(page);
  assert.deepEqual(wrong, []);
  await context.close();
}

/**
 * Asks a program; a limit is in seconds. Returns when the answer is there. The LM of `slow` does not
 * answer: such a call goes on until it is cancelled, its client goes, or its limit passes.
 */
const ask = (program, limit = 30, signal = undefined) =>
  fetch(`${url}/ask/${program}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-request-timeout': String(limit) },
    body: JSON.stringify({ question: 'Why is the sky blue?' }),
    signal,
  });

/** Looks again until it is so. */
async function until(what, isSo) {
  const end = Date.now() + LIMIT;
  while (!(await isSo())) {
    assert.ok(Date.now() < end, `waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Asks `slow`; returns a function that goes away from the call. */
function hang() {
  const controller = new AbortController();
  const slow = ask('slow', 30, controller.signal).catch(() => undefined);
  return async () => {
    controller.abort();
    await slow;
  };
}

const row = (page, program) => page.locator('table.calls tbody tr', { hasText: program }).first();

async function listsAndUpdatesLive(page) {
  await until('a live page', async () => (await page.locator('#live').textContent()).includes('Live'));
  const goAway = hang();
  const shown = row(page, 'slow');
  await shown.waitFor();
  await until('the LM call', async () =>
    /gpt-slow .* waiting for the first byte/.test(await shown.textContent()),
  );
  const figure = () => shown.locator('td').nth(2).textContent();
  const before = await figure();
  await until('the time to go on', async () => (await figure()) !== before);
  const used = () => shown.locator('svg rect').nth(1).getAttribute('width');
  const width = Number(await used());
  await until('the bar to grow', async () => Number(await used()) > width);

  await page.getByRole('button', { name: 'Pause' }).click();
  await goAway();
  await new Promise((resolve) => setTimeout(resolve, 2500));
  assert.ok(await shown.isVisible(), 'a paused page stays as it is');
  await page.getByRole('button', { name: 'Go on' }).click();
  await until('the end of the call', async () => !(await shown.isVisible()));
}

async function cancelsByKeyboard(page) {
  const slow = ask('slow');
  const button = row(page, 'slow').getByRole('button', { name: /^Cancel call \d+$/ });
  await button.waitFor();
  await button.focus();
  const id = await button.getAttribute('id');
  // The row is replaced each second; the button keeps the focus.
  await new Promise((resolve) => setTimeout(resolve, 2500));
  assert.equal(await page.evaluate(() => document.activeElement.id), id);
  await Promise.all([page.waitForURL(calls), page.keyboard.press('Enter')]);
  const { status } = await slow;
  assert.ok(status >= 400, `the call was answered with ${status}`);
  await page.locator('a.neutral[id$="-cancelled"]').waitFor();
}

async function opensTheTimelineOfALateCall(page) {
  const late = await ask('slow', 0.5);
  assert.equal(late.status, 504);
  await Promise.all([...Array(60)].map(() => ask('quick')));
  await page.reload();
  await page.locator('a[id^="cell-"][id$="-late"]').first().click();
  await page.getByRole('heading', { name: /slow/ }).waitFor();
  await page.locator('table.calls tbody a').first().click();
  await page.getByRole('heading', { name: 'Timeline' }).waitFor();
  assert.match(await page.locator('.state').textContent(), /^Timed out after/);
  assert.ok(await page.locator('svg.tl').isVisible());
  const fill = await page.locator('svg.tl').evaluate((svg) => getComputedStyle(svg).fontSize);
  assert.equal(fill, '12px', 'the style of the timeline is there');
  assert.match(await page.locator('.story').textContent(), /deadline passed/);
  const download = page.waitForEvent('download');
  await page.getByRole('link', { name: 'file for Perfetto' }).click();
  assert.match((await download).suggestedFilename(), /^call-\d+\.perfetto\.json$/);
  await page.getByRole('link', { name: 'All calls' }).click();
  await page.waitForURL(calls);
}

async function followsACallToItsEnd(page) {
  const goAway = hang();
  const link = row(page, 'slow').locator('a');
  await link.waitFor();
  await link.click();
  await page.getByRole('heading', { name: 'Timeline' }).waitFor();
  await goAway();
  await until('its end', async () =>
    /^Cancelled \(client gone\) after/i.test(await page.locator('.state').textContent()),
  );
  await until('the end of the stream', async () =>
    (await page.locator('#live').textContent()).includes('Ended'),
  );
}

async function showsWhatAnAnswerCost(page) {
  const answer = await ask('research');
  assert.equal(answer.status, 200);
  const id = answer.headers.get('x-call-id');
  await page.goto(`${calls}/${id}`);
  assert.match(await page.locator('.state').textContent(), /^Completed after/);
  assert.equal(await page.locator('.costs li').count(), 4);
}

async function readsWithoutScripts(page) {
  const slow = ask('slow');
  await until('the call', async () => {
    await page.getByRole('link', { name: 'Refresh' }).click();
    return row(page, 'slow').isVisible();
  });
  await page.getByRole('link', { name: 'time', exact: true }).click();
  await page.waitForURL(`${calls}?by=time`);
  assert.ok(await page.getByText('≥100').isVisible());
  await Promise.all([
    page.waitForURL(`${calls}?by=time`),
    row(page, 'slow').getByRole('button', { name: /^Cancel/ }).click(),
  ]);
  assert.ok((await slow).status >= 400);
}

async function isAccessible(page) {
  // The page's own policy lets no script in: the check runs in a world of its own.
  const session = await page.context().newCDPSession(page);
  const { frameTree } = await session.send('Page.getFrameTree');
  const { executionContextId: contextId } = await session.send('Page.createIsolatedWorld', {
    frameId: frameTree.frame.id,
  });
  const run = (expression) =>
    session.send('Runtime.evaluate', { expression, contextId, awaitPromise: true, returnByValue: true });
  await run(`${axe.source}; undefined`);
  const { result } = await run('axe.run().then(({ violations }) => violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html)}`))');
  assert.deepEqual(result.value, []);
}

/** The pictures are for people. */
async function looksGood(page, scheme) {
  const goAway = [hang(), hang()];
  const others = ['research', 'quick', 'busy'].map((program) => ask(program));
  await row(page, 'slow').waitFor();
  await new Promise((resolve) => setTimeout(resolve, 1500));
  await isAccessible(page);
  await page.screenshot({ path: `${screenshots}/${scheme}-calls.png`, fullPage: true });
  await Promise.all([...goAway.map((go) => go()), ...others]);
  await page.goto(`${calls}?by=time`);
  await page.screenshot({ path: `${screenshots}/${scheme}-by-time.png`, fullPage: true });
  await isAccessible(page);
  await page.goto(calls);
  await page.locator('a[id^="cell-"][id$="-late"]').first().click();
  await page.locator('table.calls').waitFor();
  await isAccessible(page);
  await page.screenshot({ path: `${screenshots}/${scheme}-samples.png`, fullPage: true });
  await page.locator('table.calls tbody a').first().click();
  await page.locator('svg.tl').waitFor();
  await isAccessible(page);
  await page.screenshot({ path: `${screenshots}/${scheme}-call.png`, fullPage: true });
}

async function fitsNarrowScreens(page) {
  const goAway = hang();
  await row(page, 'slow').waitFor();
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= 360, `${width} px`);
  await page.screenshot({ path: `${screenshots}/narrow.png`, fullPage: true });
  await goAway();
}

try {
  await onPage({}, listsAndUpdatesLive);
  await onPage({}, cancelsByKeyboard);
  await onPage({}, opensTheTimelineOfALateCall);
  await onPage({}, followsACallToItsEnd);
  await onPage({}, showsWhatAnAnswerCost);
  await onPage({ javaScriptEnabled: false }, readsWithoutScripts);
  await onPage({ viewport: { width: 360, height: 700 } }, fitsNarrowScreens);
  for (const colorScheme of ['light', 'dark']) {
    await onPage({ colorScheme }, (page) => looksGood(page, colorScheme));
  }
} finally {
  await browser.close();
}
console.log(`Chromium ${browser.version()}: ok`);
