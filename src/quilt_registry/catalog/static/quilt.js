// What pages can do only with scripts. Everything else works without this file.
"use strict";
document.documentElement.classList.add("scripts");

const live = () => document.getElementById("live");

function announce(text) {
  live().textContent = "";
  setTimeout(() => { live().textContent = text; }, 50);
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy) ?? button.parentElement.querySelector("pre");
  const text = button.dataset.text ?? source.dataset.text ?? source.value ?? source.textContent;
  try {
    await navigator.clipboard.writeText(text.trim());
  } catch {
    if (source) getSelection().selectAllChildren(source);
    announce("Press Ctrl+C to copy");
    return;
  }
  const label = button.getAttribute("aria-label");
  button.classList.add("copied");
  button.setAttribute("aria-label", "Copied");
  announce("Copied");
  setTimeout(() => {
    button.classList.remove("copied");
    button.setAttribute("aria-label", label);
  }, 2000);
}

async function openDialog(link) {
  const dialog = document.getElementById(link.dataset.dialog);
  const body = dialog.querySelector("[data-body]");
  const answer = await fetch(link.href, { headers: { "HX-Request": "true", "HX-Current-URL": location.href } });
  const target = answer.headers.get("HX-Redirect");
  if (target || !answer.ok) {
    location.assign(target ?? link.href);
    return;
  }
  body.innerHTML = await answer.text();
  htmx.process(body);
  dialog.showModal();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-text]");
  if (button?.matches("button")) copy(button);
  const link = event.target.closest("a[data-dialog]");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    openDialog(link);
  }
  if (event.target.closest("[data-close]")) {
    const dialog = event.target.closest("dialog");
    if (dialog) {
      event.preventDefault();
      dialog.close();
    }
  }
  if (event.target.closest("[data-dismiss]")) event.target.closest(".flash").remove();
  const reveal = event.target.closest("[data-reveal]");
  if (reveal) {
    const field = document.getElementById(reveal.dataset.reveal);
    field.type = field.type === "password" ? "text" : "password";
    reveal.textContent = field.type === "password" ? "Show" : "Hide";
  }
  const expand = event.target.closest("button[aria-expanded]");
  if (expand) {
    const isOpen = expand.getAttribute("aria-expanded") === "true";
    expand.setAttribute("aria-expanded", String(!isOpen));
    document.getElementById(expand.getAttribute("aria-controls")).hidden = isOpen;
  }
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = document.activeElement?.closest("details.menu[open]") ?? document.querySelector("details.menu[open]");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

document.addEventListener("focusin", (event) => {
  if (event.target.matches("[data-select]")) event.target.select();
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});

document.addEventListener("input", (event) => {
  if (event.target.matches("[data-filter]")) {
    const words = event.target.value.toLowerCase();
    for (const item of document.querySelectorAll(`#${event.target.dataset.filter} li`)) {
      item.hidden = !item.textContent.toLowerCase().includes(words);
    }
  }
  if (event.target.matches("[data-remaining]")) {
    const left = event.target.dataset.limit - [...event.target.value].length;
    const count = Math.abs(left).toLocaleString("en").replaceAll(",", "\u2009");
    document.getElementById(event.target.dataset.remaining).textContent = `${count} characters ${left < 0 ? "too many" : "left"}`;
  }
});

document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (button?.dataset.busy) {
    button.style.minWidth = `${button.offsetWidth}px`;
    button.textContent = button.dataset.busy;
    button.setAttribute("aria-busy", "true");
  }
});

document.addEventListener("htmx:configRequest", (event) => {
  const token = document.querySelector('meta[name="csrf-token"]');
  if (token && event.detail.verb !== "get") event.detail.headers["X-CSRF-Token"] = token.content;
});

document.addEventListener("htmx:beforeRequest", (event) => {
  const target = event.detail.target;
  target.setAttribute("aria-busy", "true");
  if (!target.hasChildNodes()) target.textContent = "Loading…";
});

document.addEventListener("htmx:afterRequest", (event) => event.detail.target.removeAttribute("aria-busy"));

document.addEventListener("htmx:afterSettle", (event) => {
  // What was put in the place of the target is the target of the event.
  const focus = event.detail.target.querySelector("[data-focus]") ?? event.target.querySelector("[data-focus]");
  if (focus) {
    focus.focus();
    announce(focus.dataset.focus || focus.textContent);
  }
});

// Code in READMEs gets the same copy button as commands.
const copyButton = document.getElementById("copy-button");
if (copyButton) {
  for (const block of document.querySelectorAll(".prose .snippet")) block.append(copyButton.content.cloneNode(true));
}

// A summary of errors takes the focus, so that it is read and its links are next.
document.querySelector("[role=alert][tabindex]")?.focus();

// The results of a search from another page of this site are next.
if (document.referrer.startsWith(`${location.origin}/`)) document.querySelector("[data-results]")?.focus();
