// A matrix on a canvas. The numbers are sent once; crossing, zooming and colouring need no kernel.
const WIDTH = 576, HEIGHT = 384, STRIP = 72, GAP = 8, NEAREST = 4; // pixels; the fewest rows or columns shown
const KEYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function labelled(label, input) {
  input.id = `lm4lv-${Math.random().toString(36).slice(2)}`;
  return element("div", { className: "lm4lv-control" }, element("label", { htmlFor: input.id, textContent: label }), input);
}

function bytes(view) { return view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength); }

function paint(numbers, rows, columns, reach, table, diverging) {
  const picture = new ImageData(columns, rows);
  for (let i = 0; i < numbers.length; i++) {
    const part = numbers[i] / reach, place = diverging ? (part + 1) * 127.5 : Math.abs(part) * 255;
    const from = 3 * Math.max(0, Math.min(255, Math.round(place)));
    for (let c = 0; c < 3; c++) picture.data[4 * i + c] = table[from + c];
    picture.data[4 * i + 3] = 255;
  }
  const sheet = element("canvas", { width: columns, height: rows });
  sheet.getContext("2d").putImageData(picture, 0, 0);
  return sheet;
}

function render({ model, el }) {
  el.classList.add("lm4lv-explorer");
  const maps = model.get("maps"), canvas = element("canvas", { width: WIDTH + GAP + STRIP, height: HEIGHT + GAP + STRIP, tabIndex: 0, className: "lm4lv-matrix" });
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "Matrix. Arrow keys move the cross, with Shift ten cells; plus and minus zoom; Home shows all.");
  const colours = element("select", {}, ...maps.map((map, i) => element("option", { value: i, textContent: map.name })));
  const reach = element("input", { type: "range", min: 1, max: 100, value: 30 });
  const zoom = element("input", { type: "range", min: 0, max: 6, value: 0 });
  const said = element("div", { className: "lm4lv-said" });
  said.setAttribute("aria-live", "polite");
  el.append(element("div", { className: "lm4lv-controls" }, labelled("colours", colours), labelled("colours reach to (% of the largest)", reach), labelled("zoom", zoom)), canvas, said);

  for (const control of [colours, reach, zoom, canvas]) control.setAttribute("data-lm-suppress-shortcuts", "true"); // arrow keys move the cross, not JupyterLab's cells
  const pen = canvas.getContext("2d");
  let numbers, rows, columns, sheet, largest, limit, row = 0, column = 0, top = 0, left = 0, high, wide;
  const clamp = (x, low, most) => Math.max(low, Math.min(most, x));

  function profile(value, first, shown, count, across) { // of the row below, of the column at the right
    pen.beginPath();
    for (let i = Math.floor(first); i < Math.min(count, Math.ceil(first + shown)); i++) {
      const along = ((i + 0.5 - first) / shown) * (across ? WIDTH : HEIGHT), off = (0.5 - clamp(value(i) / limit, -1, 1) / 2) * STRIP;
      if (across) pen.lineTo(along, HEIGHT + GAP + off); else pen.lineTo(WIDTH + GAP + STRIP - off, along);
    }
    pen.stroke();
  }
  function draw() {
    pen.fillStyle = "#ffffff"; pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(sheet, left, top, wide, high, 0, 0, WIDTH, HEIGHT);
    const x = ((column + 0.5 - left) / wide) * WIDTH, y = ((row + 0.5 - top) / high) * HEIGHT;
    pen.strokeStyle = "#d55e00"; pen.lineWidth = 1;
    for (const [a, b, c, d] of [[x, 0, x, HEIGHT], [0, y, WIDTH, y]]) { pen.beginPath(); pen.moveTo(a, b); pen.lineTo(c, d); pen.stroke(); }
    pen.strokeStyle = "#bbbbbb"; pen.strokeRect(0.5, HEIGHT + GAP - 0.5, WIDTH, STRIP); pen.strokeRect(WIDTH + GAP - 0.5, 0.5, STRIP, HEIGHT);
    pen.strokeStyle = "#0072b2";
    profile((i) => numbers[row * columns + i], left, wide, columns, true);
    profile((i) => numbers[i * columns + column], top, high, rows, false);
    said.textContent = `row ${row}, column ${column}: ${numbers[row * columns + column].toPrecision(3)}; colours and profiles reach to ±${limit.toPrecision(2)}`;
  }
  function colour() {
    const map = maps[colours.value];
    limit = Math.max(1e-12, (largest * reach.value) / 100);
    sheet = paint(numbers, rows, columns, limit, new Uint8Array(bytes(map.table)), map.diverging);
    draw();
  }
  function go(r, c) { // to a cell; the window follows
    row = clamp(r, 0, rows - 1); column = clamp(c, 0, columns - 1);
    top = clamp(clamp(top, row + 1 - high, row), 0, rows - high); left = clamp(clamp(left, column + 1 - wide, column), 0, columns - wide);
    draw();
  }
  function rescale() { // about the cross
    const [y, x] = [(row - top) / (high || rows), (column - left) / (wide || columns)];
    high = Math.max(Math.min(NEAREST, rows), rows / 2 ** zoom.value); wide = Math.max(Math.min(NEAREST, columns), columns / 2 ** zoom.value);
    top = row - y * high; left = column - x * wide;
    go(row, column);
  }
  function load() {
    numbers = new Float32Array(bytes(model.get("data")));
    if (rows !== model.get("rows") || columns !== model.get("columns")) { row = column = top = left = 0; zoom.value = 0; }
    [rows, columns] = [model.get("rows"), model.get("columns")];
    largest = numbers.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    high = rows / 2 ** zoom.value; wide = columns / 2 ** zoom.value;
    high = Math.max(Math.min(NEAREST, rows), high); wide = Math.max(Math.min(NEAREST, columns), wide);
    row = clamp(row, 0, rows - 1); column = clamp(column, 0, columns - 1);
    colour();
  }

  canvas.addEventListener("mousemove", ({ offsetX, offsetY }) => {
    if (offsetX >= WIDTH || offsetY >= HEIGHT) return;
    row = clamp(Math.floor(top + (offsetY / HEIGHT) * high), 0, rows - 1); column = clamp(Math.floor(left + (offsetX / WIDTH) * wide), 0, columns - 1);
    draw();
  });
  canvas.addEventListener("keydown", (event) => {
    const far = event.shiftKey ? 10 : 1, turn = { "+": 1, "=": 1, "-": -1 }[event.key];
    if (event.key in KEYS) go(row + far * KEYS[event.key][0], column + far * KEYS[event.key][1]);
    else if (turn) { zoom.value = Number(zoom.value) + turn; rescale(); }
    else if (event.key === "Home") { zoom.value = 0; rescale(); }
    else return;
    event.preventDefault();
  });
  colours.addEventListener("input", colour); reach.addEventListener("input", colour); zoom.addEventListener("input", rescale);
  model.on("change:data", load);
  load();
  return () => model.off("change:data", load);
}

export default { render };
