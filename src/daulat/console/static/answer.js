// One message of a conversation as elements: the text, and under an answer where it came from, how fast,
// under which record, and, where it is not complete, that and why.

import { isOpen } from "./chat.js";
import { copy, h, icon, say } from "./dom.js";
import { number, t, tn } from "./i18n.js";
import { show } from "./markdown.js";

const PATIENCE = 2000; // milliseconds before the page says how long it has been waiting
const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** The element of a message; `update()` on it shows what has changed since. */
export function messageView(message, last, actions) {
  return message.role === "user"
    ? question(message, last, actions)
    : answer(message, last, actions);
}

function question(message, last, actions) {
  const tools = h(
    "div",
    { class: "tools" },
    copyButton(() => message.text, t("Copy message")),
  );
  if (last) tools.append(button("edit", t("Change this message"), actions.edit));
  const text = h("div", { class: "bubble" }, message.text);
  const element = h("article", { class: "question", "aria-label": t("You") }, tools, text);
  element.update = () => {};
  return element;
}

function answer(message, last, actions) {
  const body = h("div", { class: "answer-body" });
  const waiting = h("p", { class: "waiting" });
  const below = h("div", { class: "below" });
  const element = h(
    "article",
    { class: "answer", "aria-label": t("Answer") },
    body,
    waiting,
    below,
  );
  let text = null;
  let status = null;
  element.update = () => {
    element.setAttribute("aria-busy", String(isOpen(message)));
    element.dataset.status = message.status;
    if (message.text !== text) show(body, message.text, decorate);
    wait(waiting, message);
    if (message.status !== status)
      below.replaceChildren(...(isOpen(message) ? [] : foot(message, last, actions)));
    ({ text, status } = message);
  };
  element.update();
  return element;
}

function wait(element, message) {
  element.hidden = message.status !== "waiting";
  const words = element.hidden ? "" : waitingWords(message);
  const [dots, label] = element.children;
  if (!element.hidden && !dots) {
    element.append(
      h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i")),
      h("span", {}, words),
    );
  } else if (label && label.textContent !== words) label.textContent = words;
}

function waitingWords(message) {
  if (message.retryAt) {
    const seconds = Math.max(1, Math.ceil((message.retryAt - Date.now()) / 1000));
    return tn("The server is busy. Trying again in {count} second.", seconds);
  }
  const waited = Date.now() - (message.since ?? Date.now());
  if (waited < PATIENCE) return "";
  return tn("Waiting for the first word for {count} second.", Math.floor(waited / 1000));
}

// --- under an answer -----------------------------------------------------------

function foot(message, last, actions) {
  const parts = [];
  const trouble = notice(message, actions);
  if (trouble) parts.push(trouble);
  const tools = h("div", { class: "tools" });
  if (message.text) tools.append(copyButton(() => message.text, t("Copy answer")));
  if (last && message.text) tools.append(button("again", t("Answer again"), actions.again));
  if (message.text || message.record)
    parts.push(h("div", { class: "line" }, facts(message), tools));
  return parts;
}

function facts(message) {
  const { timings, usage } = message;
  const items = [
    message.place ? [place(message.place), "place"] : null,
    message.text && message.model ? [message.model, "model"] : null,
    message.cost && message.place !== "this-machine" ? [message.cost, "cost"] : null,
    timings?.tokens_per_second
      ? [t("{speed} tokens/s", { speed: number(timings.tokens_per_second, 1) })]
      : null,
    usage ? [tn("{count} token", usage.completion_tokens), "", promptSize(usage)] : null,
    timings
      ? [t("first token after {seconds} s", { seconds: number(timings.first_token, 2) })]
      : null,
  ].filter(Boolean);
  const list = h("ul", { class: "facts", "aria-label": t("About this answer") });
  for (const [words, kind, title] of items)
    list.append(h("li", { class: kind || null, title }, words));
  if (message.record) list.append(h("li", {}, recordButton(message.record)));
  return list;
}

const promptSize = (usage) => tn("The conversation up to here: {count} token", usage.prompt_tokens);

function place(value) {
  if (value !== "this-machine") return value;
  if (LOOPBACK.test(location.hostname)) return t("on this machine");
  return t("on the machine {host}", { host: location.hostname });
}

function recordButton(record) {
  const short = record.length > 20 ? `${record.slice(0, 12)}…${record.slice(-4)}` : record;
  const element = h("button", { type: "button", class: "record", title: record }, short);
  element.setAttribute("aria-label", t("Copy the record number {record}", { record }));
  element.addEventListener("click", async () => {
    await copy(record);
    confirm(element, t("Record number copied"));
  });
  return element;
}

