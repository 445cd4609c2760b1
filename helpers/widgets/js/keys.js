// Keys: which are meant for the widget, and what they do. keys.py chooses them.

const KEY_SIGNS = {
  ArrowLeft: "←",
  ArrowRight: "→",
  ArrowUp: "↑",
  ArrowDown: "↓",
  " ": "Space",
};

export function keySign(key) {
  return KEY_SIGNS[key] ?? key;
}

/** A key as aria-keyshortcuts wants it. */
export function ariaKey(key) {
  if (key === " ") return "Space";
  return /^[A-Z]$/.test(key) ? `Shift+${key}` : key;
}

/** Caps Lock is not Shift: an "S" made by it means "s". */
function keyWithoutCapsLock({ key, shiftKey }) {
  return key.length === 1 && !shiftKey ? key.toLowerCase() : key;
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
function isForNotebook({ key, ctrlKey, metaKey, altKey }) {
  return (
    ctrlKey ||
    metaKey ||
    altKey ||
    key === "Tab" ||
    key === "Escape" ||
    /^F\d+$/.test(key)
  );
}

/**
 * The actions of a widget, in the order of `table`, the keys.py table of the widget:
 * `{ keys, does, repeats, run }`. `runs` holds what each one does, by its name.
 */
export function bindActions(table, runs) {
  const unknown = Object.keys(runs).filter((name) => !table[name]);
  if (unknown.length) throw new Error(`keys.py has no key for ${unknown}`);
  const names = Object.keys(table).filter((name) => runs[name]);
  return Object.fromEntries(
    names.map((name) => [name, { ...table[name], run: runs[name] }]),
  );
}

/**
 * Tell a page that looks at keys before the widget gets them, as Notebook 7 does, which
 * ones are taken: "m" would make its cell a text, and the widget would be gone.
 */
function hideKeys(root) {
  const page = root.ownerDocument?.defaultView;
  const widget = new WeakRef(root);
  const tell = (event) => {
    const there = widget.deref();
    if (!there) return page.removeEventListener("keydown", tell, true);
    const isTaken = there.contains(event.target) && !isForNotebook(event);
    there.toggleAttribute("data-lm-suppress-shortcuts", isTaken);
  };
  page?.addEventListener("keydown", tell, true);
}

/**
 * Let keys act on the widget and on nothing else.
 *
 * An action is `{ keys, does, run, repeats }`: `keys` as in KeyboardEvent.key, `does`
 * for the help panel, `repeats` if holding the key down may go on.
 */
export class Keys {
  constructor(root, actions, help) {
    this.root = root;
    this.help = help;
    this.byKey = new Map(
      actions.flatMap((action) => action.keys.map((key) => [key, action])),
    );
    root.tabIndex = 0;
    root.addEventListener("keydown", (event) => this.press(event));
    this.takeBackAfterPointer();
    hideKeys(root);
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
    if (isForNotebook(event) && !closesHelp) return;
    // It would reach the notebook, where "d d" deletes a cell.
    event.stopPropagation();
    if (closesHelp) this.help.toggle();
    else if (!isForField(event)) this.act(event);
  }

  act(event) {
    const action = this.byKey.get(keyWithoutCapsLock(event));
    if (!action) return;
    event.preventDefault();
    if (!event.repeat || action.repeats) action.run(event);
  }
}
