// The list of past conversations, and on narrow screens the drawer that it lives in.

import { h, icon } from "./dom.js";
import { day, t } from "./i18n.js";
import { list } from "./store.js";

const side = document.getElementById("side");
const shade = document.getElementById("shade");
const opener = document.getElementById("side-open");
const narrow = matchMedia("(max-width: 52rem)");

/** Draws the list; `current` is the id of the open conversation. */
export function draw(current, { open, remove }) {
  const items = list();
  const past = document.getElementById("past");
  const rows = [];
  let heading = "";
  for (const item of items) {
    const date = day(item.updated);
    if (date !== heading) rows.push(h("li", { class: "date" }, date));
    heading = date;
    rows.push(row(item, item.id === current, open, remove));
  }
  past.replaceChildren(...rows);
  document.getElementById("past-empty").hidden = items.length > 0;
  document.getElementById("delete-all").hidden = items.length === 0;
}

function row({ id, title }, current, open, remove) {
  const name = title || t("New conversation");
  const words = t("Delete “{title}”", { title: name });
  return h(
    "li",
    { class: current ? "entry current" : "entry" },
    h(
      "button",
      {
        type: "button",
        class: "title",
        title: name,
        "aria-current": current && "true",
        onclick: () => open(id),
      },
      name,
    ),
    h(
      "button",
      {
        type: "button",
        class: "plain bin",
        "aria-label": words,
        title: words,
        onclick: () => remove(id, name),
      },
      icon("bin"),
    ),
  );
}

export function showDrawer(visible) {
  const open = visible && narrow.matches;
  side.classList.toggle("open", open);
  side.inert = narrow.matches && !open;
  shade.hidden = !open;
  opener.setAttribute("aria-expanded", String(open));
  if (open) document.getElementById("side-close").focus();
}

export const drawerIsOpen = () => side.classList.contains("open");

export function closeDrawer() {
  if (!drawerIsOpen()) return;
  showDrawer(false);
  opener.focus();
}

opener.addEventListener("click", () => showDrawer(true));
document.getElementById("side-close").addEventListener("click", closeDrawer);
shade.addEventListener("click", closeDrawer);
narrow.addEventListener("change", () => showDrawer(false));
showDrawer(false);
