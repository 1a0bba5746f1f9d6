// The thread of one conversation on the page, and scrolling that follows new text only while the reader
// is at the end of it. Knows how messages look; decides nothing.

import { messageView } from "./answer.js";
import { h, say } from "./dom.js";
import { t } from "./i18n.js";

const NEAR = 64; // pixels from the end that still count as being there
const FRAME = 50; // milliseconds between two drawings of a growing answer
const STARTS = [
  "Explain in simple words how the tides work.",
  "Write a polite e-mail that moves a meeting to Thursday.",
  "Give me a Python function that counts the words in a text.",
];

const thread = document.getElementById("thread");
const messages = document.getElementById("messages");
const welcome = document.getElementById("welcome");
const jump = document.getElementById("jump");

let views = new Map(); // message -> element
let following = true;
let drawing = 0;
const pending = new Set();

/** Draws a whole conversation. */
export function draw(conversation, actions) {
  const { messages: all } = conversation;
  const at = thread.scrollTop;
  const lastQuestion = all.findLastIndex((message) => message.role === "user");
  views = new Map();
  pending.clear();
  messages.replaceChildren();
  all.forEach((message, index) => {
    const last = message.role === "user" ? index === lastQuestion : index === all.length - 1;
    const element = messageView(message, last, actions);
    views.set(message, element);
    messages.append(element);
  });
  if (all.at(-1)?.role === "user") messages.append(unanswered(actions));
  drawWelcome(all.length === 0, actions);
  thread.scrollTop = at;
  follow();
}

function unanswered(actions) {
  const button = h(
    "button",
    { type: "button", class: "secondary", onclick: actions.again },
    t("Ask again"),
  );
  return h(
    "div",
    { class: "notice failed" },
    h("div", {}, h("p", {}, t("This message was not answered.")), button),
  );
}

function drawWelcome(visible, actions) {
  welcome.hidden = !visible;
  const starts = document.getElementById("starts");
  starts.replaceChildren(
    ...STARTS.map((words) =>
      h("button", { type: "button", onclick: () => actions.start(t(words)) }, t(words)),
    ),
  );
}

/** Shows what has changed in one answer; many calls make few drawings. */
export function update(message) {
  pending.add(message);
  if (drawing) return;
  drawing = setTimeout(() => {
    drawing = 0;
    for (const each of pending) views.get(each)?.update();
    pending.clear();
    follow();
  }, FRAME);
}

/** Lets answers that wait say for how long. */
setInterval(() => {
  for (const message of views.keys()) if (message.status === "waiting") update(message);
}, 1000);

/** Tells listeners that an answer is on its way. */
export const begin = () => say(t("The answer is being written."));

/** Shows an answer that has ended, at once, and reads it to listeners. */
export function finish(message) {
  views.get(message)?.update();
  follow();
  say(views.get(message)?.innerText ?? "");
}

// --- scrolling -------------------------------------------------------------------

const distance = () => thread.scrollHeight - thread.scrollTop - thread.clientHeight;

function follow() {
  if (following) thread.scrollTop = thread.scrollHeight;
  jump.hidden = distance() < NEAR;
}

/** From now on the newest text stays in sight, until the reader scrolls away from it. */
export function goToEnd() {
  following = true;
  follow();
}

let top = 0;
thread.addEventListener(
  "scroll",
  () => {
    // Moving up is the reader's wish; text that grows only moves the end away.
    if (thread.scrollTop < top - 1) following = false;
    if (distance() < NEAR / 2) following = true;
    top = thread.scrollTop;
    jump.hidden = distance() < NEAR;
  },
  { passive: true },
);
thread.addEventListener(
  "wheel",
  (event) => {
    if (event.deltaY < 0) following = false;
  },
  { passive: true },
);
jump.addEventListener("click", () => {
  goToEnd();
  document.getElementById("draft").focus({ preventScroll: true });
});
new ResizeObserver(() => follow()).observe(thread);
