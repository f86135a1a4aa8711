"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const column = Object.fromEntries(data.columns.map((name, index) => [name, index]));
  const PAGE = 200;
  const BARS = "▁▂▃▄▅▆▇█";
  const seconds = (value) => {
    if (value === null) return "";
    if (value === 0) return "0 s";
    if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
    if (value < 0.1) return `${(value * 1000).toFixed(1)} ms`;
    if (value < 10) return `${value.toFixed(2)} s`;
    if (value < 60) return `${value.toFixed(1)} s`;
    const whole = Math.round(value);
    if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
    return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  };
  const history = (task) => {
    const values = task[column.history];
    const all = task[column.took] === null ? values : [...values, task[column.took]];
    const most = Math.max(...all, 1e-9);
    return values.length ? all.map((each) => BARS[Math.min(7, Math.floor((each / most) * 7.99))]).join("") : "";
  };
  const median = (values) => [...values].sort((one, two) => one - two)[Math.floor(values.length / 2)] ?? null;
  const shown = [
    { title: "task", key: "name", value: (task) => task[column.name], kind: "name" },
    { title: "state", key: "state", value: (task) => data.states[task[column.state]].replace("_", " "), kind: "state" },
    { title: "attempts", key: "attempts", value: (task) => task[column.attempts] || "", kind: "number" },
    { title: "start", key: "start", value: (task) => seconds(task[column.start]), kind: "number" },
    { title: "waited", key: "waited", value: (task) => seconds(task[column.waited]), kind: "number" },
    { title: "took", key: "took", value: (task) => seconds(task[column.took]), kind: "number" },
    { title: "slack", key: "slack", value: (task) => task[column.critical] ? "critical" : seconds(task[column.slack]), kind: "number" },
    { title: "last runs", key: "history", value: history, kind: "bars" },
    { title: "worker", key: "worker", value: (task) => task[column.worker], kind: "worker" },
    { title: "why", key: "reason", value: (task) => task[column.reason], kind: "reason" },
  ].filter((each) => each.key !== "history" || data.tasks.some((task) => task[column.history].length));
  const sortValue = (task, key) => key === "history" ? median(task[column.history]) : task[column[key]];
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const search = document.getElementById("search");
  const state = document.getElementById("state");
  const more = document.getElementById("more");
  const found = document.getElementById("found");
  let order = { key: null, descending: false };
  let limit = PAGE;
  let rows = [];

  const cell = (task, each) => {
    const td = document.createElement("td");
    td.className = each.kind === "state" ? "" : each.kind;
    const text = String(each.value(task));
    if (each.kind === "state") {
      const span = document.createElement("span");
      span.className = `state ${data.states[task[column.state]]}`;
      span.textContent = text;
      td.append(span);
    } else {
      td.textContent = text;
    }
    if (each.key === "history" && text) {
      td.title = `median ${seconds(median(task[column.history]))}`;
    }
    return td;
  };
  const show = () => {
    const part = document.createDocumentFragment();
    for (const task of rows.slice(body.rows.length, limit)) {
      const row = document.createElement("tr");
      row.append(...shown.map((each) => cell(task, each)));
      part.append(row);
    }
    body.append(part);
    more.hidden = rows.length <= limit;
    const first = rows.length > limit ? `, the first ${limit} shown` : "";
    const elements = rows.filter((row) => row[column.upstream] === null).length;
    const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
    const rest = elements ? ` and ${counted(elements, "element")}` : "";
    found.textContent = `${rows.length - elements} of ${counted(data.tasks.length, "task")}${rest}${first}`;
  };
  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = words.length || state.value ? [...data.tasks, ...data.elements] : data.tasks;  // elements are folded
    rows = all.filter((task) => {
      if (state.value && data.states[task[column.state]] !== state.value) return false;
      const text = `${task[column.name]} ${task[column.reason]} ${task[column.worker]}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    if (order.key !== null) {
      const sign = order.descending ? -1 : 1;
      rows.sort((one, two) => {
        const [a, b] = [sortValue(one, order.key), sortValue(two, order.key)];
        if (a === b) return 0;
        if (a === null) return 1;
        if (b === null) return -1;
        return (typeof a === "string" ? a.localeCompare(b) : a - b) * sign;
      });
    }
    body.replaceChildren();
    limit = PAGE;
    show();
  };
  for (const each of shown) {
    const th = document.createElement("th");
    th.scope = "col";
    th.className = each.kind === "number" ? "number" : "";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = each.title;
    button.addEventListener("click", () => {
      const again = order.key === each.key;
      order = { key: each.key, descending: again ? !order.descending : each.kind === "number" || each.kind === "bars" };
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      th.setAttribute("aria-sort", order.descending ? "descending" : "ascending");
      update();
    });
    th.append(button);
    table.tHead.rows[0].append(th);
  }
  search.addEventListener("input", update);
  state.addEventListener("change", update);
  more.addEventListener("click", () => { limit += 5 * PAGE; show(); });
  update();
  let closed = [];  // tracebacks and predictions that are open on paper only
  window.addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const each of closed) each.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const each of closed) each.open = false;
  });
})();
