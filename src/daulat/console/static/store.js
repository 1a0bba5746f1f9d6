// What this browser keeps: conversations, preferences, key, language. Nothing of it leaves the browser.
// Bounded: the newest conversations stay, the oldest go first; a full or forbidden store is reported.

export const MOST_CONVERSATIONS = 100;
const MOST_CHARACTERS = 4_000_000; // browsers allow about five million
const PREFIX = "daulat.";
const CONVERSATION = `${PREFIX}conversation.`;

const memory = new Map(); // stands in where the browser forbids its store
let persistent = true;

function get(name) {
  try {
    return localStorage.getItem(PREFIX + name) ?? memory.get(name) ?? null;
  } catch {
    return memory.get(name) ?? null;
  }
}

function put(name, value) {
  memory.delete(name);
  try {
    if (value === null) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, value);
    return true;
  } catch {
    if (value !== null) memory.set(name, value);
    return false;
  }
}

function read(name, otherwise) {
  try {
    return JSON.parse(get(name)) ?? otherwise;
  } catch {
    return otherwise; // damaged by hand or by another program: as if it were not there
  }
}

/** False once something could be kept for this page view only. */
export const isPersistent = () => persistent;

// --- small things ------------------------------------------------------------

export const key = () => get("key");
export const setKey = (value) => put("key", value);
export const language = () => get("language");
export const setLanguage = (value) => put("language", value);
export const draft = () => get("draft") ?? "";
export const setDraft = (text) => put("draft", text || null);

const bounded = (value, low, high) =>
  typeof value === "number" && value >= low && value <= high ? value : null;

/** {model, system, temperature, maxTokens}; null means: as the server does by itself. */
export function preferences() {
  const kept = read("preferences", {});
  return {
    model: typeof kept.model === "string" ? kept.model : null,
    system: typeof kept.system === "string" ? kept.system : "",
    temperature: bounded(kept.temperature, 0, 2),
    maxTokens: bounded(kept.maxTokens, 1, 10_000_000),
  };
}

export function setPreferences(changes) {
  put("preferences", JSON.stringify({ ...preferences(), ...changes }));
}

// --- conversations -----------------------------------------------------------

const bytes = () => crypto.getRandomValues(new Uint8Array(12));
const newId = () => Array.from(bytes(), (byte) => byte.toString(16).padStart(2, "0")).join("");

export function newConversation() {
  return { id: newId(), title: "", updated: Date.now(), messages: [] };
}

/** [{id, title, updated, size}], newest first. */
export function list() {
  const index = read("index", []);
  return Array.isArray(index) ? index.filter((item) => typeof item?.id === "string") : [];
}

export function load(id) {
  const kept = read(`conversation.${id}`, null);
  return Array.isArray(kept?.messages) ? kept : null;
}

export const currentId = () => get("current");
export const setCurrentId = (id) => put("current", id);

/** Keeps a conversation and makes room for it; true where it will survive a reload. */
export function save(conversation) {
  const text = JSON.stringify(conversation);
  const { id, title, updated } = conversation;
  let others = list().filter((item) => item.id !== id);
  const size = () => others.reduce((sum, item) => sum + (item.size ?? 0), text.length);
  while (others.length && (others.length >= MOST_CONVERSATIONS || size() > MOST_CHARACTERS)) {
    others = dropOldest(others);
  }
  while (!put(`conversation.${id}`, text) && others.length) others = dropOldest(others);
  const index = [{ id, title, updated, size: text.length }, ...others];
  index.sort((a, b) => b.updated - a.updated);
  persistent = put("index", JSON.stringify(index)) && !memory.has(`conversation.${id}`);
  return persistent;
}

function dropOldest(items) {
  put(`conversation.${items.at(-1).id}`, null);
  return items.slice(0, -1);
}

export function remove(id) {
  put(`conversation.${id}`, null);
  put("index", JSON.stringify(list().filter((item) => item.id !== id)));
}

export function removeAll() {
  for (const { id } of list()) put(`conversation.${id}`, null);
  put("index", null);
  put("current", null);
}

/** Calls back when another tab of this browser changed the conversations. */
export function onChangeElsewhere(callback) {
  addEventListener("storage", (event) => {
    if (event.key === null) callback(null);
    else if (event.key === `${PREFIX}index`) callback(null);
    else if (event.key.startsWith(CONVERSATION)) callback(event.key.slice(CONVERSATION.length));
  });
}
