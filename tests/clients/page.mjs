// The page of `examples/stream_server.rs` in a headless Chromium, against its server.
//
// Run: node page.mjs CHROMIUM URL SCREENSHOTS [--refused]
//
// The server's LM is the scripted one; with `--refused`, one that cannot be reached.

import assert from 'node:assert/strict';
import axe from 'axe-core';
import { chromium } from 'playwright-core';

const [executablePath, url, screenshots, ...rest] = process.argv.slice(2);
const LIMIT = 60_000;
const WRITTEN = /^\d+ tokens written, \d+ read, in [\d.]+ s, the first text after [\d.]+ s\.$/;

const browser = await chromium.launch({ executablePath, timeout: LIMIT });

/** Runs `test` on a page of its own, and sees to it that the browser has nothing to complain of. */
async function onPage(options, test) {
  const context = await browser.newContext({ viewport: { width: 900, height: 760 }, ...options });
  context.setDefaultTimeout(LIMIT);
  const page = await context.newPage();
  const wrong = [];
  page.on('pageerror', (error) => wrong.push(`error: ${error.message}`));
  page.on('console', (message) => {
    // A status that is no 200 is reported here too.
    const isStatus = message.text().startsWith('Failed to load resource');
    if (message.type() === 'error' && !isStatus) wrong.push(message.text());
  });
  page.on('request', (request) => {
    const isOwn = request.url().startsWith(`${url}/`) || request.url() === 'data:,';
    if (!isOwn) wrong.push(`request: ${request.url()}`);
  });
  await page.goto(url);
  await test(page);
  assert.deepEqual(wrong, []);
  await context.close();
}

const button = (page, name) => page.getByRole('button', { name });
const field = (page, name) => page.locator(`[data-field="${name}"] p`);
const text = (locator) => locator.textContent();
const count = async (locator) => ((await locator.count()) ? (await text(locator)).length : 0);

