// The page for labels: shows answers without saying whose they are, and sends what a person says of them.
// Who labels what is the server's affair; this page knows one item at a time.

import { ApiError, labelTasks, sendLabel } from "./api.js";
import { h, icon, say } from "./dom.js";
import { currentLanguage, languages, number, setLanguage, t, tn } from "./i18n.js";
import { show } from "./markdown.js";
import * as store from "./store.js";

const find = (id) => document.getElementById(id);
const KEY = "daulat.admin-key"; // for this tab: such a key may do more than the one for conversations
const NAME = "daulat.label-name";

let tasks = null; // {tasks, by}
let state = null; // what the server said last
let trouble = null;
let shownAt = 0;
let busy = false;
let began = false;

// --- what can be said -------------------------------------------------------------------------------

const scale = () => find("scale").value.split("-").map(Number);
const isPairwise = () => find("kind").value === "pairwise";

/** [{key, words, value}]: the labels, in the order of their buttons. */
function labels() {
  if (isPairwise()) {
    return [
      { key: "1", words: () => t("Answer {number} is better", { number: 1 }), value: 1 },
      { key: "0", words: () => t("Equally good"), value: 0.5 },
      { key: "2", words: () => t("Answer {number} is better", { number: 2 }), value: 0 },
    ];
  }
  const [low, high] = scale();
  const words = (points) => {
    if (low === 0 && high === 1) return points ? t("right") : t("wrong");
    return null;
  };
  return Array.from({ length: high - low + 1 }, (_, index) => ({
    key: String(low + index),
    words: () => words(low + index),
    value: index / (high - low),
  }));
}

// --- drawing ----------------------------------------------------------------------------------------

function draw() {
  const words = trouble?.() ?? "";
  find("banner").hidden = !words;
  find("banner").replaceChildren(...(words ? [icon("warn"), h("span", {}, words)] : []));
  find("begin").hidden = began || !tasks;
  find("work").hidden = !began || !state?.item;
  find("done").hidden = !began || !state || Boolean(state.item);
  find("scale-field").hidden = isPairwise();
  if (began && state) drawState();
  document.title = `${t("Label answers")} · Daulat`;
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === currentLanguage()));
  }
}

function drawState() {
  find("task-name").textContent = state.task;
  find("progress").textContent = t("{done} of {all}", {
    done: number(Math.min(state.done + 1, state.all)),
    all: number(state.all),
  });
  find("bar").style.inlineSize = `${state.all ? (100 * state.done) / state.all : 0}%`;
  find("done-words").textContent = tn("{count} label is given.", state.done);
  if (state.item) drawItem();
}

function drawItem() {
  const { prompt, references, answers } = state.item;
  find("prompt").textContent = prompt;
  find("reference-box").hidden = !references.length;
  find("reference").textContent = references.join("\n\n");
  find("panes").replaceChildren(...answers.map((answer, index) => pane(answer, index + 1)));
  find("choices").classList.toggle("pairs", isPairwise());
  find("choices").replaceChildren(...choices());
}

function pane(answer, place) {
  const title = isPairwise() ? t("Answer {number}", { number: place }) : t("The answer");
  const body = h("div", { class: "answer-body" });
  if (answer.trim()) show(body, answer);
  else body.append(h("p", { class: "empty" }, t("The answer is empty.")));
  return h("section", { class: "pane", "aria-label": title }, h("h2", { class: "pane-title" }, title), body);
}

function choices() {
  const given = labels().map(({ key, words, value }) =>
    h("button", { type: "button", "data-key": key, onclick: () => answer(value) }, h("kbd", {}, key), words()),
  );
  if (!isPairwise() && given.length > 2) {
    given.unshift(h("span", { class: "end" }, t("worst")));
    given.push(h("span", { class: "end" }, t("best")));
  }
  const aside = (key, words, action) =>
    h("button", { type: "button", class: "aside", "data-key": key, onclick: action }, h("kbd", {}, key.toUpperCase()), words);
  return [
    ...given,
    h("span", { class: "break" }),
    aside("s", t("Cannot tell"), () => answer(null)),
    aside("u", t("Take back"), undo),
  ];
}

// --- talking with the server ------------------------------------------------------------------------

function kept(name, value) {
  const place = name === KEY ? "sessionStorage" : "localStorage";
  try {
    if (value !== undefined) window[place].setItem(name, value);
    return window[place].getItem(name);
  } catch {
    return null;
  }
}

const key = () => kept(KEY) ?? store.key();

