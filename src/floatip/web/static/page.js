// Keeps the page as it is now: fetches it again after each event, and makes what is open equal to it.
"use strict";

const AT_MOST_EVERY = 250;  // milliseconds between two fetches
const AT_LEAST_EVERY = 5000;  // ages grow also when nothing happens
const SILENCE = 2500;  // after this long without a sign of the daemon it is gone
const STALE = 10000;  // a picture that is older is not called live, whatever the events say
const KEPT = new Set(["open", "hidden"]);  // attributes that the reader changes

const find = (id) => document.getElementById(id);
const root = document.documentElement;
const host = document.querySelector("h1").textContent;
let events = null;
let heard = performance.now();
let goneAt = null;
let listened = -Infinity;
let fetched = -Infinity;
let shown = performance.now();
let timer = null;
let fetching = false;
let token = "";  // of this page alone: nothing keeps it
let asked = null;

// The picture

function same(one, other) {
  return one.nodeName === other.nodeName && one.id === other.id;
}

function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.hasAttribute("data-kept")) return;
  for (const {name, value} of fresh.attributes)
    if (!KEPT.has(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const {name} of [...old.attributes])
    if (!KEPT.has(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
  const named = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const known = child.id && named.get(child.id);
    if (known && known !== at) {
      old.insertBefore(known, at);
      at = known;
    }
    if (at && same(at, child)) {
      const next = at.nextSibling;
      morph(at, child);
      at = next;
    } else {
      old.insertBefore(document.adoptNode(child), at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function show(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  const still = fresh.getElementById("live");
  if (!still) return false;
  if (fresh.documentElement.dataset.version !== root.dataset.version) location.reload();
  const before = find("verdict").textContent;
  morph(find("top"), fresh.getElementById("top"));
  morph(find("main"), fresh.getElementById("main"));
  document.title = fresh.title;
  const verdict = find("verdict").textContent;
  if (verdict !== before) find("said").textContent = `${host}: ${verdict}`;
  find("live").dataset.at = still.dataset.at;
  filter();
  return true;
}

async function update() {
  timer = null;
  if (fetching) return;
  fetching = true;
  fetched = performance.now();
  try {
    const answer = await fetch("/", {cache: "no-store", signal: AbortSignal.timeout(SILENCE)});
    if (answer.ok && show(await answer.text())) {
      shown = performance.now();
      isAlive();
    }
  } catch {
    // The watch below says that it is gone.
  }
  fetching = false;
}

function soon() {
  if (timer === null) timer = setTimeout(update, Math.max(0, fetched + AT_MOST_EVERY - performance.now()));
}

// Whether it lives

function isAlive() {
  const wasGone = root.classList.contains("gone");
  heard = performance.now();
  root.classList.remove("gone");
  find("live").className = "live";
  find("live").textContent = `Live. As of ${find("live").dataset.at}`;
  if (wasGone) find("said").textContent = `floatip on ${host} answers again`;
}

function isGone() {
  if (root.classList.contains("gone")) return;
  goneAt = performance.now();
  root.classList.add("gone");
  const words = `Gone: floatip on ${host} does not answer. This is what it said at ${find("live").dataset.at}.`;
  find("live").className = "gone";
  find("live").textContent = words;
  find("said").textContent = words;
  document.title = `✗ gone: ${host}`;
}

function listen() {
  if (events && (events.readyState !== EventSource.CLOSED || performance.now() < listened + SILENCE)) return;
  listened = performance.now();
  events = new EventSource("/events");
  for (const kind of ["change", "reset", "error"]) events.addEventListener(kind, soon);
  events.addEventListener("alive", () => performance.now() - shown < STALE && isAlive());
  events.addEventListener("silent", isGone);
}

setInterval(() => {
  if (document.hidden) return;
  const now = performance.now();
  if (now - heard > SILENCE) isGone();
  listen();
  if (now - Math.max(fetched, 0) > (now - heard > SILENCE / 2 ? SILENCE / 2 : AT_LEAST_EVERY)) soon();
}, 250);

// A browser opens few connections to one host, so a page that nobody sees gives up its own.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    events.close();
  } else {
    heard = performance.now();
    soon();
  }
});

// The filter

function filter() {
  const box = find("find");
  if (!box) return;
  const wanted = box.value.trim().toLowerCase();
  let count = 0;
  for (const row of document.querySelectorAll("tr[data-name]")) {
    row.hidden = !row.dataset.name.includes(wanted);
    count += !row.hidden;
  }
  for (const part of document.querySelectorAll("#instances .wide, #instances .group"))
    part.hidden = !part.querySelector("tr[data-name]:not([hidden])");
  find("found").textContent = wanted && `${count} found`;
}

document.addEventListener("input", (event) => {
  if (event.target.id !== "find") return;
  for (const group of document.querySelectorAll("details.group")) group.open = event.target.value !== "";
  filter();
});

// Orders

async function send(verb, fields, query = "") {
  // In the form and not in a header: a proxy in front may need Authorization for itself.
  const body = new URLSearchParams({...fields, token});
  try {
    const answer = await fetch(`/${verb}${query}`, {method: "POST", body});
    const text = await answer.text();
    if (answer.headers.get("Content-Type").startsWith("application/json")) return JSON.parse(text);
    if (answer.status === 401) lock();
    return {refused: text, unsure: answer.status === 503};
  } catch {
    return {refused: "no answer came; it may have been done", unsure: true};
  }
}

function refusal(answer) {
  return (answer.refused || answer.error) + (answer.hint ? `\nhint: ${answer.hint}` : "");
}

function lock() {
  token = "";
  find("verbs").hidden = true;
  find("unlock").hidden = false;
}

async function begin(button) {
  asked = {verb: button.dataset.verb};
  const isTimed = ["drain", "pause"].includes(asked.verb);
  find("ask-h").textContent = button.textContent;
  find("ask-what").textContent = button.dataset.what;
  find("ask-timed").hidden = !isTimed;
  find("ask-now").textContent = "Asking what would happen now …";
  find("yes").disabled = true;
  find("answer").textContent = "";
  find("ask").showModal();
  const fields = asked.verb === "handover" ? {instance: find("of").value, to: find("to").value} : {};
  const mine = asked;
  const answer = await send(asked.verb, fields, "?check=1");
  if (asked !== mine) return;
  const isRefused = answer.refused !== undefined || answer.error !== undefined;
  asked.fields = fields;
  find("ask-now").className = isRefused ? "refused" : "";
  find("ask-now").textContent = isRefused ? `Refused: ${refusal(answer)}` : `Now: ${answer.would.join("; ")}.`;
  find("yes").disabled = isRefused;
}

async function carryOut() {
  const {verb, fields} = asked;
  if (!find("ask-timed").hidden) Object.assign(fields, {reason: find("reason").value, for: find("for").value});
  find("ask").close();
  find("answer").textContent = `${verb}: asked`;
  const answer = await send(verb, fields);
  const words = answer.refused || answer.error ? `${answer.unsure ? "no result" : "refused"}: ${refusal(answer)}`
    : answer.done ? `done. ${answer.result || ""}` : `begun. ${(answer.waiting || []).join("; ")}. This page shows when that is done.`;
  if (find("answer")) find("answer").textContent = `${verb}: ${words}`;
  soon();
}

document.addEventListener("submit", (event) => {
  event.preventDefault();
  token = find("token").value.trim();
  find("token").value = "";
  find("unlock").hidden = true;
  find("verbs").hidden = false;
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.verb) begin(button);
  if (button.id === "yes") carryOut();
  if (button.id === "no") find("ask").close();
});

root.classList.add("scripted");
isAlive();
listen();
