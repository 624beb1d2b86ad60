// Keeps a page live: replaces each section by its newer version, as the server sends it.
'use strict';

const line = document.getElementById('live');
const { live } = document.body.dataset;
const newer = new Map();
let isPaused = false;
let isPressed = false;

/** Whether a section is to stay as it is: the pointer is on a button in it, or a text is marked. */
const isInUse = (section) =>
  isPaused || isPressed || section.querySelector('button:hover') || !getSelection().isCollapsed;

function show() {
  for (const [id, html] of newer) {
    const section = document.getElementById(id);
    if (!section || isInUse(section)) continue;
    newer.delete(id);
    if (section.innerHTML === html) continue;
    const focused = section.contains(document.activeElement) && document.activeElement.id;
    const scrolled = section.querySelector('.scroll')?.scrollLeft;
    section.innerHTML = html;
    if (scrolled) section.querySelector('.scroll').scrollLeft = scrolled;
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }
}

if (live) {
  const source = new EventSource(live);
  const state = document.createElement('span');
  const pause = document.createElement('button');
  const say = (text) => (state.textContent = text);
  const take = ({ data }) => {
    for (const [id, html] of Object.entries(JSON.parse(data))) newer.set(id, html);
    show();
  };
  pause.type = 'button';
  pause.textContent = 'Pause';
  pause.addEventListener('click', () => {
    isPaused = !isPaused;
    pause.textContent = isPaused ? 'Go on' : 'Pause';
    say(isPaused ? 'Paused' : 'Live');
    show();
  });
  line.prepend(state, ' ', pause, ' ');
  const end = () => {
    source.close();
    pause.remove();
    say('Ended');
  };
  source.addEventListener('open', () => say(isPaused ? 'Paused' : 'Live'));
  source.addEventListener('error', () => say(source.readyState === 2 ? 'Not live' : 'Not connected'));
  source.addEventListener('sections', take);
  source.addEventListener('last', (event) => (take(event), end()));
  source.addEventListener('end', end);
  addEventListener('pointerdown', () => (isPressed = true));
  for (const up of ['pointerup', 'pointercancel']) {
    addEventListener(up, () => setTimeout(() => ((isPressed = false), show())));
  }
}