function confirm(element, words) {
  say(words);
  element.classList.add("did");
  setTimeout(() => element.classList.remove("did"), 1600);
}

// --- when an answer is not whole -------------------------------------------------

const REASONS = {
  invalid_api_key: "The server needs a key that it knows.",
  permission_denied: "Your key may not do this.",
  model_not_found: "The server does not have this model any more. Please choose another one above.",
  request_too_large: "The message is larger than the server takes.",
  queue_full: "The server is still busy after many tries.",
  unavailable: "The server cannot answer now.",
  unreachable: "The server could not be reached.",
  invalid_model_file: "The model's files are damaged or cannot be read.",
  record_unavailable: "The server cannot write its record, so it does not answer.",
};

function notice(message, actions) {
  const words = noticeWords(message);
  if (!words) return null;
  const element = h("div", { class: `notice ${message.status}` }, icon(ICONS[message.status]));
  const text = h("div", {}, h("p", {}, words));
  const detail = message.error?.message;
  if (detail && !saysAll(message.error))
    text.append(h("p", { class: "detail", lang: "en" }, detail));
  const next = nextStep(message, actions);
  if (next) text.append(next);
  element.append(text);
  return element;
}

const ICONS = {
  stopped: "stop",
  length: "down",
  broken: "warn",
  failed: "warn",
  waiting: "warn",
  writing: "warn",
};

function noticeWords(message) {
  if (message.status === "done") return null;
  if (message.status === "stopped") return t("You stopped this answer; it is not complete.");
  if (message.status === "length")
    return t("The answer ended at its token limit; it may not be complete.");
  if (message.status === "broken") return t("The answer broke off; what you see is not complete.");
  if (message.error?.code === "context_length_exceeded") return tooLong(message.error.message);
  return t(REASONS[message.error?.code] ?? "This message was not answered.");
}

const NUMBERS = [/context of (\d+)/, /needs (\d+)/];

/** The server names both numbers in its sentence; without them that sentence is shown as it is. */
function tooLong(message) {
  const [limit, needed] = NUMBERS.map((each) => each.exec(message));
  if (!limit || !needed) return t("This conversation is longer than the model can read.");
  return t("This conversation needs {needed} tokens; the model reads at most {limit}.", {
    needed: number(Number(needed[1])),
    limit: number(Number(limit[1])),
  });
}

/** Whether our own words already carry everything that the server's sentence says. */
function saysAll({ code, param, message }) {
  if (code === "context_length_exceeded")
    return param === null && NUMBERS.every((each) => each.test(message));
  return ["invalid_api_key", "queue_full"].includes(code);
}

function nextStep(message, actions) {
  const code = message.error?.code;
  if (code === "context_length_exceeded")
    return textButton(t("Ask in a new conversation"), actions.anew);
  if (code === "invalid_api_key") return textButton(t("Enter the key"), actions.key);
  if (message.status === "broken" || message.status === "failed")
    return textButton(t("Try again"), actions.again);
  return null;
}

// --- small parts -----------------------------------------------------------------

const textButton = (words, onclick) =>
  h("button", { type: "button", class: "secondary", onclick }, words);

const button = (name, words, onclick) =>
  h(
    "button",
    { type: "button", class: "plain", "aria-label": words, title: words, onclick },
    icon(name),
  );

function copyButton(text, words) {
  const element = button("copy", words, async () => {
    await copy(text());
    const mark = element.firstChild;
    mark.replaceWith(icon("done"));
    say(t("Copied"));
    setTimeout(() => element.firstChild.replaceWith(icon("copy")), 1600);
  });
  return element;
}

/** Gives code its bar with language and copy button, and wide tables room to scroll. */
function decorate(fragment) {
  for (const pre of fragment.querySelectorAll("pre")) {
    const code = pre.querySelector("code") ?? pre;
    const language = /language-(\S+)/.exec(code.className)?.[1] ?? "";
    const bar = h(
      "div",
      { class: "code-bar" },
      h("span", {}, language),
      copyButton(() => code.textContent, t("Copy code")),
    );
    const frame = h("div", { class: "code" });
    pre.replaceWith(frame);
    pre.tabIndex = 0;
    frame.append(bar, pre);
  }
  for (const table of fragment.querySelectorAll("table")) {
    const frame = h("div", { class: "wide-table", tabindex: "0" });
    table.replaceWith(frame);
    frame.append(table);
  }
}
