// The page of `examples/app` in a headless Chromium, against its server with the scripted LM.
//
// Run: node app_page.mjs CHROMIUM URL

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const [executablePath, url] = process.argv.slice(2);
const ANSWER = 'The lamp blinks because its battery is low.';

const browser = await chromium.launch({ executablePath });
const page = await browser.newPage();
const wrong = [];
page.on('pageerror', (error) => wrong.push(error.message));
await page.goto(url);
const button = (name) => page.getByRole('button', { name });
const output = page.locator('output');
const isIdle = () => button('Stop').isDisabled();

/** Looks again until it is so. */
async function until(what, isSo) {
  const end = Date.now() + 60_000;
  while (!(await isSo())) {
    assert.ok(Date.now() < end, `waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

// Both are tried again: on a busy machine an answer may be whole when the page is first looked at.
let shown;
await until('a beginning of the answer', async () => {
  shown = new Set();
  await button('Ask').click();
  await until('the answer', async () => {
    shown.add(await output.textContent());
    return isIdle();
  });
  assert.equal(await output.textContent(), ANSWER);
  for (const text of shown) assert.ok(ANSWER.startsWith(text), text);
  return shown.size > 2;
});

let stopped;
await until('an answer that is stopped', async () => {
  await button('Ask').click();
  await until('the first words', async () => (await output.textContent()) !== '');
  await button('Stop').click({ timeout: 1000 }).catch(() => {});
  await until('the end', isIdle);
  stopped = await output.textContent();
  const written = stopped.replace(/ \[stopped\]$/, '');
  assert.ok(ANSWER.startsWith(written), stopped);
  return written !== stopped && written !== ANSWER;
});

assert.deepEqual(wrong, []);
await browser.close();
console.log(`The page showed ${shown.size} texts, and stopped at: ${stopped}`);
