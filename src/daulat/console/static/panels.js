// The dialogs: settings, key, and the question before something is deleted.

import { t } from "./i18n.js";
import * as store from "./store.js";

const find = (id) => document.getElementById(id);

// A click on the backdrop lands on the dialog itself.
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("pointerdown", (event) => {
    if (event.target === dialog) dialog.close("no");
  });
}

/** Asks before something is lost; resolves to true or false. */
export function ask(title, text, yes) {
  find("ask-title").textContent = title;
  find("ask-text").textContent = text;
  find("ask-yes").textContent = yes;
  const dialog = find("ask");
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

// --- the key -----------------------------------------------------------------------

let keyChanged = () => {};
export const onKey = (callback) => {
  keyChanged = callback;
};

/** A key that came in the address is kept, and taken out of the address before anything else happens. */
export function takeKeyFromAddress() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (key === null) return false;
  history.replaceState(null, "", location.pathname + location.search);
  if (key) store.setKey(key.trim());
  return true;
}

export function askForKey(wrong) {
  find("key-wrong").hidden = !wrong;
  find("key").value = "";
  if (!find("key-panel").open) find("key-panel").showModal();
  find("key").focus();
}

find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = find("key").value.trim();
  if (!key) return;
  store.setKey(key);
  find("key-panel").close();
  keyChanged();
});
find("key-later").addEventListener("click", () => find("key-panel").close());

// --- settings ------------------------------------------------------------------------

const FIELDS = [
  ["system", "system"],
  ["temperature", "temperature"],
  ["max-tokens", "maxTokens"],
];

function fieldValue(element) {
  if (element.type !== "number") return element.value;
  return element.value === "" || !element.checkValidity() ? null : element.valueAsNumber;
}

export function describeKey() {
  const kept = Boolean(store.key());
  find("key-state").textContent = kept
    ? t("A key is kept in this browser.")
    : t("No key is kept in this browser.");
  find("key-forget").hidden = !kept;
}

function openSettings() {
  const preferences = store.preferences();
  for (const [id, name] of FIELDS) find(id).value = preferences[name] ?? "";
  describeKey();
  find("settings").showModal();
}

for (const [id, name] of FIELDS) {
  find(id).addEventListener("change", ({ target }) => {
    if (target.reportValidity()) store.setPreferences({ [name]: fieldValue(target) });
  });
}
find("settings-open").addEventListener("click", openSettings);
// Enter in a field keeps it; the form itself is never sent anywhere.
find("settings").addEventListener("close", () => {
  for (const [id, name] of FIELDS) {
    if (find(id).checkValidity()) store.setPreferences({ [name]: fieldValue(find(id)) });
  }
});
find("key-change").addEventListener("click", () => {
  find("settings").close();
  askForKey(false);
});
find("key-forget").addEventListener("click", () => {
  store.setKey(null);
  describeKey();
});
