// Answers are Markdown from a model: text from a stranger. It becomes elements through two gates, a
// Markdown parser without raw HTML, and a sanitiser that knows a short list of tags. No image is ever
// fetched: an image address would tell a foreign server what was said here.

import hljs from "./vendor/highlight.js";
import MarkdownIt from "./vendor/markdown-it.js";
import DOMPurify from "./vendor/purify.js";

const LONGEST_HIGHLIGHT = 50_000; // characters; beyond that colour is not worth the wait

const TAGS = (
  "a blockquote br code del em h1 h2 h3 h4 h5 h6 hr li ol p pre s span strong " +
  "table tbody td th thead tr ul"
).split(" ");

const GATE = {
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ["class", "href", "start"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

const parser = new MarkdownIt({ html: false, linkify: true, highlight });
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });

function highlight(code, language) {
  if (!hljs.getLanguage(language) || code.length > LONGEST_HIGHLIGHT) return "";
  return hljs.highlight(code, { language, ignoreIllegals: true }).value;
}

const escape = parser.utils.escapeHtml;

parser.renderer.rules.image = (tokens, index) => {
  const { content } = tokens[index];
  const address = tokens[index].attrGet("src") ?? "";
  return `<a href="${escape(address)}">${escape(content || address)}</a>`;
};

// Alignment comes as a style attribute, which the page's policy refuses: a class says the same.
for (const cell of ["th_open", "td_open"]) {
  parser.renderer.rules[cell] = (tokens, index, options, _, renderer) => {
    const side = /right|center/.exec(tokens[index].attrGet("style") ?? "")?.[0];
    tokens[index].attrs = side ? [["class", `align-${side}`]] : null;
    return renderer.renderToken(tokens, index, options);
  };
}

/** The HTML of each top-level block, in order: not yet safe to use. */
function blocks(text) {
  const environment = {};
  const found = [];
  let open = [];
  for (const token of parser.parse(text, environment)) {
    open.push(token);
    if (token.level === 0 && token.nesting <= 0) {
      found.push(parser.renderer.render(open, parser.options, environment));
      open = [];
    }
  }
  return found;
}

const CLASSES =
  /^(?:language-[\w+#.-]{1,40}|hljs-[\w-]{1,40}|function_|class_|inherited__|align-(?:right|center))$/;

/** Markdown as a fragment of harmless elements. */
export function safe(html) {
  const fragment = DOMPurify.sanitize(html, GATE);
  for (const element of fragment.querySelectorAll("[class]")) {
    element.className = [...element.classList].filter((name) => CLASSES.test(name)).join(" ");
  }
  for (const link of fragment.querySelectorAll("a[href]")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  return fragment;
}

const shown = new WeakMap();

/**
 * Shows Markdown inside `element`. Blocks that have not changed since the last call keep their elements,
 * so that a reader's selection and focus survive while more text arrives.
 */
export function show(element, text, decorate = () => {}) {
  const before = shown.get(element) ?? [];
  const after = blocks(text);
  let same = 0;
  while (same < before.length && before[same].html === after[same]) same += 1;
  for (const block of before.slice(same)) block.nodes.forEach((node) => node.remove());
  const added = after.slice(same).map((html) => {
    const fragment = safe(html);
    decorate(fragment);
    const nodes = [...fragment.childNodes];
    element.append(fragment);
    return { html, nodes };
  });
  shown.set(element, [...before.slice(0, same), ...added]);
}
