'use strict';
// Plots, as SVG. Everything that is shown is set as text or as a number: nothing here reads markup.

const plots = (() => {
  const NAMESPACE = 'http://www.w3.org/2000/svg';
  const MARGIN = { left: 58, right: 12, top: 8, bottom: 22 };
  const SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
  const STEPS = [1, 2, 5, 10, 15, 30].map(n => n * SECOND)
    .concat([1, 2, 5, 10, 15, 30].map(n => n * MINUTE), [1, 2, 3, 6, 12].map(n => n * HOUR), [1, 2, 7, 14, 30, 90, 365].map(n => n * DAY));

  function node(name, attributes = {}, text) {
    const made = document.createElementNS(NAMESPACE, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function numberTicks(low, high, most) {
    const rough = Math.max((high - low) / most, Number.MIN_VALUE);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map(n => n * power).find(n => n >= rough) || rough;
    const ticks = [];
    for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) ticks.push(at);
    return ticks;
  }

  function timeTicks(low, high, most) {
    const step = STEPS.find(step => (high - low) / step <= most) || 365 * DAY;
    const zone = new Date(low).getTimezoneOffset() * MINUTE;
    const ticks = [];
    for (let at = Math.ceil((low - zone) / step) * step + zone; at <= high; at += step) ticks.push(at);
    const text = at => {
      const date = new Date(at), two = n => String(n).padStart(2, '0');
      if (step >= DAY) return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
      const time = `${two(date.getHours())}:${two(date.getMinutes())}`;
      return step < MINUTE ? `${time}:${two(date.getSeconds())}` : time;
    };
    return { ticks, text };
  }

  function compact(value) {
    const size = Math.abs(value);
    for (const [unit, name] of [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e4, 'k']]) {
      if (size >= unit) return `${+(value / (unit === 1e4 ? 1e3 : unit)).toPrecision(3)}${name}`;
    }
    return String(+value.toPrecision(3));
  }

  // Puts `svg` and its legend into `figure`. `label` says in a sentence what the picture shows.
  function show(figure, svg, label, legend) {
    svg.setAttribute('role', 'img');
    svg.setAttribute('aria-label', label);
    const caption = document.createElement('figcaption');
    for (const { name, style, value } of legend) {
      const key = document.createElement('span');
      key.className = style ? `key s-${style}` : '';
      const text = document.createElement('span');
      text.className = 'soft';
      text.textContent = value === undefined ? name : `${name} `;
      key.append(text);
      if (value !== undefined) {
        const strong = document.createElement('b');
        strong.textContent = value;
        key.append(strong);
      }
      caption.append(key);
    }
    figure.replaceChildren(svg, caption);
  }

  function empty(figure, why) {
    const text = document.createElement('p');
    text.className = 'none';
    text.textContent = why;
    figure.replaceChildren(text);
  }

  // Series of points over x, which is a time or a number. A series is a line, steps, dots or bars.
  function draw(figure, { series, label, xIsTime = true, xFrom, xTo, yFrom, yTo, level, diagonal, y = compact, x = compact, height = 190, legend }) {
    const all = series.flatMap(one => one.points);
    if (all.length === 0) return empty(figure, label);
    const width = Math.max(260, Math.floor(figure.clientWidth || 560));
    const values = (at, from, to) => {
      const low = from ?? all.reduce((low, point) => Math.min(low, point[at]), Infinity);
      let high = to ?? all.reduce((high, point) => Math.max(high, point[at]), -Infinity);
      if (level !== undefined && at === 1) high = Math.max(high, level);
      return high > low ? [low, high] : [low - (low && !from ? 1 : 0), low + 1];
    };
    let [x0, x1] = values(0, xFrom, xTo), [y0, y1] = values(1, yFrom, yTo);
    if (diagonal) [x0, y0, x1, y1] = [0, 0, x1, Math.max(y1, 0)];
    const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    const px = value => MARGIN.left + (value - x0) / (x1 - x0) * inner.width;
    const py = value => MARGIN.top + inner.height - (value - y0) / (y1 - y0) * inner.height;
    const svg = node('svg', { viewBox: `0 0 ${width} ${height}` });
    for (const tick of numberTicks(y0, y1, 4)) {
      svg.append(node('line', { class: 'grid', x1: MARGIN.left, x2: width - MARGIN.right, y1: py(tick), y2: py(tick) }));
      svg.append(node('text', { x: MARGIN.left - 6, y: py(tick) + 4, 'text-anchor': 'end' }, y(tick)));
    }
    const many = Math.max(2, Math.floor(inner.width / 90));
    const { ticks, text } = xIsTime ? timeTicks(x0, x1, many) : { ticks: numberTicks(x0, x1, many), text: x };
    for (const tick of ticks) {
      svg.append(node('text', { x: px(tick), y: height - 6, 'text-anchor': 'middle' }, text(tick)));
    }
    if (level !== undefined) svg.append(node('line', { class: 'level', x1: MARGIN.left, x2: width - MARGIN.right, y1: py(level), y2: py(level) }));
    if (diagonal) {
      const end = Math.min(x1, y1);
      svg.append(node('line', { class: 'diagonal', x1: px(0), y1: py(0), x2: px(end), y2: py(end) }));
    }
    for (const { points, kind, style, bar } of series) {
      const shown = { class: `s-${style}` };
      if (kind === 'dots') {
        for (const [cx, cy] of points) svg.append(node('circle', { ...shown, cx: px(cx), cy: py(cy), r: 3 }));
      } else if (kind === 'bars') {
        for (const [from, value] of points) {
          const left = px(from), right = Math.min(px(from + bar), px(x1));
          svg.append(node('rect', { ...shown, x: left + .5, width: Math.max(right - left - 1, 1), y: py(value), height: py(y0) - py(value) }));
        }
      } else if (points.length > 0) {
        let d = '', last;
        for (const point of points) {
          d += last ? (kind === 'steps' ? `H${px(point[0]).toFixed(1)}V${py(point[1]).toFixed(1)}` : `L${px(point[0]).toFixed(1)} ${py(point[1]).toFixed(1)}`)
            : `M${px(point[0]).toFixed(1)} ${py(point[1]).toFixed(1)}`;
          last = point;
        }
        svg.append(node('path', { class: shown.class, d }));
      }
    }
    show(figure, svg, label, legend || series.map(({ name, style }) => ({ name, style })));
  }

  // One bar of several parts.
  function shares(figure, parts, label) {
    const total = parts.reduce((sum, part) => sum + part.count, 0);
    const width = Math.max(260, Math.floor(figure.clientWidth || 560));
    const svg = node('svg', { viewBox: `0 0 ${width} 26` });
    svg.append(node('line', { class: 'grid', x1: 0, x2: width, y1: 25, y2: 25 }));
    let at = 0;
    for (const { style, count } of parts) {
      const share = total ? count / total * width : 0;
      if (share) svg.append(node('rect', { class: `s-${style}`, x: at, y: 2, width: Math.max(share - 1, 1), height: 20, rx: 2 }));
      at += share;
    }
    show(figure, svg, label, parts.map(({ name, style, count }) => ({ name, style, value: count.toLocaleString('en') })));
  }

  // Spans of time below each other, with marks.
  function timeline(figure, { rows, from, to, label }) {
    const width = Math.max(260, Math.floor(figure.clientWidth || 560)), line = 24;
    const height = rows.length * line + 24, left = 92, inner = width - left - 12;
    const span = Math.max(to - from, 1), px = at => left + (Math.min(Math.max(at, from), to) - from) / span * inner;
    const svg = node('svg', { viewBox: `0 0 ${width} ${height}` });
    const { ticks, text } = timeTicks(from, to, Math.max(2, Math.floor(inner / 90)));
    for (const tick of ticks) {
      svg.append(node('line', { class: 'grid', x1: px(tick), x2: px(tick), y1: 0, y2: height - 20 }));
      svg.append(node('text', { x: px(tick), y: height - 6, 'text-anchor': 'middle' }, text(tick)));
    }
    rows.forEach(({ name, style, start, end, marks = [] }, at) => {
      const y = at * line + 4;
      svg.append(node('text', { x: left - 6, y: y + 12, 'text-anchor': 'end' }, name));
      const bar = node('rect', { class: `s-${style}`, x: px(start), y, width: Math.max(px(end) - px(start), 3), height: 15, rx: 3 });
      svg.append(bar);
      for (const mark of marks) svg.append(node('circle', { class: `s-${mark.style}`, cx: px(mark.at), cy: y + 7.5, r: 5 }));
    });
    show(figure, svg, label, [
      { name: 'waits', style: 'ready' }, { name: 'proves', style: 'leased' }, { name: 'proved', style: 'proved' },
      { name: 'failed, or lost', style: 'dead' }, { name: 'a proof came in', style: 'verifying' },
    ]);
  }

  return { draw, shares, timeline, empty };
})();
