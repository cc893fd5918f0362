// Times, copying, and the live line. Everything here is a comfort: each page is whole without it.

const relative = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: "auto", style: "short" });
const spans = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

function ago(seconds) {
  for (const [unit, size] of spans) {
    if (Math.abs(seconds) >= size || unit === "second") return relative.format(-Math.trunc(seconds / size), unit);
  }
}

function tellTimes(root) {
  const now = Date.now() / 1000;
  for (const time of root.querySelectorAll("time[data-ago]")) time.textContent = ago(now - Number(time.dataset.ago));
}

tellTimes(document);
setInterval(() => tellTimes(document), 10_000);
document.addEventListener("htmx:load", (event) => tellTimes(event.target));

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = document.body.dataset.copied;
  } catch {
    button.textContent = document.body.dataset.notCopied;
  }
  setTimeout(() => { button.textContent = said; }, 1200);
});

// New blocks and study events arrive as server-sent events. A lost line is said, and tried again with growing pauses;
// a hidden page gives its line back, because a browser grants only six to one site.

const line = document.getElementById("line");
let stream = null;
let pause = 1000;
let retry = 0;

function sayLine(state) {
  line.dataset.state = state;
  line.textContent = line.dataset[state];
}

function open() {
  if (stream || document.hidden) return;
  stream = new EventSource("/events");
  stream.addEventListener("open", () => {
    pause = 1000;
    sayLine("live");
  });
  stream.addEventListener("change", (event) => {
    document.body.dispatchEvent(new CustomEvent("koinon:change", { detail: JSON.parse(event.data) }));
  });
  stream.addEventListener("error", () => {
    close();
    sayLine("lost");
    retry = setTimeout(open, pause);
    pause = Math.min(2 * pause, 30_000);
  });
}

function close() {
  clearTimeout(retry);
  if (stream) stream.close();
  stream = null;
}

if (line) {
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  open();
}
