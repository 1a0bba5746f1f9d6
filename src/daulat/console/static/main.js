// Ties the page together: what the person does leads to chat, store and view.

import { ApiError, models, Unreachable } from "./api.js";
import * as chat from "./chat.js";
import { isUp, onConnection, suspect } from "./connection.js";
import { h, icon, say } from "./dom.js";
import { currentLanguage, defaultModel, setLanguage, t } from "./i18n.js";
import * as panels from "./panels.js";
import * as side from "./side.js";
import * as store from "./store.js";
import * as view from "./view.js";

const find = (id) => document.getElementById(id);
const draft = find("draft");

let conversation = store.newConversation();
let editing = false;

// --- drawing -----------------------------------------------------------------------

const actions = {
  again: () => {
    if (!chat.isRunning(conversation)) start(chat.again(conversation, changed));
  },
  anew: () => {
    const text = chat.takeBack(conversation);
    store.save(conversation);
    startAnew();
    setDraft(text);
  },
  edit: () => {
    if (chat.isRunning(conversation)) return;
    editing = true;
    setDraft(conversation.messages.findLast((message) => message.role === "user").text);
    drawComposer();
  },
  key: () => panels.askForKey(false),
  start: setDraft,
};

function draw() {
  view.draw(conversation, actions);
  drawSide();
  drawComposer();
}

function drawSide() {
  side.draw(conversation.id, { open: openConversation, remove: removeConversation });
}

function drawComposer() {
  const running = chat.isRunning(conversation);
  find("send").hidden = running;
  find("stop").hidden = !running;
  find("send").disabled = !draft.value.trim() || !isUp() || !find("model").value;
  find("editing").hidden = !editing;
  find("messages").classList.toggle("running", running);
  document.title = conversation.title ? `${conversation.title} · Daulat` : "Daulat";
}

function banner(words, kind = "warn", button = null) {
  const parts = words ? [icon(kind === "good" ? "done" : "warn"), h("span", {}, words)] : [];
  if (button) parts.push(button);
  find("banner").hidden = !words;
  find("banner").className = `banner ${kind}`;
  find("banner").replaceChildren(...parts);
}

let state = "up";
function drawBanner() {
  const words = {
    up: "",
    gone: t("The server is not answering. Your text is kept here, and this page keeps trying."),
    back: t("The server is back."),
    full: t("This browser does not keep conversations now: its store is full or switched off."),
    key: t("The server needs a key that it knows."),
    empty: t("The server has no model yet. Add one with “daulat models pull starter”."),
  };
  const enter = () =>
    h("button", { type: "button", class: "secondary", onclick: actions.key }, t("Enter the key"));
  banner(words[state], state === "back" ? "good" : "warn", state === "key" ? enter() : null);
}

function setState(value) {
  state = value;
  drawBanner();
}

// --- a conversation changes ------------------------------------------------------------

function changed(which, answer) {
  if (which === conversation && chat.isOpen(answer)) view.update(answer);
}

/** Follows one answer from its first moment to its end. */
async function start(answering) {
  const which = conversation;
  draw();
  view.goToEnd();
  const answer = which.messages.at(-1);
  view.begin();
  await answering;
  if (which === conversation) {
    view.finish(answer);
    drawComposer();
  }
  drawSide();
  if (!store.isPersistent()) setState("full");
  if (answer.error) react(answer);
}

function react(answer) {
  if (answer.error.code === "unreachable" || answer.error.code === "broken") suspect();
  if (answer.error.code === "model_not_found") loadModels();
  if (answer.error.status === 401) panels.askForKey(Boolean(store.key()));
}

// --- what the person does ----------------------------------------------------------------

function setDraft(text) {
  draft.value = text;
  store.setDraft(text);
  fit();
  drawComposer();
  draft.focus();
  draft.setSelectionRange(text.length, text.length);
}

/** The box grows with its text, as far as the style lets it. */
function fit() {
  draft.style.height = "auto";
  draft.style.height = `${draft.scrollHeight}px`;
}

function send() {
  const text = draft.value.trim();
  if (!text || chat.isRunning(conversation) || find("send").disabled) return;
  if (editing) chat.takeBack(conversation);
  editing = false;
  setDraft("");
  store.setCurrentId(conversation.id);
  start(chat.send(conversation, text, changed));
}

function cancelEditing() {
  editing = false;
  setDraft("");
}

function startAnew() {
  conversation = store.newConversation();
  store.setCurrentId(null);
  afterOpening();
}

function openConversation(id) {
  const kept = chat.open(id);
  if (!kept) return drawSide();
  conversation = kept;
  store.setCurrentId(id);
  return afterOpening();
}