async function load() {
  trouble = null;
  find("key-form").hidden = true;
  try {
    tasks = await labelTasks(key());
    fillTasks();
  } catch (error) {
    fail(error);
  }
  draw();
}

function fillTasks() {
  const wanted = new URLSearchParams(location.search);
  const options = tasks.tasks.map(({ name }) => h("option", { value: name }, name));
  find("task").replaceChildren(...options);
  if (wanted.get("task")) find("task").value = wanted.get("task");
  if (find("task").selectedIndex < 0) find("task").selectedIndex = 0;
  if (!find("by").value) find("by").value = wanted.get("by") ?? kept(NAME) ?? tasks.by;
  if (wanted.get("n")) find("n").value = wanted.get("n");
  chooseKind(wanted.get("kind"), wanted.get("scale"));
  if (!tasks.tasks.length) {
    trouble = () => t("No task has answers yet: “daulat compare” lets endpoints answer one.");
  }
}

function chooseKind(wanted, points) {
  const task = tasks.tasks.find(({ name }) => name === find("task").value);
  if (!task) return;
  find("kind").querySelector("[value=pairwise]").disabled = task.endpoints < 2;
  find("kind").value = task.endpoints < 2 ? "score" : (wanted ?? task.kind);
  if (find("kind").selectedIndex < 0) find("kind").value = task.kind;
  find("scale").value = points ?? task.scale;
  if (find("scale").selectedIndex < 0) find("scale").selectedIndex = 0;
}

/** Asks what comes next, after a label or without one. */
async function send(change) {
  if (busy) return;
  busy = true;
  setBusy();
  trouble = null;
  const [low, high] = scale();
  const session = {
    by: find("by").value.trim(),
    kind: find("kind").value,
    n: Number(find("n").value),
    seed: Number(new URLSearchParams(location.search).get("seed")) || 0,
    low,
    high,
  };
  try {
    state = await sendLabel(find("task").value, { ...session, ...change }, key());
    began = true;
  } catch (error) {
    fail(error);
  }
  busy = false;
  draw();
  setBusy();
  if (began && !trouble) present();
}

function setBusy() {
  for (const button of find("choices").querySelectorAll("button")) button.disabled = busy;
}

/** From the top, for eyes and for who listens. */
function present() {
  shownAt = performance.now();
  scrollTo(0, 0);
  (state.item ? find("prompt") : find("done-title")).focus({ preventScroll: true });
  if (state.item) say(find("progress").textContent);
}

function answer(value) {
  if (!state?.item) return;
  const seconds = Math.min((performance.now() - shownAt) / 1000, 86_400);
  send({ item: state.item.item, value, seconds });
}

const undo = () => send({ undo: true });

function fail(error) {
  const status = error instanceof ApiError ? error.status : 0;
  if (status === 401 || status === 403) {
    trouble = () => t("This page needs a key with the scope admin.");
    began = false;
    tasks = null;
    find("key-form").hidden = false;
    find("key").focus();
  } else if (status === 400 || status === 404) {
    const { message } = error;
    trouble = () => message;
  } else if (status) {
    trouble = () => t("The server cannot answer now.");
  } else {
    trouble = () => t("The server could not be reached.");
  }
}

// --- hands ------------------------------------------------------------------------------------------

find("session").addEventListener("submit", (event) => {
  event.preventDefault();
  kept(NAME, find("by").value.trim());
  send({});
});
find("task").addEventListener("change", () => {
  chooseKind(null, null);
  draw();
});
find("kind").addEventListener("change", draw);
find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  kept(KEY, find("key").value.trim());
  find("key").value = "";
  load();
});
for (const id of ["change", "done-more"]) {
  find(id).addEventListener("click", () => {
    began = false;
    load();
  });
}
find("done-undo").addEventListener("click", undo);
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea");
  if (typing || event.repeat || event.ctrlKey || event.metaKey || event.altKey || !began) return;
  const pressed = event.key.toLowerCase();
  if (!state?.item) {
    if (pressed === "u") undo();
    return;
  }
  find("choices").querySelector(`[data-key="${CSS.escape(pressed)}"]`)?.click();
});
for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    store.setLanguage(button.dataset.language);
    setLanguage(button.dataset.language);
    draw();
  });
}

// A key that came in the address is kept, and taken out of it before anything else happens.
const brought = new URLSearchParams(location.hash.slice(1)).get("key");
if (brought !== null) {
  history.replaceState(null, "", location.pathname + location.search);
  if (brought) kept(KEY, brought.trim());
}
const tongue = store.language();
if (tongue && languages.includes(tongue)) setLanguage(tongue);
load();
