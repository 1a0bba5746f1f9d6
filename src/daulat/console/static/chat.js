// What happens to a conversation: a message is sent, an answer grows, ends, is stopped, breaks, waits.
// Knows the interface and the store; knows nothing of the page, which is told through `changed`.
//
// An answer's status: "waiting" (nothing yet), "writing", "done", "length" (ended at the token limit),
// "stopped" (by the person), "broken" (cut off), "failed" (never began). Only "done" and "length" are
// complete; what a reload finds waiting or writing was cut off.

import { ApiError, Broken, complete, Unreachable } from "./api.js";
import * as store from "./store.js";

const MOST_RETRIES = 10;
const LONGEST_WAIT = 120; // seconds that a busy server may ask for
const SAVE_EVERY = 1000; // milliseconds between two saves of a growing answer

let model = "";
const runs = new Map(); // conversation id -> {controller, conversation}

/** From now on questions go to this model. */
export const useModel = (name) => {
  model = name;
};

export const isRunning = (conversation) => runs.has(conversation.id);

/** The conversation as it stands in memory where an answer is being written, or as it was kept. */
export function open(id) {
  const running = runs.get(id)?.conversation;
  const kept = running ?? store.load(id);
  if (!running) kept?.messages.filter(isOpen).forEach(cutOff);
  return kept;
}

/** What was being written when its page was closed will never be finished. */
function cutOff(answer) {
  answer.status = answer.text ? "broken" : "failed";
  answer.error = { code: "closed", message: "" };
}

export const isOpen = (answer) => answer.status === "waiting" || answer.status === "writing";

export function stop(conversation) {
  runs.get(conversation.id)?.controller.abort();
}

/** Adds a message and asks for its answer. */
export function send(conversation, text, changed) {
  conversation.messages.push({ role: "user", text });
  if (!conversation.title) conversation.title = title(text);
  return ask(conversation, changed);
}

/** Takes the last message back, with its answer; returns its text. */
export function takeBack(conversation) {
  const last = conversation.messages.findLastIndex((message) => message.role === "user");
  const [message] = conversation.messages.splice(last);
  return message?.text ?? "";
}

/** Asks for another answer to the last message, in place of the one that is there. */
export function again(conversation, changed) {
  if (conversation.messages.at(-1)?.role === "assistant") conversation.messages.pop();
  return ask(conversation, changed);
}

function title(text) {
  const line = text.trim().split("\n", 1)[0];
  return line.length > 80 ? `${line.slice(0, 79).trimEnd()}…` : line;
}

/** The messages that a model is shown: questions that got no answer are left out, but for the last. */
export function history(messages, system) {
  const shown = messages.filter((message, index) => {
    if (message.role === "assistant") return message.text !== "";
    const answer = messages[index + 1];
    return !answer || answer.text !== "";
  });
  const sent = shown.map(({ role, text }) => ({ role, content: text }));
  return system.trim() ? [{ role: "system", content: system }, ...sent] : sent;
}

function request(conversation) {
  const { system, temperature, maxTokens } = store.preferences();
  const body = { model, messages: history(conversation.messages, system) };
  if (temperature !== null) body.temperature = temperature;
  if (maxTokens !== null) body.max_tokens = maxTokens;
  return body;
}

async function ask(conversation, changed) {
  const body = request(conversation);
  const answer = { role: "assistant", text: "", status: "waiting", model: body.model };
  answer.since = Date.now();
  conversation.messages.push(answer);
  conversation.updated = Date.now();
  const controller = new AbortController();
  runs.set(conversation.id, { controller, conversation });
  store.save(conversation);
  changed(conversation, answer);
  try {
    await receive(conversation, answer, body, controller.signal, changed);
  } catch (error) {
    conclude(answer, error);
  } finally {
    runs.delete(conversation.id);
    delete answer.retryAt;
    delete answer.since;
    conversation.updated = Date.now();
    if (store.list().some((item) => item.id === conversation.id)) store.save(conversation);
    changed(conversation, answer);
  }
}

async function receive(conversation, answer, body, signal, changed) {
  let saved = Date.now();
  for await (const event of patiently(answer, body, signal, () => changed(conversation, answer))) {
    apply(answer, event);
    if (Date.now() - saved > SAVE_EVERY) {
      store.save(conversation);
      saved = Date.now();
    }
    changed(conversation, answer);
  }
  answer.status = answer.reason === "length" ? "length" : "done";
}

/** The events of one answer; while the server is full, waits as long as it asks and tries again. */
async function* patiently(answer, body, signal, changed) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      yield* complete(body, store.key(), signal);
      return;
    } catch (error) {
      if (error.status !== 429 || attempt > MOST_RETRIES) throw error;
      const wait = Math.min(Math.max(error.retryAfter ?? 1, 1), LONGEST_WAIT) * 1000;
      answer.retryAt = Date.now() + wait;
      changed();
      await pause(wait, signal);
      delete answer.retryAt;
      changed();
    }
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

function apply(answer, event) {
  if (event.record) answer.record = event.record;
  if (event.text) {
    answer.text += event.text;
    answer.status = "writing";
  }
  if (event.reason) answer.reason = event.reason;
  if (event.usage) answer.usage = event.usage;
  if (event.origin) {
    answer.place = event.origin.place;
    answer.cost = event.origin.cost;
    answer.timings = event.origin.timings;
    answer.record = event.origin.record ?? answer.record;
  }
}

function conclude(answer, error) {
  if (error.name === "AbortError") {
    answer.status = "stopped";
    return;
  }
  const begun = answer.text !== "" || error instanceof Broken || error.status === 0;
  answer.status = begun ? "broken" : "failed";
  answer.error = describe(error);
}

function describe(error) {
  if (error instanceof ApiError) {
    return { code: error.code, status: error.status, param: error.param, message: error.message };
  }
  if (error instanceof Unreachable) return { code: "unreachable", message: "" };
  if (error instanceof Broken) return { code: "broken", message: "" };
  console.error(error);
  return { code: "page", message: String(error) };
}
