// Counts down to deadlines, and brings a page up to date when an approval request changes. Without it every page works by reloading.
(() => {
  "use strict";

  const pad = (number) => String(number).padStart(2, "0");

  const left = (milliseconds) => {
    const seconds = Math.max(0, Math.floor(milliseconds / 1000));
    const hours = Math.floor(seconds / 3600);
    const minutes = Math.floor((seconds % 3600) / 60);
    return hours > 0 ? `${hours}:${pad(minutes)}:${pad(seconds % 60)}` : `${minutes}:${pad(seconds % 60)}`;
  };

  const count = () => {
    for (const time of document.querySelectorAll("time[data-countdown]")) {
      if (!time.dataset.said) time.dataset.said = time.textContent;
      const remaining = Date.parse(time.dateTime) - Date.now();
      const text = remaining > 0 ? `${time.dataset.said} (${left(remaining)} left)` : `${time.dataset.said} (over)`;
      if (time.textContent !== text) time.textContent = text;
      time.classList.toggle("soon", remaining > 0 && remaining < 60000);
    }
  };

  const typing = (element) => {
    const active = document.activeElement;
    if (active && element.contains(active) && /^(INPUT|TEXTAREA|SELECT)$/.test(active.tagName)) return true;
    return [...element.querySelectorAll("input[type=text], input:not([type]), textarea")].some((field) => field.value !== "");
  };

  // What keeps the page from being up to date. Each is said until it is over, and no longer.
  const troubles = new Map();
  const trouble = (what, text) => {
    if (text) troubles.set(what, text);
    else troubles.delete(what);
    const line = document.getElementById("live-state");
    if (!line) return;
    const [first = ""] = troubles.values();
    if (line.textContent !== first) line.textContent = first;
    line.hidden = first === "";
  };

  // What the gateway sent for each live part, before the countdowns changed it.
  const sent = new Map();
  const remember = () => {
    for (const part of document.querySelectorAll("[data-live]")) sent.set(part.id, part.innerHTML);
  };

  // An approval request's page may be the response to a form, which has an address of its own.
  const here = location.pathname.match(/^\/approvals\/([0-9a-f-]+)/);
  const address = (here ? here[0] : location.pathname) + location.search;
  const key = (page) => page.querySelector("[data-live-key]")?.dataset.liveKey;
  const drawn = key(document);

  let running = false;
  let again = false;
  let retry;
  const refresh = async () => {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      const response = await fetch(address, { credentials: "same-origin", redirect: "manual" });
      if (!response.ok) {
        trouble("response", "You may be signed out: reload the page.");
        return;
      }
      trouble("response", "");
      let stale = false;
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      for (const old of document.querySelectorAll("[data-live]")) {
        const next = fresh.getElementById(old.id);
        if (!next || sent.get(old.id) === next.innerHTML) continue;
        // The buttons stay where they are under the finger unless what they can do has changed.
        if (old.dataset.liveKey !== undefined && old.dataset.liveKey === next.dataset.liveKey) continue;
        if (typing(old)) {
          stale = true;
          continue;
        }
        sent.set(old.id, next.innerHTML);
        const focused = old.contains(document.activeElement) && document.activeElement.getAttribute("href");
        old.replaceWith(document.importNode(next, true));
        if (focused) {
          const same = [...document.querySelectorAll("#" + next.id + " a")].find((a) => a.getAttribute("href") === focused);
          if (same) same.focus();
        }
      }
      trouble("stale", stale ? "This approval request has changed. Reload the page to see how you can vote now." : "");
      // A rejected vote was about the request as it was before.
      if (key(fresh) !== drawn) document.getElementById("wrong")?.remove();
      document.title = fresh.title;
      count();
    } catch {
      trouble("response", "The gateway cannot be reached. This page may be out of date.");
      clearTimeout(retry);
      retry = setTimeout(refresh, 5000);
    } finally {
      running = false;
      if (again) {
        again = false;
        setTimeout(refresh, 250);
      }
    }
  };

  const concerns = (id) => !here || !id || id.replaceAll("-", "") === here[1].replaceAll("-", "");

  const listen = () => {
    const source = new EventSource("/events");
    source.addEventListener("approval_request", (event) => {
      let id;
      try {
        id = JSON.parse(event.data).id;
      } catch {
        id = undefined;
      }
      if (concerns(id)) refresh();
    });
    source.addEventListener("open", () => {
      trouble("stream", "");
      // Changes since the page was rendered, or since the stream was interrupted, sent no event.
      refresh();
    });
    source.addEventListener("error", () => {
      trouble("stream", "Not live now: reload the page to be sure that it is up to date.");
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 10000);
    });
    addEventListener("pagehide", () => source.close(), { once: true });
  };
  // A page that comes back with the browser's back button listens again.
  addEventListener("pageshow", (event) => {
    if (event.persisted && document.querySelector("[data-live]")) listen();
  });

  // A form is sent once, however often its button is pressed.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    if (form.method === "post") form.dataset.sent = "yes";
  });
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });

  if (document.querySelector("time[data-countdown]") || document.querySelector("[data-live]")) {
    remember();
    count();
    setInterval(count, 1000);
  }
  if (document.querySelector("[data-live]")) {
    listen();
    // Who has left a field empty is in nobody's way any more.
    document.addEventListener("focusout", () => troubles.has("stale") && refresh());
    // The notice of a vote is shown for a minute.
    if (document.querySelector("#notice > *")) setTimeout(refresh, 61000);
    // The use count of a time-bound grant changes without an event.
    setInterval(() => {
      if (!document.hidden && document.querySelector("[data-recount]")) refresh();
    }, 10000);
  }
})();
