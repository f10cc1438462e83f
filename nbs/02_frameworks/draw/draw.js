// The page "Draw a digit": a drawing becomes a picture of 8 x 8 pixels, and up to three engines answer it from the same file of weights.
// A plain script, so that the page also works when it is opened as a file. What it must compute is fsdl_course/frameworks/runtimes.py; tests hold the two together.
(() => {
  "use strict";
  const data = window.DIGITS, base = new URL("draw/", document.baseURI).href;
  const TOLERANCE = 1e-4, FAULTS = { "tanh gelu": "GELU by its tanh formula", "swapped axes": "rows and columns swapped", "softmax twice": "softmax twice" };
  const byId = (id) => document.getElementById("draw-" + id);
  const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  // ---- the weights ----

  // A safetensors file: eight bytes with the length of a JSON header, the header, then the numbers of all arrays
  function parseSafetensors(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const length = Number(view.getBigUint64(0, true));
    if (!(length <= bytes.byteLength - 8)) throw new Error(`the header has ${length} bytes, and the file only ${bytes.byteLength}`);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
    const found = {};
    for (const [name, about] of Object.entries(header)) {
      if (name === "__metadata__") continue;
      const [begin, end] = about.data_offsets, count = about.shape.reduce((a, b) => a * b, 1);
      if (about.dtype !== "F32" || end - begin !== 4 * count || 8 + length + end > bytes.byteLength) throw new Error(`${name} is not what the header says`);
      found[name] = { shape: about.shape, values: new Float32Array(bytes.slice(8 + length + begin, 8 + length + end).buffer) };
    }
    return found;
  }

  // ---- a drawing becomes a picture ----

  // Strokes, lists of [x, y], become 64 whole numbers from 0 to 16
  function picture(strokes) {
    const points = strokes.flat();
    if (!points.length) return new Array(64).fill(0);
    const low = [0, 1].map((k) => Math.min(...points.map((p) => p[k]))), high = [0, 1].map((k) => Math.max(...points.map((p) => p[k])));
    const side = Math.max(high[0] - low[0], high[1] - low[1]);
    let best = null, off = Infinity;
    for (const width of data.pens) {
      const dots = bitmap(strokes, width, side > 0 ? (32 - width) / side : 0, [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2]);
      const ink = dots.reduce((a, b) => a + b, 0);
      if (Math.abs(ink - data.ink) < off) [best, off] = [dots, Math.abs(ink - data.ink)];
    }
    const pixels = new Array(64).fill(0);
    best.forEach((dot, n) => { pixels[8 * (n >> 7) + ((n & 31) >> 2)] += dot; });
    return pixels;
  }

  // 32 x 32 dots: 1 where the middle of the dot is within half a pen of a stroke
  function bitmap(strokes, width, scale, middle) {
    const dots = new Array(1024).fill(0);
    for (const stroke of strokes) {
      const placed = stroke.map(([x, y]) => [(x - middle[0]) * scale + 16, (y - middle[1]) * scale + 16]);
      placed.forEach(([ax, ay], n) => {
        const [bx, by] = placed[n + 1] || [ax, ay], long = (bx - ax) ** 2 + (by - ay) ** 2;
        const first = (a, b) => Math.max(0, Math.floor(Math.min(a, b) - width / 2 - 0.5)), last = (a, b) => Math.min(31, Math.ceil(Math.max(a, b) + width / 2));
        for (let row = first(ay, by); row <= last(ay, by); row++) {
          for (let column = first(ax, bx); column <= last(ax, bx); column++) {
            const x = column + 0.5, y = row + 0.5;
            const along = long ? Math.min(1, Math.max(0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / long)) : 0;
            if (Math.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay)) <= width / 2) dots[32 * row + column] = 1;
          }
        }
      });
    }
    return dots;
  }

  // ---- the engines: each gives a function from 64 numbers to 10 logits ----

  // The error function by a series without cancellation: 2/sqrt(pi) exp(-x^2) sum of 2^n x^(2n+1) / (1 * 3 * ... * (2n+1))
  function erf(x) {
    if (Math.abs(x) > 6) return Math.sign(x);
    let term = x, sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) sum += term *= (2 * x * x) / (2 * n + 1);
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }
  const gelu = (a) => 0.5 * a * (1 + erf(a / Math.SQRT2));
  const tanhGelu = (a) => 0.5 * a * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (a + 0.044715 * a ** 3)));

  function softmax(logits) {
    const most = Math.max(...logits), powers = logits.map((a) => Math.exp(a - most)), sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((a) => a / sum);
  }

  function layer(x, w, b) {
    const outputs = b.values.length;
    return Array.from(b.values, (bias, column) => x.reduce((sum, value, row) => sum + value * w.values[row * outputs + column], bias));
  }

  async function plain(weights) {
    return async (x, fault) => layer(layer(x, weights.w1, weights.b1).map(fault === "tanh gelu" ? tanhGelu : gelu), weights.w2, weights.b2);
  }

  async function tensorflow(weights) {
    await new Promise((done, fail) => {
      const script = document.createElement("script");
      Object.assign(script, { src: base + "engines/tf.js", onload: done, onerror: () => fail(new Error("its file could not be loaded")) });
      document.head.append(script);
    });
    const tf = window.tf;
    await tf.setBackend("cpu"); // on a phone's GPU, TensorFlow.js may compute in 16 bits
    const build = (activation) => {
      const net = tf.sequential({ layers: [tf.layers.dense({ units: 32, inputShape: [64], activation }), tf.layers.dense({ units: 10 })] });
      net.setWeights(["w1", "b1", "w2", "b2"].map((name) => tf.tensor(weights[name].values, weights[name].shape)));
      return net;
    };
    const exact = build("gelu"), approximate = build("gelu_new");
    return async (x, fault) => {
      const result = tf.tidy(() => (fault === "tanh gelu" ? approximate : exact).predict(tf.tensor(x, [1, 64])));
      const logits = Array.from(await result.data());
      result.dispose();
      return logits;
    };
  }

  async function onnx(weights) {
    const ort = await import(base + "engines/ort.mjs");
    ort.env.wasm.wasmPaths = base + "engines/";
    ort.env.wasm.numThreads = 1; // more need headers that a plain web server does not send
    const session = await ort.InferenceSession.create(bytesOf(data.graph), { executionProviders: ["wasm"] });
    const feeds = Object.fromEntries(Object.entries(weights).map(([name, w]) => [name, new ort.Tensor("float32", w.values, w.shape)]));
    return async (x) => Array.from((await session.run({ ...feeds, x: new ort.Tensor("float32", Float32Array.from(x), [1, 64]) })).logits.data);
  }

  const about = data.engines;
  const ENGINES = [
    { key: "plain", name: "Plain JavaScript", version: "", build: plain, there: true, faults: Object.keys(FAULTS) },
    { key: "tfjs", name: about.tfjs.name, version: about.tfjs.version, build: tensorflow, there: "megabytes" in about.tfjs, size: about.tfjs.megabytes, faults: Object.keys(FAULTS) },
    { key: "ort", name: about.ort.name, version: about.ort.version, build: onnx, there: "megabytes" in about.ort, size: about.ort.megabytes, faults: ["swapped axes", "softmax twice"] },
  ];

  let loading = null;
  function load(show) {
    loading ??= Promise.all(ENGINES.filter((engine) => engine.there).map(async (engine) => {
      engine.state = engine.size ? `loading ${engine.size} MB` : "loading";
      try {
        engine.answer = await engine.build(parseSafetensors(bytesOf(data.weights)));
        await engine.answer(new Array(64).fill(0), "");
        engine.state = "";
      } catch (error) {
        engine.answer = null;
        engine.state = location.protocol === "file:" ? "needs a web server: python -m tools.docs --serve" : `can't run here: ${error.message}`;
      }
      await show();
    }));
    return loading;
  }

  async function ask(engine, pixels, fault) {
    let x = pixels.map((value) => value / 16);
    if (fault === "swapped axes") x = x.map((_, n) => x[8 * (n % 8) + (n >> 3)]);
    const began = performance.now();
    const logits = await engine.answer(x, fault);
    const ms = performance.now() - began;
    return { logits: fault === "softmax twice" ? softmax(logits) : logits, ms };
  }

  // ---- who is wrong? ----

  function distance(a, b) {
    const apart = a.map((value, n) => Math.abs(value - b[n]));
    return apart.every(Number.isFinite) ? Math.max(...apart) : Infinity;
  }

  // As `outliers` of the package: an engine is trusted if it agrees with more than half of all, itself counted
  function judge(answers) {
    const friends = answers.map((one) => answers.filter((other) => distance(one.logits, other.logits) <= TOLERANCE).length);
    const trusted = friends.map((count) => 2 * count > answers.length);
    const far = Math.max(0, ...answers.flatMap((one) => answers.map((other) => distance(one.logits, other.logits))));
    return { far, decided: trusted.includes(true), liars: answers.filter((_, n) => trusted.includes(true) && !trusted[n]) };
  }

  function words(answers) {
    const { far, decided, liars } = judge(answers), small = far === 0 ? "0" : far.toExponential(1);
    const digits = [...new Set(answers.map((one) => one.digit))], count = answers.length;
    const said = digits.length === 1 ? `${count === 1 ? "It says" : count === 2 ? "Both say" : `All ${count} say`} ${digits[0]}.` : `They say ${answers.map((one) => one.digit).join(", ")}.`;
    if (count === 1) return [`${said} There is no second engine to compare with.`, ""];
    const difference = ` Largest difference of two engines' logits: ${small}.`;
    if (liars.length) return [`${said}${difference} Outlier: ${liars.map((one) => one.engine.name).join(", ")}.`, "differ"];
    if (!decided) return [`${said}${difference} Who is right can't be decided: no majority agrees.`, "differ"];
    return [said + difference, "agree"];
  }

  // ---- what one sees ----

  const state = { strokes: [], pixels: new Array(64).fill(0), cursor: [0.5, 0.5], down: false, keyboard: false, turn: 0 };
  const pad = byId("pad"), pen = pad.getContext("2d");

  function drawPad() {
    const side = pad.width, css = getComputedStyle(document.getElementById("draw"));
    pen.clearRect(0, 0, side, side);
    Object.assign(pen, { lineCap: "round", lineJoin: "round", lineWidth: side / 11, strokeStyle: css.color, fillStyle: css.color });
    for (const stroke of state.strokes) {
      pen.beginPath();
      pen.moveTo(stroke[0][0] * side, stroke[0][1] * side);
      stroke.forEach(([x, y]) => pen.lineTo(x * side, y * side));
      pen.stroke();
    }
    if (state.keyboard) {
      const [x, y] = state.cursor.map((value) => value * side);
      Object.assign(pen, { lineWidth: 5, strokeStyle: "#d9822b" });
      pen.beginPath();
      pen.arc(x, y, state.down ? side / 26 : side / 18, 0, 2 * Math.PI);
      pen.stroke();
    }
  }

  function drawPicture() {
    byId("picture").innerHTML = state.pixels.map((value, n) => `<rect x="${n % 8}" y="${n >> 3}" width="1" height="1" fill="currentColor" fill-opacity="${value / 16}"/>`).join("");
    const rows = Array.from({ length: 8 }, (_, row) => state.pixels.slice(8 * row, 8 * row + 8).join(" "));
    byId("picture").setAttribute("aria-label", state.pixels.some(Boolean) ? `The picture of 8 by 8 pixels, row by row: ${rows.join("; ")}` : "An empty picture of 8 by 8 pixels");
  }

  const escaped = (text) => text.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);

  function card(engine, answer, liar) {
    const missing = engine.there ? engine.state : "not in this build of the site, which was made without npm or a network";
    const title = `<h3>${engine.name} <small>${engine.version}</small></h3>`;
    const head = answer ? `<b>${answer.digit}</b><span>${answer.ms.toFixed(answer.ms < 10 ? 2 : 0)} ms</span>` : `<span>${escaped(missing || "waits for a digit")}</span>`;
    const bars = (answer ? answer.probabilities : new Array(10).fill(0)).map((p, digit) => `<span>${digit}</span><i style="width:${(100 * p).toFixed(1)}%"></i><span>${answer ? (100 * p).toFixed(1) + "%" : ""}</span>`);
    const words = answer ? `${engine.name}: ` + answer.probabilities.map((p, digit) => `${digit} ${(100 * p).toFixed(1)}%`).join(", ") : "";
    return `<div class="draw-engine${liar ? " liar" : ""}" data-engine="${engine.key}">${title}<p class="draw-said">${head}</p>` +
      (engine.there ? `<div class="draw-bars" role="img" aria-label="${words}">${bars.join("")}</div>` : "") + "</div>";
  }

  async function show() {
    const turn = ++state.turn, fault = byId("fault").value, target = byId("liar").value, empty = !state.pixels.some(Boolean);
    drawPad();
    drawPicture();
    const answers = [];
    for (const engine of empty ? [] : ENGINES.filter((one) => one.answer)) {
      const { logits, ms } = await ask(engine, state.pixels, engine.key === target ? fault : "");
      const probabilities = softmax(logits);
      answers.push({ engine, logits, ms, probabilities, digit: probabilities.indexOf(Math.max(...probabilities)) });
    }
    if (turn !== state.turn) return; // somebody has drawn on meanwhile
    const { liars } = judge(answers), [text, kind] = answers.length ? words(answers) : ["Draw a digit, or choose one.", ""];
    byId("verdict").textContent = text;
    byId("verdict").className = kind;
    byId("engines").innerHTML = ENGINES.map((engine) => card(engine, answers.find((one) => one.engine === engine), liars.some((one) => one.engine === engine))).join("");
    window.drawDigit.last = { pixels: state.pixels, answers: Object.fromEntries(answers.map((one) => [one.engine.key, one.logits])), far: judge(answers).far, loaded: ENGINES.every((one) => !one.there || one.answer || one.answer === null) };
  }

  function changed() {
    state.pixels = picture(state.strokes);
    load(show);
    return show();
  }

  // ---- mouse, finger, keyboard ----

  function place(event) {
    const box = pad.getBoundingClientRect(), inside = (value) => Math.min(1, Math.max(0, value));
    return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
  }

  pad.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    pad.focus({ preventScroll: true });
    Object.assign(state, { keyboard: false, down: false });
    pad.setPointerCapture(event.pointerId);
    state.pointer = event.pointerId;
    state.strokes.push([place(event)]);
    changed();
  });
  pad.addEventListener("pointermove", (event) => {
    if (event.pointerId !== state.pointer) return;
    const stroke = state.strokes.at(-1), [x, y] = place(event);
    if (Math.hypot(x - stroke.at(-1)[0], y - stroke.at(-1)[1]) < 1 / 150) return;
    stroke.push([x, y]);
    state.frame ??= requestAnimationFrame(() => { state.frame = null; changed(); });
  });
  for (const kind of ["pointerup", "pointercancel"]) pad.addEventListener(kind, () => { state.pointer = null; changed(); });

  function undo() {
    state.strokes.pop();
    Object.assign(state, { down: false, pointer: null });
    changed();
  }
  function clear() {
    Object.assign(state, { strokes: [], down: false, pointer: null });
    changed();
  }
  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  pad.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const move = MOVES[event.key];
    if (move) {
      state.cursor = state.cursor.map((value, n) => Math.min(15 / 16, Math.max(1 / 16, value + move[n] / 16)));
      if (state.down) state.strokes.at(-1).push([...state.cursor]);
    } else if (event.key === " ") {
      state.down = !state.down;
      if (state.down) state.strokes.push([[...state.cursor]]);
    } else if (event.key === "Backspace") undo();
    else if (event.key === "Delete") clear();
    else return;
    event.preventDefault();
    state.keyboard = true;
    byId("pen").textContent = `Pen ${state.down ? "down" : "up"}, column ${Math.round(state.cursor[0] * 16)}, row ${Math.round(state.cursor[1] * 16)} of 15`;
    state.down || !move ? changed() : drawPad();
  });
  pad.addEventListener("focus", () => { state.keyboard = pad.matches(":focus-visible") && state.pointer == null; drawPad(); });
  pad.addEventListener("blur", () => { Object.assign(state, { keyboard: false, down: false }); drawPad(); });

  byId("undo").addEventListener("click", undo);
  byId("clear").addEventListener("click", clear);
  for (const sample of data.samples) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: sample.digit });
    button.addEventListener("click", () => {
      Object.assign(state, { strokes: [], pixels: sample.pixels, down: false });
      load(show);
      show();
    });
    byId("samples").append(button);
  }

  function offer() {
    const fault = byId("fault").value, chosen = byId("liar").value, able = ENGINES.filter((engine) => engine.there && (!fault || engine.faults.includes(fault)));
    byId("liar").innerHTML = able.map((engine) => `<option value="${engine.key}">${engine.name}</option>`).join("");
    if (able.some((engine) => engine.key === chosen)) byId("liar").value = chosen;
  }
  byId("fault").addEventListener("change", () => { offer(); show(); });
  byId("liar").addEventListener("change", show);
  new MutationObserver(drawPad).observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });

  window.drawDigit = { picture, parseSafetensors, erf, judge, state, last: null };
  offer();
  show();
})();
