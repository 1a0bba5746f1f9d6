// The page of sums: asks the guarded route with the reader's key and draws what it says.

import { ApiError, spend } from "./api.js";
import { h, icon } from "./dom.js";
import { currentLanguage, languages, number, setLanguage, t, tn } from "./i18n.js";
import * as store from "./store.js";

const find = (id) => document.getElementById(id);
const KEY = "daulat.admin-key"; // for this tab: such a key may do more than the one for conversations

let report = null;
let trouble = null;

// --- numbers ---------------------------------------------------------------------------

/** An exact decimal text as money; small amounts keep the digits that tell them from nothing. */
function money(text, currency) {
  const value = Number(text);
  const options = { style: "currency", currency, currencyDisplay: "code" };
  if (value !== 0 && value < 1) options.maximumSignificantDigits = 4;
  try {
    return new Intl.NumberFormat(currentLanguage(), options).format(value);
  } catch {
    return `${text} ${currency}`; // three letters that are no currency's
  }
}

// --- drawing -----------------------------------------------------------------------------

const NAMES = ["day", "key", "project", "endpoint", "model"];
const heading = {
  day: () => t("Day"),
  key: () => t("Key"),
  project: () => t("Project"),
  endpoint: () => t("Endpoint"),
  model: () => t("Model"),
};

function draw() {
  drawTrouble();
  find("report").hidden = !report;
  if (report) {
    drawSums();
    drawTable();
    drawRemarks();
  }
  document.title = `${t("Spend")} · Daulat`;
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === currentLanguage()));
  }
}

function drawTrouble() {
  const words = trouble?.() ?? "";
  find("banner").hidden = !words;
  find("banner").replaceChildren(...(words ? [icon("warn"), h("span", {}, words)] : []));
}

function drawSums() {
  const total = report.total;
  const sum = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  find("sums").replaceChildren(
    sum(t("Cost"), money(total?.money ?? "0", report.currency)),
    sum(t("Requests"), number(total?.requests ?? 0)),
    sum(t("Tokens read"), number(total?.prompt_tokens ?? 0)),
    sum(t("Tokens written"), number(total?.completion_tokens ?? 0)),
  );
}

function drawTable() {
  if (!report.rows.length) {
    find("table").replaceChildren(h("p", { class: "none" }, t("Nothing was used in these days.")));
    return;
  }
  const by = NAMES.filter((name) => name in report.rows[0]);
  const head = h(
    "tr",
    {},
    h("th", { class: "name", scope: "col" }, by.map((name) => heading[name]()).join(" · ")),
    h("th", { scope: "col" }, t("Requests")),
    h("th", { scope: "col", class: "detail" }, t("Errors")),
    h("th", { scope: "col", class: "detail" }, t("Tokens read")),
    h("th", { scope: "col", class: "detail" }, t("Tokens written")),
    h("th", { scope: "col" }, t("Cost")),
  );
  const rows = by[0] === "day" ? report.rows : report.rows.toSorted(byWeight);
  const most = Math.max(...rows.map(weight));
  const body = rows.map((row) => drawRow(row, by, most));
  find("table").replaceChildren(h("table", {}, h("thead", {}, head), h("tbody", {}, ...body)));
}

/** What a bar shows: money, or requests where nothing cost any. */
function weight(row) {
  return Number(report.total.money) > 0 ? Number(row.money) : row.requests;
}
const byWeight = (one, other) => weight(other) - weight(one);

function drawRow(row, by, most) {
  const bar = h("span", {});
  bar.style.inlineSize = `${most > 0 ? (100 * weight(row)) / most : 0}%`;
  const track = weight(row) > 0 ? h("span", { class: "track", "aria-hidden": "true" }, bar) : null;
  const [first, ...others] = by.map((name) => row[name] || t("No project"));
  const rest = others.length ? h("span", { class: "of" }, others.join(" · ")) : null;
  const known = row.unpriced < row.requests;
  return h(
    "tr",
    {},
    h("th", { class: "name", scope: "row" }, first, rest, track),
    h("td", {}, number(row.requests)),
    h("td", { class: row.errors ? "detail fault" : "detail" }, number(row.errors)),
    h("td", { class: "detail" }, number(row.prompt_tokens)),
    h("td", { class: "detail" }, number(row.completion_tokens)),
    h("td", { class: "money" }, known ? money(row.money, report.currency) : t("not known")),
  );
}

function drawRemarks() {
  const { unpriced = 0, counted = 0 } = report.total ?? {};
  const said = [];
  if (unpriced) said.push(tn("{count} request has no known price: the cost lacks it.", unpriced));
  if (counted) said.push(tn("The tokens of {count} request are our own count.", counted));
  find("remarks").replaceChildren(...said.map((words) => h("li", {}, words)));
}

// --- asking --------------------------------------------------------------------------------

function adminKey(value) {
  try {
    if (value !== undefined) sessionStorage.setItem(KEY, value);
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

async function ask() {
  const query = { since: find("since").value, until: find("until").value, by: find("by").value };
  report = null;
  trouble = null;
  find("key-form").hidden = true;
  if (query.since > query.until) {
    trouble = () => t("The last day is before the first.");
    return draw();
  }
  try {
    report = await spend(query, adminKey() ?? store.key());
  } catch (error) {
    fail(error);
  }
  return draw();
}

function fail(error) {
  const status = error instanceof ApiError ? error.status : 0;
  if (status === 401 || status === 403) {
    trouble = () => t("This page needs a key with the scope admin.");
    find("key-form").hidden = false;
    find("key").focus();
  } else if (status === 400) {
    trouble = () => t("That is too much at once: ask for fewer days, or tell less apart.");
  } else if (status) {
    trouble = () => t("The server cannot answer now.");
  } else {
    trouble = () => t("The server could not be reached.");
  }
}

find("asked").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  adminKey(find("key").value.trim());
  find("key").value = "";
  ask();
});
for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    store.setLanguage(button.dataset.language);
    setLanguage(button.dataset.language);
    draw();
  });
}

const today = new Date().toISOString().slice(0, 10);
find("since").value = `${today.slice(0, 8)}01`;
find("until").value = today;
const kept = store.language();
if (kept && languages.includes(kept)) setLanguage(kept);
ask();
