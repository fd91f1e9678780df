// Liveness, and nothing else: the log as it comes, the tables once a second. All of it works without, by reloading.
"use strict";

const live = document.getElementById("live");
const log = document.getElementById("log");
const MOST_LINES = 5000;

/* What the server rendered afresh takes the place of what it rendered before. */
async function refresh() {
  try {
    const answer = await fetch(live.dataset.from, { credentials: "same-origin", redirect: "error" });
    if (answer.ok) {
      live.innerHTML = await answer.text();
    }
  } catch {
    // The daemon is away: what is shown stays, and the next try follows.
  }
  const may = live.querySelector("[data-verbs]");
  if (may) {
    const verbs = may.dataset.verbs.split(" ");
    for (const button of document.querySelectorAll("#verbs button")) {
      button.hidden = !verbs.includes(button.dataset.verb);
    }
  }
  const ended = live.querySelector("[data-ended]");
  const cancel = document.getElementById("cancel");
  if (ended && cancel) {
    cancel.hidden = true;
    cancel.style.display = "none";
  }
  if (!ended) {
    setTimeout(refresh, document.hidden ? 5000 : 1000);
  }
}

function piece(kind, text) {
  const span = document.createElement("span");
  span.className = kind;
  span.textContent = text;
  return span;
}

function show(row) {
  const line = document.createElement("div");
  line.id = `L${row.seq}`;
  line.className = row.source === "drover" ? "line ours" : "line";
  // Colours and other control sequences of a terminal mean nothing here.
  const text = row.text.replace(/\u001b\[[0-9;?]*[ -\/]*[@-~]/g, "").replace(/[\u0000-\u001f\u007f-\u009f]/g, "");
  const at = new Date(row.at).toISOString().slice(11, 19);
  line.append(piece("at", at), " ", piece("who", row.instance || "drover"), " ", piece("event", row.event || ""), " ",
    piece("text", text));
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(line);
  while (log.childElementCount > MOST_LINES) {
    log.firstElementChild.remove();
  }
  if (atEnd) {
    log.scrollTop = log.scrollHeight;
  }
}

function follow() {
  // The browser comes back by itself, with the number of the last line it has seen.
  const source = new EventSource(`${log.dataset.from}&after=${log.dataset.after}`);
  source.onmessage = (message) => show(JSON.parse(message.data));
  source.addEventListener("end", () => {
    source.close();
    refresh();
  });
}

if (live) {
  setTimeout(refresh, 1000);
}
if (log) {
  log.scrollTop = log.scrollHeight;
  if (!log.dataset.ended) {
    follow();
  }
}
