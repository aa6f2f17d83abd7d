// Questions before what cannot be undone, and short words about what was done.

import { button, byId, h } from "./dom.js";

/** Asks; resolves to whether the person wants it. */
export function confirmed(title, text, action, kind = "danger") {
  return new Promise((resolve) => {
    const yes = h("button", { value: "yes", class: kind }, action);
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" },
      h("form", { method: "dialog" },
        h("h2", { id: "dialog-title" }, title),
        h("p", {}, text),
        h("div", { class: "row end" }, h("button", { value: "no" }, "Keep"), yes)));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Says what was done; ``undo`` takes it back within some seconds. */
export function toast(text, { undo = null, bad = false } = {}) {
  const box = h("div", { class: bad ? "toast bad" : "toast" }, h("span", {}, text));
  const gone = setTimeout(() => box.remove(), undo || bad ? 12000 : 5000);
  const close = () => { clearTimeout(gone); box.remove(); };
  if (undo) box.append(button("Undo", () => { close(); undo(); }));
  box.append(button("Dismiss", close, "quiet"));
  byId("toasts").append(box);
}

/** Does something; what goes wrong is said. Resolves to whether it went well. */
export async function tried(work) {
  try {
    await work();
    return true;
  } catch (error) {
    toast(error.message, { bad: true });
    return false;
  }
}
