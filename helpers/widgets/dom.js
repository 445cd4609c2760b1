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
  if (Number.isInteger(value) || Math.abs(value) >= 1000)
    return wholeNumber.format(value);
  if (value !== 0 && Math.abs(value) < 1e-3) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

/** A random name for a session; `crypto.randomUUID` is missing on plain http. */
function randomName() {
  if (globalThis.crypto?.randomUUID) return crypto.randomUUID();
  const bytes = Array.from({ length: 16 }, () => Math.floor(256 * Math.random()));
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Whether an element is a field, which a click leaves the keys to. */
function isField(element) {
  return element.matches("input, select");
}

/** Whether a key means something to the field or button that has the focus. */
function isForField({ target, key }) {
  if (target.type === "range") return /^(Arrow|Page|Home|End)/.test(key);
  if (target.matches("button")) return key === "Enter" || key === " ";
  return isField(target);
}

/** Whether a key is for the notebook or the browser: Ctrl+S, Tab, Escape, F5. */
function isForOthers({ key, ctrlKey, metaKey, altKey }) {
  return (
    ctrlKey ||
    metaKey ||
    altKey ||
    key === "Tab" ||
    key === "Escape" ||
    /^F\d+$/.test(key)
  );
}

/** Give each action its keys, which keys.py chooses. */
function withKeys(actions, keys) {
  for (const [name, action] of Object.entries(actions)) action.keys = keys[name];
  return actions;
}

/**
 * Let keys act on the widget and on nothing else.
 *
 * An action is `{ keys, does, run, repeats }`: `keys` as in KeyboardEvent.key, `does`
 * for the help panel, `repeats` if holding the key down may go on.
 */
class Keys {
  constructor(root, actions, help) {
    this.root = root;
    this.help = help;
    this.byKey = new Map(
      actions.flatMap((action) => action.keys.map((key) => [key, action])),
    );
    root.tabIndex = 0;
    root.addEventListener("keydown", (event) => this.press(event));
    this.takeBackAfterPointer();
  }

  focus() {
    this.root.focus({ preventScroll: true });
  }

  /** A click anywhere switches the keys on, unless it went into a field. */
  takeBackAfterPointer() {
    const { root } = this;
    root.addEventListener("click", (event) => {
      if (!isField(event.target)) this.focus();
    });
    // Whoever walks through the fields by keyboard stays where they are.
    let byPointer = false;
    root.addEventListener("pointerdown", () => (byPointer = true));
    root.addEventListener("keydown", () => (byPointer = false));
    root.addEventListener("change", (event) => {
      if (byPointer && event.target.type !== "number") this.focus();
    });
  }

  press(event) {
    const closesHelp = event.key === "Escape" && !this.help.isHidden;
    if (isForOthers(event) && !closesHelp) return;
    // It would reach the notebook, where "d d" deletes a cell.
    event.stopPropagation();
    if (closesHelp) this.help.toggle();
    else if (!isForField(event)) this.act(event);
  }

  act(event) {
    const action = this.byKey.get(meantKey(event));
    if (!action) return;
    event.preventDefault();
    if (!event.repeat || action.repeats) action.run(event);
  }
}

/** Caps Lock is not Shift: an "S" made by it means "s". */
function meantKey({ key, shiftKey }) {
  return key.length === 1 && !shiftKey ? key.toLowerCase() : key;
}

const KEY_SIGNS = {
  ArrowLeft: "←",
  ArrowRight: "→",
  ArrowUp: "↑",
  ArrowDown: "↓",
  " ": "Space",
};

function sayKey(key) {
  return KEY_SIGNS[key] ?? key;
}

/** A key as aria-keyshortcuts wants it. */
function nameKey(key) {
  if (key === " ") return "Space";
  return /^[A-Z]$/.test(key) ? `Shift+${key}` : key;
}

/** A button for an action: its word, its first key beside it, both told to readers. */
function actionButton(action, text, className = "") {
  const key = action.keys[0];
  const attributes = {
    type: "button",
    class: `sh-button ${className}`,
    title: `${action.does} (${action.keys.map(sayKey).join(" or ")})`,
    "aria-label": action.does,
    "aria-keyshortcuts": action.keys.map(nameKey).join(" "),
    click: (event) => action.run(event),
  };
  return make(
    "button",
    attributes,
    make("span", {}, text),
    make("kbd", {}, sayKey(key)),
  );
}

const KEY_NOTES = [
  "Keys act while the frame is coloured; Escape gives them back to the notebook.",
  "For other keys in all notebooks: helpers.widgets.save_keys({\"single\": \"j\"}), then run the cell again.",
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

/** What must not be missed, laid over the top of the picture; red when it is bad news. */
class Banner {
  constructor() {
    this.isAboutKernel = false;
    this.text = make("div", { class: "sh-banner-text", role: "alert" });
    this.element = make("div", { class: "sh-banner", hidden: "" }, this.text);
  }

  show(text, tone = "bad") {
    this.isAboutKernel = false;
    setText(this.text, text);
    this.element.dataset.tone = tone;
    this.element.hidden = text === "";
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
  return make(
    "select",
    { class: "sh-choice", "aria-label": label, title: label, change },
    ...options,
  );
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
      this.timer = setTimeout(
        () => this.element.setAttribute("aria-busy", "false"),
        DOUBLE_PRESS_MS,
      );
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
