// Building blocks of the page: elements, buttons, keys and the panel that explains them.
// The files of this folder are joined in Python and become one module; see front.py.

/** Make an element: make("div", { class: "sh-row", "aria-live": "polite" }, child, …). */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Change the text of an element, but only if it differs: layout is not free. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const wholeNumber = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** Write a number as people read it: 12,345 or 0.932 or 1.2e-7. */
function sayNumber(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value) || Math.abs(value) >= 1000) return wholeNumber.format(value);
  if (value !== 0 && Math.abs(value) < 1e-3) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

/** A random name for a session; `crypto.randomUUID` is missing on plain http. */
function randomName() {
  if (globalThis.crypto?.randomUUID) return crypto.randomUUID();
  const bytes = Array.from({ length: 16 }, () => Math.floor(256 * Math.random()));
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Say whether a key event goes into a field where it means something already. */
function isTyping(target) {
  return target.matches("input, select, textarea");
}

const KEYS_LEFT_ALONE = new Set(["Tab", "Escape", "Control", "Shift", "Alt", "Meta"]);

/**
 * Let keys act on the widget and on nothing else.
 *
 * An action is `{ keys, does, run, repeats }`: `keys` as in KeyboardEvent.key, `does`
 * for the help panel, `repeats` if holding the key down may go on.
 */
class Keys {
  constructor(root, actions) {
    this.root = root;
    this.actions = actions;
    this.byKey = new Map(actions.flatMap((action) => action.keys.map((key) => [key, action])));
    root.tabIndex = 0;
    root.addEventListener("keydown", (event) => this.press(event));
    // A click anywhere switches the keys on, unless it went into a field.
    root.addEventListener("click", (event) => {
      if (!isTyping(event.target)) this.focus();
    });
    root.addEventListener("change", (event) => {
      if (event.target.matches("select, input:not([type=number])")) this.focus();
    });
  }

  focus() {
    this.root.focus({ preventScroll: true });
  }

  press(event) {
    const hasModifier = event.ctrlKey || event.metaKey || event.altKey;
    if (hasModifier || KEYS_LEFT_ALONE.has(event.key) || /^F\d+$/.test(event.key)) return;
    // Anything else would reach the notebook, where "d d" deletes a cell.
    event.stopPropagation();
    if (isTyping(event.target) || this.worksTheButton(event)) return;
    const action = this.byKey.get(meantKey(event));
    if (!action) return;
    event.preventDefault();
    if (!event.repeat || action.repeats) action.run(event);
  }

  worksTheButton(event) {
    return event.target.matches("button") && (event.key === "Enter" || event.key === " ");
  }
}

/** Caps Lock is not Shift: an "S" made by it means "s". */
function meantKey({ key, shiftKey }) {
  return key.length === 1 && !shiftKey ? key.toLowerCase() : key;
}

const KEY_SIGNS = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", " ": "Space" };

function sayKey(key) {
  return KEY_SIGNS[key] ?? key;
}

/** A button for an action: its word, its first key beside it, both told to readers. */
function actionButton(action, text, className = "") {
  const key = action.keys[0];
  const attributes = {
    type: "button",
    class: `sh-button ${className}`,
    title: `${action.does} (${action.keys.map(sayKey).join(" or ")})`,
    "aria-label": action.does,
    "aria-keyshortcuts": action.keys.map((name) => (name === " " ? "Space" : name)).join(" "),
    click: (event) => action.run(event),
  };
  return make("button", attributes, make("span", {}, text), make("kbd", {}, sayKey(key)));
}

const KEY_NOTES = [
  "Keys act while the frame is coloured; Escape gives them back to the notebook.",
];

/** The panel that lists every key; `toggle()` shows and hides it. */
class HelpPanel {
  constructor(actions, notes) {
    const rows = actions.map((action) =>
      make(
        "tr",
        {},
        make("td", {}, ...action.keys.map((key) => make("kbd", {}, sayKey(key)))),
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

/** A line across the top for what must not be missed; red when it is bad news. */
class Banner {
  constructor() {
    this.isAboutKernel = false;
    this.element = make("div", { class: "sh-banner", role: "alert", hidden: "" });
  }

  show(text, tone = "bad") {
    this.isAboutKernel = false;
    setText(this.element, text);
    this.element.dataset.tone = tone;
    this.element.hidden = text === "";
  }

  /** Say that the kernel is silent, and no more of it when it answers. */
  tellAboutKernel(state, consequence = "") {
    if (state === "dead") {
      this.show(`No answer from the kernel. ${consequence} If it was restarted, run the cell again.`);
      this.isAboutKernel = true;
    } else if (this.isAboutKernel) this.show("");
  }
}

/** A field for the index of a pattern: Enter goes there, Escape gives the keys back. */
function jumpField(jump, leave) {
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
function choice(label, words, chosen, pick) {
  const options = words.map((word) => {
    const option = make("option", { value: word }, word);
    option.selected = word === chosen;
    return option;
  });
  const change = (event) => pick(event.target.value);
  return make("select", { class: "sh-choice", "aria-label": label, title: label, change }, ...options);
}

const DOUBLE_PRESS_MS = 150; // a key this soon after a new picture was meant for the last

/** What can be seen in an element, and since when; `aria-busy` while it is too new. */
class Look {
  constructor(element) {
    this.element = element;
    this.end();
  }

  /** Something was drawn: the browser paints it with the next frame. */
  begin(what) {
    this.end();
    this.what = what;
    this.frame = requestAnimationFrame(() => {
      this.since = performance.now();
      this.timer = setTimeout(() => this.element.setAttribute("aria-busy", "false"), DOUBLE_PRESS_MS);
    });
  }

  /** What can be seen is not what is meant any more. */
  end() {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.timer);
    this.what = null;
    this.since = Infinity;
    this.element.setAttribute("aria-busy", "true");
  }

  isSettledOn(what) {
    return what === this.what && performance.now() - this.since >= DOUBLE_PRESS_MS;
  }
}
