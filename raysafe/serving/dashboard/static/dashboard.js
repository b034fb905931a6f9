// Renews the parts of a page that change by themselves, from the page's own address. Every action works without it.
const RENEWAL = { "X-RaySafe-Renewal": "1" };
const EVERY_MS = 2000;
const pause = document.getElementById("pause");
const news = document.getElementById("news");
let failed = false;

function tell(text) {
  if (news && news.textContent !== text) news.textContent = text;
}

function busy(part) {
  const selection = document.getSelection();
  return part.contains(document.activeElement) || (selection && !selection.isCollapsed && part.contains(selection.anchorNode));
}

function paused() {
  return document.hidden || (pause && pause.getAttribute("aria-pressed") === "true");
}

async function renew() {
  const parts = document.querySelectorAll("[data-renew]");
  if (!parts.length || paused()) return;
  let response;
  try {
    response = await fetch(location.href, { headers: RENEWAL, cache: "no-store", redirect: "manual" });
  } catch {
    response = null;
  }
  if (response && response.type === "opaqueredirect") {
    location.reload();
    return;
  }
  if (!response || !response.ok) {
    if (!failed) tell(`No news since ${new Date().toISOString().slice(11, 19)} UTC: the gateway doesn't answer.`);
    failed = true;
    return;
  }
  // a parsed document runs no script and loads nothing
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of parts) {
    const fresh = page.getElementById(part.id);
    if (fresh && !busy(part) && !paused() && fresh.innerHTML !== part.innerHTML) {
      part.replaceChildren(...fresh.childNodes);
    }
  }
  if (failed) tell("");
  failed = false;
}

async function keepRenewing() {
  await renew();
  setTimeout(keepRenewing, EVERY_MS);
}

if (pause) {
  pause.hidden = false;
  pause.addEventListener("click", () => {
    const now = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(now));
    pause.textContent = now ? "Resume updates" : "Pause updates";
  });
}
setTimeout(keepRenewing, EVERY_MS);