/** Looks again until it is so. */
async function until(what, isSo) {
  const end = Date.now() + LIMIT;
  while (!(await isSo())) {
    assert.ok(Date.now() < end, `waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const isIdle = (page) => button(page, 'Stop').isDisabled();
const ended = (page) => until('the end of the answer', () => isIdle(page));

/** Answers the page's request with these lines, at once. */
const answers = (page, lines) =>
  page.route('**/qa', (route) =>
    route.fulfill({ contentType: 'text/event-stream', body: `${lines.join('\r\n')}\r\n\r\n` }),
  );

const event = (name, data) => [`event: ${name}`, `data: ${JSON.stringify(data)}`, ''];

async function servesStrictly() {
  for (const path of ['/', '/app.js', '/style.css']) {
    const { headers } = await fetch(url + path);
    const policy = headers.get('content-security-policy');
    assert.match(policy, /default-src 'none'.*script-src 'self'/);
    assert.doesNotMatch(policy, /unsafe|\*/);
    assert.equal(headers.get('x-content-type-options'), 'nosniff');
  }
}

async function growsWhileItIsWritten(page) {
  const body = JSON.stringify({ question: 'Why is the sky blue?' });
  const headers = { 'content-type': 'application/json' };
  const whole = fetch(`${url}/qa`, { method: 'POST', headers, body }).then((it) => it.json());
  await page.evaluate(() => {
    const fields = document.querySelector('[aria-live]');
    globalThis.seen = { busy: [], reasoning: [], answer: [] };
    new MutationObserver(() => {
      seen.busy.push(fields.ariaBusy);
      for (const field of fields.querySelectorAll('[data-field]')) {
        const texts = seen[field.dataset.field];
        const text = field.querySelector('p').textContent;
        if (text !== texts.at(-1)) texts.push(text);
      }
    }).observe(fields, { childList: true, characterData: true, subtree: true });
  });
  // By keyboard alone: the question has a text, Enter asks.
  await page.getByLabel('Question').focus();
  await page.keyboard.press('Enter');
  await ended(page);
  const { busy, ...seen } = await page.evaluate(() => seen);
  assert.ok(busy.every((busy) => busy === 'true'), 'a live region that grows is not read out');
  const { outputs, usage } = await whole;
  for (const [name, texts] of Object.entries(seen)) {
    assert.ok(texts.length > 5, `${name} was shown in ${texts.length} steps`);
    texts.reduce((before, now) => (assert.ok(now.startsWith(before), now), now));
    assert.equal(await text(field(page, name)), outputs[name]);
  }
  assert.equal(await page.locator('[aria-live]').getAttribute('aria-busy'), 'false');
  const line = await text(page.locator('#usage'));
  assert.match(line, WRITTEN);
  assert.ok(line.startsWith(`${usage.completion_tokens} tokens`), line);
  assert.equal(await text(page.getByRole('status')), 'Done.');
}

async function stops(page, stop) {
  await button(page, 'Ask').click();
  await until('some text', async () => (await count(field(page, 'reasoning'))) > 20);
  await stop(page);
  await ended(page);
  assert.match(await text(page.getByRole('status')), /^Stopped after [\d.]+ s\.$/);
  // What was written stays, and no more comes.
  const [before, answer] = [await count(field(page, 'reasoning')), await count(field(page, 'answer'))];
  assert.ok(before > 20);
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(await count(field(page, 'reasoning')), before);
  assert.equal(await count(field(page, 'answer')), answer);
  assert.equal(await page.getByRole('alert').isVisible(), false);
}

async function showsWhatFails(page) {
  await page.getByLabel('Time limit').fill('4');
  await button(page, 'Ask').click();
  await ended(page);
  const alert = page.getByRole('alert');
  assert.equal(await text(page.getByRole('status')), 'Failed.');
  assert.match(await text(alert), /Gateway Timeout\s+the request's deadline passed/);
  assert.ok((await count(field(page, 'reasoning'))) > 0, 'the text that had come stays');
}

async function showsAllKindsOfEvents(page) {
  // With a separator of lines that JSON has as it is, and that ends no line of an event.
  const markup = '<img src=x onerror="document.title = 1">\u2028<b>bold</b>';
  const at = { predictor: 'react' };
  await answers(page, [
    ': a comment',
    '',
    ...event('status', { message: 'Searching' }),
    ...event('thinking', { ...at, lm_call: 1, delta: 'Hmm.' }),
    ...event('tool_call', { id: 1, name: 'search', arguments: { query: markup } }),
    ...event('tool_call', { id: 2, name: 'fetch', arguments: {} }),
    ...event('tool_result', { id: 2, name: 'fetch', error: 'not found' }),
    ...event('tool_result', { id: 1, name: 'search', result: ['light', 1] }),
    ...event('text', { ...at, lm_call: 2, field: 'answer', delta: 'a draft' }),
    ...event('restart', { ...at, lm_call: 2 }),
    ...event('text', { ...at, lm_call: 3, field: 'reasoning', delta: 'wrong' }),
    ...event('replace', { ...at, lm_call: 3, field: 'reasoning', text: 'right' }),
    ...event('text', { ...at, lm_call: 3, field: 'answer', delta: markup }),
    ...event('of a newer server', {}),
    ...event('done', {
      outputs: { reasoning: 'right', answer: markup, score: { sure: 0.5 } },
      usage: { prompt_tokens: 9, completion_tokens: 2, total_tokens: 11 },
      elapsed_ms: 412,
    }),
  ]);
  await button(page, 'Ask').click();
  await ended(page);
  const tools = await page.getByRole('listitem').allTextContents();
  assert.deepEqual(tools, [
    `search({"query":${JSON.stringify(markup)}}) → ["light",1]`,
    'fetch({}) → not found',
  ]);
  const shown = await page.locator('[data-field]').allTextContents();
  assert.deepEqual(shown, [
    'model’s thinkingHmm.',
    'reasoningright',
    `answer${markup}`,
    'score{\n  "sure": 0.5\n}',
  ]);
  assert.equal(await page.locator('main img, main b').count(), 0);
  assert.equal(await page.title(), 'Ask a DSPy program');
  assert.match(await text(page.locator('#usage')), /^2 tokens written, 9 read, in 0\.4 s/);
}

async function showsThatAnAnswerWasCutOff(page) {
  const cut = { lm_call: 1, predictor: 'self', field: 'answer', delta: 'Because' };
  await answers(page, event('text', cut));
  await button(page, 'Ask').click();
  await ended(page);
  assert.match(await text(page.getByRole('alert')), /cut off/);
  assert.equal(await text(field(page, 'answer')), 'Because');
}

async function showsThatTheLmIsUnreachable(page) {
  await button(page, 'Ask').click();
  await ended(page);
  assert.match(await text(page.getByRole('alert')), /Service Unavailable/);
  await page.screenshot({ path: `${screenshots}/refused.png` });
}

async function isAccessible(page) {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => axe.run());
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html)}`);
  assert.deepEqual(found, []);
}

/** While it is written, whole, and failed; the pictures are for people. */
async function looksGood(page, scheme) {
  const picture = (name) =>
    page.screenshot({ path: `${screenshots}/${scheme}-${name}.png`, fullPage: true });
  await isAccessible(page);
  await button(page, 'Ask').click();
  await until('the answer', async () => (await count(field(page, 'answer'))) > 60);
  await picture('written');
  await ended(page);
  await picture('whole');
  await isAccessible(page);
  await showsWhatFails(page);
  await picture('failed');
  await isAccessible(page);
}

async function fitsNarrowScreens(page) {
  await showsAllKindsOfEvents(page);
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= 320, `${width} px`);
  await page.screenshot({ path: `${screenshots}/narrow.png`, fullPage: true });
}

try {
  if (rest.includes('--refused')) {
    await onPage({}, showsThatTheLmIsUnreachable);
  } else {
    await servesStrictly();
    await onPage({}, growsWhileItIsWritten);
    await onPage({}, (page) => stops(page, () => button(page, 'Stop').click()));
    await onPage({}, (page) => stops(page, () => page.keyboard.press('Escape')));
    await onPage({}, showsWhatFails);
    await onPage({}, showsAllKindsOfEvents);
    await onPage({}, showsThatAnAnswerWasCutOff);
    await onPage({ viewport: { width: 320, height: 640 } }, fitsNarrowScreens);
    for (const colorScheme of ['light', 'dark']) {
      await onPage({ colorScheme }, (page) => looksGood(page, colorScheme));
    }
  }
} finally {
  await browser.close();
}
console.log(`Chromium ${browser.version()}: ok`);
