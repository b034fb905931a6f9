// The raters' page. Texts are set as text nodes only: what is judged is never read as HTML.

import { Player } from "./player.js";

const STORED = "raysafe-feedback-token";
const $ = (id) => document.getElementById(id);

let item = null;
let busy = false;
let shownMs = 0;
let shownSince = null;

// the token leaves the address bar at once, so that it is in no history, bookmark or picture of the screen
if (location.hash.startsWith("#token=")) {
  sessionStorage.setItem(STORED, decodeURIComponent(location.hash.slice("#token=".length)));
  history.replaceState(null, "", location.pathname);
}
const token = sessionStorage.getItem(STORED);

async function ask(path, body) {
  const options = { headers: { Authorization: `Bearer ${token}` }, cache: "no-store" };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw Object.assign(new Error("the server can't be reached"), { status: 0 });
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw Object.assign(new Error(said.error || `the server answered ${response.status}`), { status: response.status });
}

const player = new Player(
  {
    box: $("player"), play: $("play"), back: $("back"), forward: $("forward"),
    position: $("position"), positionText: $("position-text"),
  },
  async (name, side, index) => {
    const query = new URLSearchParams({ item: name, side, index });
    return (await ask(`api/frame?${query}`)).blob();
  },
  (error) => say(`A frame can't be shown: ${error.message}.`, true),
);

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").className = bad ? "bad" : "";
}

function show(turn) {
  item = turn.item;
  const total = turn.done + turn.left;
  $("progress-box").hidden = false;
  $("progress").max = Math.max(total, 1);
  $("progress").value = turn.done;
  $("progress-text").textContent = `${turn.done} of ${total}`;
  player.close();
  $("sides").replaceChildren();
  $("prompt").hidden = true;
  $("question").textContent = item ? turn.question : "All done. Thank you!";
  if (item) { showPrompt(item.prompt); showSides(item); }
  showChoices();
  shownMs = 0;
  shownSince = document.hidden ? null : performance.now();
  $("main").setAttribute("aria-busy", "false");
  window.scrollTo(0, 0);
  $("question").focus({ preventScroll: true });
}

function showPrompt(messages) {
  if (!messages.length) return;
  const several = messages.length > 1;
  const turns = messages.map((message) => make("div", { className: "turn" },
    ...(several ? [make("div", { className: "role", textContent: message.role })] : []),
    make("p", { className: "text", textContent: message.content })));
  $("prompt").replaceChildren(make("h2", { textContent: several ? "Conversation" : "Prompt" }), ...turns);
  $("prompt").hidden = false;
}

function showSides(shown) {
  const what = shown.kind === "text" ? "Answer" : "Trajectory";
  const images = [];
  const cards = shown.sides.map((side, index) => {
    const title = shown.sides.length === 2 ? `${what} ${index + 1}` : what;
    let content;
    if (shown.kind === "frames") {
      content = make("img", { alt: "" });
      images.push(content);
    } else if (shown.kind === "steps") {
      content = make("ol", {}, ...side.parts.map((part) => make("li", { className: "text", textContent: part })));
    } else {
      content = make("p", { className: "text", textContent: side.parts[0] });
    }
    const card = make("section", { className: "side" }, make("h2", { textContent: title }), content);
    card.setAttribute("aria-label", title);
    return card;
  });
  $("sides").className = `${shown.sides.length === 2 ? "two" : "one"} of-${shown.kind}`;
  $("sides").replaceChildren(...cards);
  if (images.length) player.open(shown.name, images, shown.sides.map((side) => side.frames));
}

// [label, key, what is sent, whether it stands out]
function choices() {
  if (!item) return [];
  if (item.scale) {
    const [low, high] = item.scale;
    const ratings = Array.from({ length: high - low + 1 }, (_, step) => low + step);
    const keyed = (rating) => (rating >= 0 && rating <= 9 ? String(rating) : rating === 10 ? "t" : null);
    return [...ratings.map((rating) => [String(rating), keyed(rating), { rating }, true]),
      ["Skip", "s", { choice: "skip" }, false]];
  }
  return [
    ["1 is better", "1", { choice: "first" }, true],
    ["Tie", "t", { choice: "tie" }, false],
    ["2 is better", "2", { choice: "second" }, true],
    ["Skip", "s", { choice: "skip" }, false],
  ];
}

function showChoices() {
  const buttons = choices().map(([label, key, answer, main]) => {
    const button = make("button", { type: "button", className: main ? "main" : "", onclick: () => judge(answer) }, label);
    if (key && key !== label) button.append(make("kbd", { textContent: key, ariaHidden: "true" }));
    if (key) button.setAttribute("aria-keyshortcuts", key);
    if (item.scale && answer.rating !== undefined) button.setAttribute("aria-label", `Rate ${label}`);
    return button;
  });
  if (item && item.scale) {
    buttons.splice(0, 0, make("span", { className: "end", textContent: "worst" }));
    buttons.splice(-1, 0, make("span", { className: "end", textContent: "best" }));
  }
  const undo = make("button", { type: "button", onclick: takeBack }, "Undo", make("kbd", { textContent: "u", ariaHidden: "true" }));
  undo.setAttribute("aria-keyshortcuts", "u");
  $("choices").replaceChildren(...buttons, undo);
  $("choices").hidden = false;
}

function secondsShown() {
  const running = shownSince === null ? 0 : performance.now() - shownSince;
  return Math.min((shownMs + running) / 1000, 86400);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden && shownSince !== null) {
    shownMs += performance.now() - shownSince;
    shownSince = null;
  } else if (!document.hidden && shownSince === null) {
    shownSince = performance.now();
  }
});

async function during(work) {
  if (busy) return;
  busy = true;
  for (const button of $("choices").querySelectorAll("button")) button.disabled = true;
  try {
    await work();
  } finally {
    busy = false;
    for (const button of $("choices").querySelectorAll("button")) button.disabled = false;
  }
}

const judge = (answer) => during(async () => {
  try {
    const seconds = secondsShown();
    show(await (await ask("api/judgements", { item: item.name, seconds, ...answer })).json());
    say("Saved.");
  } catch (error) {
    // an answer that was kept while its confirmation was lost
    if (error.status === 409) await refresh("Saved before.");
    else say(`Not saved: ${error.message}. Choose again.`, true);
  }
});

const takeBack = () => during(async () => {
  try {
    show(await (await ask("api/undo", {})).json());
    say("Taken back: judge this one again.");
  } catch (error) {
    say(`Not undone: ${error.message}.`, true);
  }
});

async function refresh(text) {
  try {
    show(await (await ask("api/turn")).json());
    say(text);
  } catch (error) {
    say(`${error.message[0].toUpperCase()}${error.message.slice(1)}.`, true);
    $("main").setAttribute("aria-busy", "false");
  }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.tagName === "INPUT") return;
  const key = event.key.toLowerCase();
  const chosen = choices().find(([, shortcut]) => shortcut === key);
  if (chosen) judge(chosen[2]);
  else if (key === "u" && !$("choices").hidden) takeBack();
  else if (player.isOpen && key === "arrowleft") player.step(-1);
  else if (player.isOpen && key === "arrowright") player.step(1);
  else if (player.isOpen && key === " " && event.target.tagName !== "BUTTON") player.toggle();
  else return;
  event.preventDefault();
});

if (token) refresh("");
else {
  say("Open the link that you were given: it holds your token.", true);
  $("main").setAttribute("aria-busy", "false");
}
