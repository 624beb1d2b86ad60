// Vercel's AI SDK, by the class that `useChat` is made of, against a server of UI messages.
//
// Run: node ui_client.mjs URL QUESTION [--scripted]

import assert from 'node:assert/strict';
import { AbstractChat, DefaultChatTransport, isTextUIPart } from 'ai';

const [url, question, ...rest] = process.argv.slice(2);
const scripted = rest.includes('--scripted');

class State {
  status = 'ready';
  error = undefined;
  messages = [];
  pushMessage = message => void this.messages.push(message);
  popMessage = () => void this.messages.pop();
  replaceMessage = (index, message) => void (this.messages[index] = message);
  snapshot = value => structuredClone(value);
}

class Chat extends AbstractChat {
  constructor() {
    const state = new State();
    const data = [];
    super({
      id: 'chat',
      state,
      transport: new DefaultChatTransport({ api: url }),
      onData: part => data.push(part),
      onError: () => {},
      onFinish: end => void (this.end = end),
    });
    this.data = data;
  }

  async ask(text) {
    await this.sendMessage({ text });
    return this.messages.at(-1);
  }
}

const textOf = message => message.parts.filter(isTextUIPart).map(part => part.text).join('');
const partsOf = (message, type) => message.parts.filter(part => part.type === type);

async function answers() {
  const chat = new Chat();
  const message = await chat.ask(question);
  assert.equal(chat.status, 'ready', chat.error);
  assert.equal(chat.end.finishReason, 'stop');
  assert.equal(message.role, 'assistant');
  const [prediction] = partsOf(message, 'data-prediction');
  assert.equal(textOf(message), prediction.data.outputs.answer);
  for (const part of message.parts.filter(isTextUIPart)) {
    assert.equal(part.state, 'done');
  }
  assert.ok(prediction.data.usage.total_tokens > 0);
  if (!scripted) return;
  assert.deepEqual(
    partsOf(message, 'reasoning').map(part => part.text),
    ['The user wants to know.', 'Short waves are scattered more.'],
  );
  const [tool] = partsOf(message, 'dynamic-tool');
  assert.equal(tool.toolName, 'search');
  assert.equal(tool.state, 'output-available');
  assert.deepEqual(tool.output, ['light', 'air']);
  assert.equal(partsOf(message, 'step-start').length, 2);
  assert.deepEqual(
    chat.data.filter(part => part.type === 'data-status').map(part => part.data),
    [{ message: 'Searching' }],
  );
  assert.equal(partsOf(message, 'data-status').length, 0);

  // The turn before goes into the history.
  const second = await chat.ask(question);
  assert.equal(partsOf(second, 'data-prediction')[0].data.outputs.turns, 1);
}

async function restarts() {
  for (const [text, named] of [
    ['restart', []],
    ['drafts', ['1.answer', '2.reasoning', '2.answer']],
  ]) {
    const message = await new Chat().ask(text);
    const [prediction] = partsOf(message, 'data-prediction');
    const restarted = partsOf(message, 'data-restart').flatMap(part => part.data.parts);
    assert.deepEqual(restarted, named);
    const holds = part => !restarted.includes(part.providerMetadata?.towerDspy.part);
    const parts = message.parts.filter(holds);
    assert.equal(textOf({ parts }), prediction.data.outputs.answer);
  }
}

async function fails() {
  for (const [text, wrong] of [
    ['deadline', /deadline passed/],
    ['lost', /is gone/],
  ]) {
    const chat = new Chat();
    const message = await chat.ask(text);
    assert.equal(chat.status, 'error');
    assert.match(chat.error.message, wrong);
    assert.ok(chat.end.isError);
    assert.equal(partsOf(message, 'data-prediction').length, 0);
    assert.ok(message.parts.filter(isTextUIPart).some(part => part.state === 'streaming'));
  }
  const chat = new Chat();
  await chat.ask('busy');
  assert.equal(chat.status, 'error');
  assert.match(chat.error.message, /lm_unavailable/);
}

async function stops() {
  const chat = new Chat();
  const asked = chat.ask(scripted ? 'stall' : question);
  const hasText = message => message.role === 'assistant' && textOf(message);
  while (!chat.end && !chat.messages.some(hasText)) {
    await new Promise(resolve => setTimeout(resolve, 1));
  }
  await chat.stop();
  const message = await asked;
  assert.equal(chat.status, 'ready', chat.error);
  if (!scripted) return;
  assert.ok(chat.end.isAbort);
  assert.equal(textOf(message), 'Rayleigh');
  assert.equal(partsOf(message, 'data-prediction').length, 0);
}

await answers();
await stops();
if (scripted) {
  await restarts();
  await fails();
}
console.log('ai: ok');
