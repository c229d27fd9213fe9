// Counts down to deadlines, and brings a page up to date when an ask changes. Without it every page works by reloading.
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
    return active && element.contains(active) && /^(INPUT|TEXTAREA|SELECT)$/.test(active.tagName);
  };

  const say = (text) => {
    const line = document.getElementById("live-state");
    if (line) {
      line.textContent = text;
      line.hidden = text === "";
    }
  };

  // What the gateway sent for each live part, before the countdowns changed it.
  const sent = new Map();
  const remember = () => {
    for (const part of document.querySelectorAll("[data-live]")) sent.set(part.id, part.innerHTML);
  };

  let running = false;
  let again = false;
  const refresh = async () => {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      const response = await fetch(location.pathname, { credentials: "same-origin", redirect: "manual" });
      if (!response.ok) {
        say("You may be signed out: reload the page.");
        return;
      }
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      for (const old of document.querySelectorAll("[data-live]")) {
        const next = fresh.getElementById(old.id);
        if (!next || sent.get(old.id) === next.innerHTML) continue;
        // The buttons stay where they are under the finger unless what they can do has changed.
        if (old.dataset.liveKey !== undefined && old.dataset.liveKey === next.dataset.liveKey) continue;
        if (typing(old)) {
          say("This ask has changed. Reload the page to see its new state.");
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
      document.title = fresh.title;
      count();
    } catch {
      say("The gateway cannot be reached. This page may be out of date.");
    } finally {
      running = false;
      if (again) {
        again = false;
        setTimeout(refresh, 250);
      }
    }
  };

  const here = location.pathname.match(/^\/asks\/([0-9a-f-]+)/);
  const concerns = (id) => !here || !id || id.replaceAll("-", "") === here[1].replaceAll("-", "");

  const listen = () => {
    const source = new EventSource("/events");
    source.addEventListener("ask", (event) => {
      let id;
      try {
        id = JSON.parse(event.data).id;
      } catch {
        id = undefined;
      }
      if (concerns(id)) refresh();
    });
    source.addEventListener("open", () => {
      say("");
      // What changed since the page was drawn, or since the stream broke off, was told to nobody.
      refresh();
    });
    source.addEventListener("error", () => {
      say("Not live now: reload the page to be sure that it is up to date.");
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 10000);
    });
    addEventListener("pagehide", () => source.close(), { once: true });
  };

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
  if (document.querySelector("[data-live]")) listen();
})();
