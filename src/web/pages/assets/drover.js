// Liveness, and nothing else: the log as it comes, the tables once a second. All of it works without, by reloading.
"use strict";

const live = document.getElementById("live");
const log = document.getElementById("log");
const stale = document.getElementById("stale");
const MOST_LINES = 5000;
const AGAIN = 3000;

/* Since when each part of the page is not live, and why; the page says so as long as one is not. */
const troubles = new Map();
let lastLive = new Date();

function sayTrouble() {
  const all = [...troubles.values()];
  const trouble = all.find((one) => one.signIn) || all[0];
  stale.hidden = !trouble;
  if (!trouble) {
    lastLive = new Date();
    return;
  }
  const since = lastLive.toISOString().slice(11, 19);
  stale.textContent = `Not live since ${since} UTC: ${trouble.words}`;
  if (trouble.signIn) {
    const link = document.createElement("a");
    link.href = `/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`;
    link.textContent = "Sign in";
    stale.append(" ", link);
  }
}

function trouble(part, words, signIn) {
  if (words) {
    troubles.set(part, { words, signIn });
  } else {
    troubles.delete(part);
  }
  sayTrouble();
}

/* Brings what is shown to what the server rendered afresh, touching only what differs: a selection and the focus stay. */
function bring(shown, fresh) {
  if (shown.nodeName !== fresh.nodeName || shown.nodeType !== Node.ELEMENT_NODE) {
    if (!shown.isEqualNode(fresh)) {
      shown.replaceWith(fresh);
    }
    return;
  }
  for (const name of shown.getAttributeNames()) {
    if (!fresh.hasAttribute(name) && name !== "open") {
      shown.removeAttribute(name);
    }
  }
  for (const name of fresh.getAttributeNames()) {
    if (shown.getAttribute(name) !== fresh.getAttribute(name)) {
      shown.setAttribute(name, fresh.getAttribute(name));
    }
  }
  bringChildren(shown, fresh);
}

function bringChildren(shown, fresh) {
  const [old, next] = [[...shown.childNodes], [...fresh.childNodes]];
  next.forEach((node, at) => {
    if (at < old.length) {
      bring(old[at], node);
    } else {
      shown.append(node);
    }
  });
  old.slice(next.length).forEach((node) => node.remove());
}

async function fetchLive() {
  let answer;
  try {
    answer = await fetch(live.dataset.from, { credentials: "same-origin", redirect: "manual" });
  } catch {
    return trouble("tables", "the daemon can't be reached; trying again.");
  }
  if (answer.type === "opaqueredirect" || answer.status === 401) {
    return trouble("tables", "your session is over.", true);
  }
  if (!answer.ok) {
    return trouble("tables", `the daemon answers ${answer.status}; trying again.`);
  }
  const fresh = document.createElement("template");
  fresh.innerHTML = await answer.text();
  bringChildren(live, fresh.content);
  trouble("tables", null);
}

async function refresh() {
  await fetchLive();
  const status = live.querySelector("[data-verbs]");
  if (status) {
    const verbs = status.dataset.verbs.split(" ");
    for (const verb of document.querySelectorAll("#verbs [data-verb]")) {
      verb.hidden = !verbs.includes(verb.dataset.verb);
    }
    document.title = status.dataset.title;
    const cancel = document.getElementById("cancel");
    if (cancel) {
      cancel.hidden = Boolean(status.dataset.ended);
    }
    // Resumed or tried again by somebody else: the log goes on.
    if (log && !source && !status.dataset.settled) {
      follow();
    }
  }
  setTimeout(refresh, document.hidden || (status && status.dataset.ended) ? 5000 : 1000);
}

function piece(kind, text) {
  const span = document.createElement("span");
  span.className = kind;
  span.textContent = text;
  return span;
}

function show(row) {
  log.dataset.after = row.seq;
  const line = document.createElement("div");
  line.id = `L${row.seq}`;
  line.className = row.source === "drover" ? "line ours" : "line";
  const at = new Date(row.at).toISOString().slice(11, 19);
  line.append(piece("at", at), " ", piece("who", row.instance || "drover"), " ", piece("event", row.event || ""), " ",
    piece("text", row.text));
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(line);
  while (log.childElementCount > MOST_LINES) {
    log.firstElementChild.remove();
  }
  if (atEnd) {
    log.scrollTop = log.scrollHeight;
  }
}

/* The log as it comes; null while it isn't followed. */
let source = null;

function follow() {
  // A break is mended by the browser itself, with the number of the last line it has seen.
  source = new EventSource(`${log.dataset.from}&after=${log.dataset.after}`);
  source.onopen = () => trouble("log", null);
  source.onmessage = (message) => show(JSON.parse(message.data));
  source.onerror = () => {
    trouble("log", "the log does not come; trying again.");
    if (source.readyState === EventSource.CLOSED) {
      // Any other answer than a stream ends it for good.
      setTimeout(follow, AGAIN);
    }
  };
  source.addEventListener("end", () => {
    source.close();
    source = null;
    trouble("log", null);
  });
}

if (live) {
  setTimeout(refresh, 1000);
}
if (log) {
  log.scrollTop = log.scrollHeight;
  if (!live.querySelector("[data-settled]")) {
    follow();
  }
}
