// Building blocks of the page: elements, buttons, lists, and what tells the person something.

import { ariaKey, keySign } from "./keys.js";

/** Make an element: make("div", { class: "sh-row", "aria-live": "polite" }, child, …). */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Whether the middle of an element can be seen: nothing else lies over it there. */
export function isInSight(element) {
  const { left, top, width, height } = element.getBoundingClientRect();
  return element.contains(
    document.elementFromPoint(left + width / 2, top + height / 2),
  );
}

/** What anywidget asks of a module: make a page, and close it when it is taken away. */
export function asWidget(Page) {
  return {
    render({ model, el }) {
      const page = new Page(model, el);
      return () => page.close();
    },
  };
}

/** Change the text of an element, but only if it differs: layout is not free. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const wholeNumber = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** Write a number as people read it: 12,345 or 0.932 or 1.2e-7. */
export function formatNumber(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value) || Math.abs(value) >= 1000)
    return wholeNumber.format(value);
  if (value !== 0 && Math.abs(value) < 1e-3) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

/** A button for an action: its word, its first key beside it, both for screen readers too. */
export function actionButton(action, text, className = "") {
  const key = action.keys[0];
  const attributes = {
    type: "button",
    class: `sh-button ${className}`,
    title: `${action.does} (${action.keys.map(keySign).join(" or ")})`,
    "aria-label": action.does,
    "aria-keyshortcuts": action.keys.map(ariaKey).join(" "),
    click: (event) => action.run(event),
  };
  return make(
    "button",
    attributes,
    make("span", {}, text),
    make("kbd", {}, keySign(key)),
  );
}

/** A field for the index of a pattern: Enter goes there, Escape gives the keys back. */
export function jumpField(jump, leave) {
  const input = make("input", {
    type: "number",
    min: 0,
    class: "sh-number",
    "aria-label": "index of the pattern",
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.stopPropagation();
    leave();
    if (event.key === "Enter" && input.value !== "") jump(Number(input.value));
  });
  return input;
}

/** A drop-down list of words. */
export function choice(label, words, chosen, pick) {
  const options = words.map((word) => {
    const option = make("option", { value: word }, word);
    option.selected = word === chosen;
    return option;
  });
  const change = (event) => pick(event.target.value);
  return make(
    "select",
    { class: "sh-choice", "aria-label": label, title: label, change },
    ...options,
  );
}

export const KEY_NOTES = [
  "Keys act while the frame is coloured; Escape gives them back to the notebook.",
  'For other keys in all notebooks: helpers.widgets.save_keys({"single": "j"}), then run the cell again.',
];

/** The panel that lists every key; `toggle()` shows and hides it. */
export class HelpPanel {
  constructor(actions, notes) {
    const rows = actions.map((action) =>
      make(
        "tr",
        {},
        make("td", {}, ...action.keys.map((key) => make("kbd", {}, keySign(key)))),
        make("td", {}, action.does),
      ),
    );
    this.element = make(
      "div",
      { class: "sh-help", role: "dialog", "aria-label": "Keys", hidden: "" },
      make("table", {}, make("tbody", {}, ...rows)),
      ...notes.map((note) => make("p", {}, note)),
    );
  }

  get isHidden() {
    return this.element.hidden;
  }

  toggle() {
    this.element.hidden = !this.element.hidden;
  }
}

/**
 * What must not be missed, laid over the top of the picture; red when it is bad news.
 *
 * What is kept stays until it is released, whatever else there is to be said.
 */
export class Banner {
  constructor() {
    this.isAboutKernel = false;
    this.isKept = false;
    this.text = make("span", {});
    this.buttons = make("span", { class: "sh-banner-buttons" });
    const box = make(
      "div",
      { class: "sh-banner-text", role: "alert" },
      this.text,
      this.buttons,
    );
    this.element = make("div", { class: "sh-banner", hidden: "" }, box);
  }

  show(text, tone = "bad") {
    if (this.isKept) return;
    this.isAboutKernel = false;
    setText(this.text, text);
    this.element.dataset.tone = tone;
    this.element.hidden = text === "";
  }

  /** Show bad news that stay, and the button that helps. */
  keep(text, button) {
    const shown = this.text.textContent; // perhaps more of the same
    this.isKept = false;
    this.show(shown.includes(text) ? shown : text);
    this.isKept = true;
    this.buttons.replaceChildren(button);
  }

  /** Add to what is kept. */
  add(text) {
    if (this.isKept) setText(this.text, `${this.text.textContent}\n${text}`);
  }

  release() {
    this.isKept = false;
    this.buttons.replaceChildren();
    this.show("");
  }

  /** The person has gone on: what was no bad news need not stay. */
  clearNote() {
    if (this.element.dataset.tone !== "bad") this.show("");
  }

  /** Say that the kernel is silent, and no more of it when it answers. */
  tellAboutKernel(state, consequence = "") {
    if (state === "dead") {
      this.show(
        `No answer from the kernel. ${consequence} If it was restarted, run the cell again.`,
      );
      this.isAboutKernel = true;
    } else if (this.isAboutKernel) this.show("");
  }
}
