// Counts down to deadlines, and updates a page when an approval request changes. Without this script every page works by reloading.
(() => {
  "use strict";

  const pad = (number) => String(number).padStart(2, "0");

  const formatRemaining = (milliseconds) => {
    const seconds = Math.max(0, Math.floor(milliseconds / 1000));
    const hours = Math.floor(seconds / 3600);
    const minutes = Math.floor((seconds % 3600) / 60);
    return hours > 0 ? `${hours}:${pad(minutes)}:${pad(seconds % 60)}` : `${minutes}:${pad(seconds % 60)}`;
  };

  const updateCountdowns = () => {
    for (const time of document.querySelectorAll("time[data-countdown]")) {
      let note = time.querySelector(".remaining");
      if (!note) {
        note = document.createElement("span");
        note.className = "remaining nowrap";
        time.append(" ", note);
      }
      const remaining = Date.parse(time.dateTime) - Date.now();
      const text = remaining > 0 ? `(${formatRemaining(remaining)} left)` : "(ended)";
      if (note.textContent !== text) note.textContent = text;
      time.classList.toggle("soon", remaining > 0 && remaining < 60000);
    }
  };

  const isBeingEdited = (element) => {
    const active = document.activeElement;
    if (active && element.contains(active) && /^(INPUT|TEXTAREA|SELECT)$/.test(active.tagName)) return true;
    return [...element.querySelectorAll("input[type=text], input:not([type]), textarea")].some((field) => field.value !== "");
  };

  // Problems that keep the page from being up to date. The first one is shown until it is resolved.
  const problems = new Map();
  const setProblem = (kind, text) => {
    if (text) problems.set(kind, text);
    else problems.delete(kind);
    const line = document.getElementById("live-state");
    if (!line) return;
    const [first = ""] = problems.values();
    if (line.textContent !== first) line.textContent = first;
    line.hidden = first === "";
  };

  // The HTML of each live part as the gateway sent it, before the countdowns changed it.
  const sent = new Map();
  const rememberSentHtml = () => {
    for (const part of document.querySelectorAll("[data-live]")) sent.set(part.id, part.innerHTML);
  };

  // After a form, the page's address is that of the form; updates come from the address of the approval request.
  const here = location.pathname.match(/^\/approvals\/([0-9a-f-]+)/);
  const address = (here ? here[0] : location.pathname) + location.search;
  const key = (page) => page.querySelector("[data-live-key]")?.dataset.liveKey;
  const renderedKey = key(document);

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
        setProblem("response", "You may be signed out: reload the page.");
        return;
      }
      setProblem("response", "");
      let stale = false;
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      for (const old of document.querySelectorAll("[data-live]")) {
        const next = fresh.getElementById(old.id);
        if (!next || sent.get(old.id) === next.innerHTML) continue;
        // Buttons must not move or change under a finger unless the possible votes have changed.
        if (old.dataset.liveKey !== undefined && old.dataset.liveKey === next.dataset.liveKey) continue;
        if (isBeingEdited(old)) {
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
      setProblem("stale", stale ? "This approval request has changed. Reload the page to see how you can vote now." : "");
      // The error of a rejected vote is out of date once the request has changed.
      if (key(fresh) !== renderedKey) document.getElementById("vote-error")?.remove();
      document.title = fresh.title;
      updateCountdowns();
    } catch {
      setProblem("response", "The gateway cannot be reached. This page may be out of date.");
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

  const listenForChanges = () => {
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
      setProblem("stream", "");
      // Changes between the rendering of the page, or an interruption of the stream, and now sent no event.
      refresh();
    });
    source.addEventListener("error", () => {
      setProblem("stream", "No live updates: reload the page to see the current state.");
      if (source.readyState === EventSource.CLOSED) setTimeout(listenForChanges, 10000);
    });
    addEventListener("pagehide", () => source.close(), { once: true });
  };
  // A page restored by the browser's back button has lost its stream.
  addEventListener("pageshow", (event) => {
    if (event.persisted && document.querySelector("[data-live]")) listenForChanges();
  });

  // A second press of the button must not send the form twice.
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
    rememberSentHtml();
    updateCountdowns();
    setInterval(updateCountdowns, 1000);
  }
  if (document.querySelector("[data-live]")) {
    listenForChanges();
    // Once the user leaves an empty field, a postponed update can happen.
    document.addEventListener("focusout", () => problems.has("stale") && refresh());
    // The confirmation of a vote is shown for a minute.
    if (document.querySelector("#notice > *")) setTimeout(refresh, 61000);
    // Uses of a time-bound grant send no event.
    setInterval(() => {
      if (!document.hidden && document.querySelector("[data-recount]")) refresh();
    }, 10000);
  }
})();
