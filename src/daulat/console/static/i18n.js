// What the server embeds in the page: above all its words in both languages, and with them numbers and
// dates as each language writes them. The catalogues are both there; switching needs no reload and no request.

const data = JSON.parse(document.getElementById("data").textContent);
let language = document.documentElement.lang;
let plural = new Intl.PluralRules(language);

const ATTRIBUTES = {
  "data-i18n-label": ["aria-label", "title"],
  "data-i18n-name": ["aria-label"],
  "data-i18n-hint": ["placeholder"],
};

/** The model that the server answers with when nobody has chosen one. */
export const { defaultModel } = data;

export const languages = Object.keys(data.catalogues);
export const currentLanguage = () => language;

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);

/** The message in the current language; `{name}` is replaced by `values.name`. */
export function t(message, values = {}) {
  return fill(data.catalogues[language].messages[message] ?? message, values);
}

/** The message for `count`, in the plural form that the language asks for; `{count}` is the number. */
export function tn(message, count, values = {}) {
  const forms = data.catalogues[language].plurals[message];
  return fill(forms?.[plural.select(count)] ?? forms?.other ?? message, {
    count: number(count),
    ...values,
  });
}

export function number(value, digits = 0) {
  return new Intl.NumberFormat(language, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(value);
}

/** "Today", "Yesterday", or the date. */
export function day(time) {
  const midnight = (date) => new Date(date).setHours(0, 0, 0, 0);
  const ago = Math.round((midnight(Date.now()) - midnight(time)) / 86_400_000);
  if (ago > 1 || ago < 0)
    return new Intl.DateTimeFormat(language, { dateStyle: "long" }).format(time);
  const word = new Intl.RelativeTimeFormat(language, { numeric: "auto" }).format(-ago, "day");
  return word.charAt(0).toLocaleUpperCase(language) + word.slice(1);
}

/** Switches the language and rewrites every marked element below `root`. */
export function setLanguage(wanted, root = document) {
  if (!languages.includes(wanted)) return;
  language = wanted;
  plural = new Intl.PluralRules(language);
  document.documentElement.lang = language;
  for (const element of root.querySelectorAll("[data-i18n]")) {
    element.textContent = t(element.getAttribute("data-i18n"));
  }
  for (const [mark, targets] of Object.entries(ATTRIBUTES)) {
    for (const element of root.querySelectorAll(`[${mark}]`)) {
      for (const target of targets) element.setAttribute(target, t(element.getAttribute(mark)));
    }
  }
}
