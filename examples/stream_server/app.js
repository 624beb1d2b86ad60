// Asks the program and shows its answer as it is written. All text goes through `textContent`.

const at = (id) => document.getElementById(id);
const form = at('form');
const question = at('question');
const fields = at('fields');

/** Ends the request under way. */
let stopper = null;

form.addEventListener('submit', (event) => {
  event.preventDefault();
  if (!stopper) ask();
});
question.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
at('stop').addEventListener('click', stop);
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') stop();
});

/** Closes the connection: the server cancels the call, and closes that of the LM. */
function stop() {
  stopper?.abort();
}

async function ask() {
  stopper = new AbortController();
  const began = performance.now();
  const answer = new Answer(began);
  setBusy(true);
  say('Waiting for the first word …');
  try {
    const response = await fetch('/qa', {
      method: 'POST',
      headers: {
        accept: 'text/event-stream',
        'content-type': 'application/json',
        'x-request-timeout': at('limit').value,
      },
      body: JSON.stringify({ question: question.value }),
      signal: stopper.signal,
    });
    if (!response.ok) {
      const problem = await response.json().catch(() => ({}));
      fail(problem.title ?? `Status ${response.status}`, problem.detail);
      return;
    }
    for await (const { name, data } of serverSentEvents(response.body)) {
      answer.take(name, JSON.parse(data));
    }
    if (!answer.hasEnded) fail('The answer was cut off', 'The connection was closed before its end.');
  } catch (error) {
    if (error.name === 'AbortError') say(`Stopped after ${seconds(began)}.`);
    else fail('The server cannot be reached', error.message);
  } finally {
    // Nothing is left open, also if the events could not be read.
    stopper.abort();
    stopper = null;
    answer.end();
    setBusy(false);
  }
}

/** The events of a body of `text/event-stream`. What `EventSource` does, which cannot POST. */
async function* serverSentEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let name = 'message';
  let data = [];
  while (true) {
    const { value, done } = await reader.read();
    if (done) return;
    // A `\r\n` may be cut in two, so a `\r` at the end waits for what follows.
    const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield { name, data: data.join('\n') };
        name = 'message';
        data = [];
        continue;
      }
      const [key] = line.split(':', 1);
      const text = line.slice(key.length + 1).replace(/^ /, '');
      if (key === 'event') name = text;
      if (key === 'data') data.push(text);
    }
  }
}

/** One answer on the page. */
class Answer {
  hasEnded = false;
  #began;
  #firstText = null;
  /** By the name of the field: its LM call, its element. */
  #fields = new Map();
  #tools = new Map();

  constructor(began) {
    this.#began = began;
    fields.replaceChildren();
    at('tool-calls').replaceChildren();
    for (const id of ['tools', 'usage', 'error']) at(id).hidden = true;
  }

  take(name, data) {
    // Names that are not known are those of a newer server.
    this[`on_${name}`]?.(data);
  }

  on_text({ lm_call, field, delta }) {
    this.#firstText ??= seconds(this.#began);
    this.#write(field, lm_call, delta);
  }

  on_thinking({ lm_call, delta }) {
    // No name of a field has a space.
    this.#write('model’s thinking', lm_call, delta);
  }

  on_replace({ lm_call, field, text }) {
    this.#write(field, lm_call, text, true);
  }

  on_restart({ lm_call }) {
    for (const [name, field] of this.#fields) {
      if (field.lmCall !== lm_call) continue;
      field.element.remove();
      this.#fields.delete(name);
    }
    say('The LM is asked again …');
  }

  on_status({ message }) {
    say(message);
  }

  on_tool_call({ id, name, arguments: given }) {
    const item = document.createElement('li');
    item.textContent = `${name}(${JSON.stringify(given)}) …`;
    at('tool-calls').append(item);
    at('tools').hidden = false;
    this.#tools.set(id, { item, call: `${name}(${JSON.stringify(given)})` });
  }

  on_tool_result({ id, result, error }) {
    const tool = this.#tools.get(id);
    if (!tool) return;
    tool.item.textContent = `${tool.call} → ${error ?? JSON.stringify(result)}`;
    tool.item.classList.toggle('wrong', error !== undefined);
  }

  /** The answer is that of the prediction, whatever was shown before. */
  on_done({ outputs, usage, elapsed_ms }) {
    this.hasEnded = true;
    for (const [name, value] of Object.entries(outputs)) {
      this.#show(name, typeof value === 'string' ? value : JSON.stringify(value, null, 2));
    }
    const first = this.#firstText ? `, the first text after ${this.#firstText}` : '';
    const { prompt_tokens: read, completion_tokens: written } = usage;
    at('usage').textContent =
      `${written} tokens written, ${read} read, in ${(elapsed_ms / 1000).toFixed(1)} s${first}.`;
    at('usage').hidden = false;
    say('Done.');
  }

  on_error({ title, detail }) {
    this.hasEnded = true;
    fail(title, detail);
  }

  end() {
    for (const { element } of this.#fields.values()) element.classList.remove('written');
  }

  /** Adds to a field, or replaces its text; a later LM call writes it anew. */
  #write(name, lmCall, text, isWhole = false) {
    const field = this.#fields.get(name) ?? this.#add(name);
    if (lmCall < field.lmCall) return;
    if (isWhole || lmCall > field.lmCall) field.text.textContent = '';
    if (!field.element.classList.contains('written')) {
      this.end();
      field.element.classList.add('written');
      say(`Writing: ${name} …`);
    }
    field.lmCall = lmCall;
    field.text.append(text);
  }

  #show(name, text) {
    const field = this.#fields.get(name) ?? this.#add(name);
    if (field.text.textContent !== text) field.text.textContent = text;
  }

  #add(name) {
    const element = document.createElement('article');
    const heading = document.createElement('h2');
    const text = document.createElement('p');
    element.className = name === 'answer' ? 'field' : 'field aside';
    element.dataset.field = name;
    heading.textContent = name;
    element.append(heading, text);
    fields.append(element);
    const field = { element, text, lmCall: 0 };
    this.#fields.set(name, field);
    return field;
  }
}

function say(text) {
  at('status').textContent = text;
}

function fail(title, detail) {
  say('Failed.');
  at('error-title').textContent = title;
  at('error-detail').textContent = detail ?? '';
  at('error').hidden = false;
}

function setBusy(isBusy) {
  // A button that is `disabled` would lose the focus.
  at('ask').ariaDisabled = String(isBusy);
  at('stop').ariaDisabled = String(!isBusy);
  fields.ariaBusy = String(isBusy);
}

function seconds(since) {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`;
}
