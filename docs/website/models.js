// The table of models: what is typed filters its rows, a head that is clicked sorts them.
document.querySelectorAll(".models").forEach((place) => {
  const body = place.querySelector("tbody");
  const rows = [...body.rows];
  const bar = document.createElement("p");
  bar.className = "filters";
  const choices = [...new Set(rows.map((row) => row.cells[1].textContent))];
  bar.innerHTML =
    '<input type="search" placeholder="resnext, pre-activation, 32 …" aria-label="Filter">' +
    '<select aria-label="Made for"><option value="">any images</option>' +
    choices.map((each) => `<option>${each}</option>`).join("") +
    "</select>" +
    '<label><input type="checkbox"> with weights</label> <output></output>';
  place.before(bar);
  const [words, made, trained] = bar.querySelectorAll("input[type=search], select, input[type=checkbox]");
  const count = bar.querySelector("output");

  function filter() {
    const asked = words.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits =
        asked.every((word) => text.includes(word)) &&
        (!made.value || row.cells[1].textContent === made.value) &&
        (!trained.checked || row.cells[5].textContent !== "");
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${rows.length}`;
  }

  function sort(head, column) {
    const falling = head.getAttribute("aria-sort") === "ascending";
    const heads = place.querySelectorAll("th");
    heads.forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const value = (row) => {
      const cell = row.cells[column];
      return cell.dataset.value ? Number(cell.dataset.value) : cell.textContent;
    };
    const order = (a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0);
    const sorted = [...rows].sort((a, b) => (falling ? -order(a, b) : order(a, b)));
    body.append(...sorted);
  }

  place.querySelectorAll("th").forEach((head, column) => {
    const button = document.createElement("button");
    button.textContent = head.textContent || "what it is";
    head.replaceChildren(button);
    button.addEventListener("click", () => sort(head, column));
  });
  bar.addEventListener("input", filter);
  filter();
});