function afterOpening() {
  if (editing) cancelEditing();
  draw();
  view.goToEnd();
  side.closeDrawer();
  draft.focus();
}

async function removeConversation(id, title) {
  const sure = await panels.ask(
    t("Delete this conversation?"),
    t("“{title}” will be removed from this browser. The server's own record is not touched.", {
      title,
    }),
    t("Delete"),
  );
  if (!sure) return;
  const running = chat.open(id);
  if (running) chat.stop(running);
  store.remove(id);
  if (id === conversation.id) startAnew();
  else drawSide();
}

async function removeAll() {
  const sure = await panels.ask(
    t("Delete all conversations?"),
    t(
      "All conversations will be removed from this browser. The server's own record is not touched.",
    ),
    t("Delete all"),
  );
  if (!sure) return;
  for (const { id } of store.list()) {
    const running = chat.open(id);
    if (running) chat.stop(running);
  }
  store.removeAll();
  startAnew();
}

function switchLanguage(language) {
  setLanguage(language);
  store.setLanguage(language);
  markLanguage();
  panels.describeKey();
  drawBanner();
  draw();
}

function markLanguage() {
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === currentLanguage()));
  }
}

// --- models ------------------------------------------------------------------------------

async function loadModels() {
  try {
    showModels(await models(store.key()));
    setState(find("model").value ? (state === "back" ? "back" : "up") : "empty");
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) {
      setState("key");
      panels.askForKey(Boolean(store.key()));
    } else if (error instanceof Unreachable) suspect();
    else banner(error.message);
    return false;
  } finally {
    drawComposer();
  }
}

function showModels(found) {
  const names = found.map((model) => model.id);
  const wanted = store.preferences().model;
  const picker = find("model");
  picker.replaceChildren(
    ...found.map((model) => h("option", { value: model.id }, modelWords(model))),
  );
  picker.value = [wanted, defaultModel].find((name) => names.includes(name)) ?? names[0] ?? "";
  picker.hidden = names.length === 0;
  chat.useModel(picker.value);
}

/** A model's name; of one elsewhere, with the places that its answers come from. */
function modelWords(model) {
  const places = (model.daulat?.answers ?? []).map((one) => one.place);
  return places.length ? `${model.id} · ${[...new Set(places)].join(", ")}` : model.id;
}

// --- listening -----------------------------------------------------------------------------

function listen() {
  find("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  find("stop").addEventListener("click", () => {
    chat.stop(conversation);
    draft.focus();
  });
  draft.addEventListener("input", () => {
    store.setDraft(draft.value);
    fit();
    drawComposer();
  });
  draft.addEventListener("keydown", (event) => {
    // While a word is being composed (Japanese, Chinese, …), Enter belongs to the input method.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229)
      return;
    event.preventDefault();
    send();
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
    if (side.drawerIsOpen()) side.closeDrawer();
    else if (chat.isRunning(conversation)) chat.stop(conversation);
    else if (editing) cancelEditing();
  });
  find("editing-cancel").addEventListener("click", cancelEditing);
  for (const id of ["new", "new-narrow"]) find(id).addEventListener("click", startAnew);
  find("delete-all").addEventListener("click", removeAll);
  find("model").addEventListener("change", ({ target }) => {
    store.setPreferences({ model: target.value });
    chat.useModel(target.value);
  });
  for (const button of document.querySelectorAll("[data-language]")) {
    button.addEventListener("click", () => switchLanguage(button.dataset.language));
  }
  store.onChangeElsewhere((id) => {
    if (id === conversation.id && !chat.isRunning(conversation)) {
      conversation = chat.open(id) ?? conversation;
      draw();
    } else drawSide();
  });
  addEventListener("hashchange", () => {
    if (panels.takeKeyFromAddress()) loadModels();
  });
}

panels.onKey(async () => {
  const refused = conversation.messages.at(-1)?.error?.status === 401;
  if ((await loadModels()) && refused) actions.again();
});

onConnection(async (up) => {
  setState(up ? "back" : "gone");
  drawComposer();
  if (!up) return;
  say(t("The server is back."));
  await loadModels();
  setTimeout(() => {
    if (state === "back") setState("up");
  }, 4000);
});

panels.takeKeyFromAddress();
const language = store.language();
if (language && language !== currentLanguage()) setLanguage(language);
markLanguage();
conversation = (store.currentId() && chat.open(store.currentId())) || conversation;
draft.value = store.draft();
listen();
draw();
fit();
view.goToEnd();
draft.focus();
loadModels();
