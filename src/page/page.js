/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Draws the charts of the page from the JSON in #data (src/page/data.c says what is in its rows), and makes tables
 * sortable. Texts are observed programs': they only ever become text nodes.
 */
(function () {
  'use strict';

  var data = JSON.parse(document.getElementById('data').textContent);
  var root = document.documentElement;
  var redraw = [];   /* what depends on width or colours */

  root.classList.add('scripted');

  /* --- numbers and words --- */

  function count(n) { return String(n).replace(/\B(?=(\d{3})+$)/g, ','); }

  function scaled(v, unit) { return v.toFixed(v < 9.995 ? 2 : v < 99.95 ? 1 : 0) + ' ' + unit; }

  function bytes(n) {
    var units = ['kB', 'MB', 'GB', 'TB', 'PB'], i = 0;
    if (n < 1000) return n + ' B';
    for (n /= 1000; n >= 999.5 && i < units.length - 1; i++) n /= 1000;
    return scaled(n, units[i]);
  }

  function duration(us) {
    if (us < 1000) return Math.round(us) + ' \u00b5s';
    if (us < 999500) return scaled(us / 1000, 'ms');
    if (us < 60e6) return scaled(us / 1e6, 's');
    return Math.floor(us / 60e6) + ' min ' + Math.round(us / 1e6 % 60) + ' s';
  }

  function color(name) { return getComputedStyle(root).getPropertyValue('--' + name).trim(); }

  function cut(text, most) { return text.length > most ? text.slice(0, most - 1) + '\u2026' : text; }

  function element(parent, tag, attributes, text) {
    var e = document.createElement(tag);
    Object.keys(attributes || {}).forEach(function (k) { e.setAttribute(k, attributes[k]); });
    if (text !== undefined) e.textContent = text;
    if (parent) parent.appendChild(e);
    return e;
  }

  /* --- what is under the pointer --- */

  var tip = element(document.body, 'div', {'class': 'tip', role: 'status', 'aria-live': 'polite'});
  tip.hidden = true;

  function showTip(text, x, y) {
    tip.textContent = text;
    tip.hidden = false;
    tip.style.left = Math.max(4, Math.min(x + 14, window.innerWidth - tip.offsetWidth - 8)) + 'px';
    tip.style.top = Math.max(4, y + 18 + tip.offsetHeight > window.innerHeight ? y - tip.offsetHeight - 10 : y + 18) + 'px';
  }

  function hideTip() { tip.hidden = true; }

  /* A mark that tells the same by pointer and by keyboard. */
  function telling(selection, words) {
    selection.attr('tabindex', 0).attr('aria-label', function (d) { return words(d).replace(/\n/g, ', '); })
      .on('mousemove.tip', function (d) { showTip(words(d), d3.event.clientX, d3.event.clientY); })
      .on('mouseleave.tip', hideTip)
      .on('focus.tip', function (d) { var r = this.getBoundingClientRect(); showTip(words(d), r.left, r.bottom - 10); })
      .on('blur.tip', hideTip);
  }

  window.addEventListener('keydown', function (e) { if (e.key === 'Escape') hideTip(); });

  /* --- colours --- */

  (function () {
    var nav = document.querySelector('nav'), dark = window.matchMedia('(prefers-color-scheme: dark)');
    var button;

    function isDark() { return root.dataset.theme ? root.dataset.theme === 'dark' : dark.matches; }

    function changed() {
      button.textContent = isDark() ? 'Light' : 'Dark';
      redraw.forEach(function (f) { f(); });
    }

    element(nav, 'span', {'class': 'space'});
    button = element(nav, 'button', {type: 'button', id: 'theme'}, isDark() ? 'Light' : 'Dark');
    button.addEventListener('click', function () {
      root.dataset.theme = isDark() ? 'light' : 'dark';
      changed();
    });
    dark.addEventListener('change', changed);
    window.matchMedia('print').addEventListener('change', changed); /* on paper it is light */
  })();

  /* --- tables --- */

  function value(row, column) {
    var cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent.toLowerCase() : Number(cell.dataset.v);
  }

  function sortBy(table, column, down) {
    var body = table.tBodies[0];
    var rows = Array.prototype.slice.call(body.rows).map(function (r, i) { return {row: r, v: value(r, column), i: i}; });

    rows.sort(function (a, b) { return (a.v < b.v ? -1 : a.v > b.v ? 1 : 0) * (down ? -1 : 1) || a.i - b.i; });
    rows.forEach(function (r) { body.appendChild(r.row); });
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (th, i) {
      if (i === column) th.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      else th.removeAttribute('aria-sort');
    });
  }

  function sortable(table) {
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (th, i) {
      var button = element(null, 'button', {type: 'button'}, th.textContent);
      th.textContent = '';
      th.appendChild(button);
      button.addEventListener('click', function () {
        var now = th.getAttribute('aria-sort');
        sortBy(table, i, now ? now === 'ascending' : th.className === 'n');
      });
    });
  }

  function filterable(table) {
    var scroll = table.parentNode, tools = element(null, 'div', {'class': 'tools'}), rows = table.tBodies[0].rows;
    var input, shown;

    if (rows.length < 8) return;
    input = element(tools, 'input', {type: 'search', placeholder: 'Filter \u2026', 'aria-label': 'Filter: ' + table.caption.textContent});
    shown = element(tools, 'span', {role: 'status'});
    scroll.parentNode.insertBefore(tools, scroll);
    input.addEventListener('input', function () {
      var words = input.value.toLowerCase().split(/\s+/), n = 0;
      Array.prototype.forEach.call(rows, function (r) {
        var text = r.textContent.toLowerCase();
        r.hidden = !words.every(function (w) { return text.indexOf(w) >= 0; });
        n += !r.hidden;
      });
      shown.textContent = input.value ? n + ' of ' + rows.length : '';
    });
  }

  Array.prototype.forEach.call(document.querySelectorAll('main table'), function (table) {
    sortable(table);
    if (table.dataset.filter) filterable(table);
  });

  /* --- timeline --- */

  function timeline(figure) {
    var ROW = 20, AXIS = 24, LABEL = 190, BINS = data.bin_count;
    var DOING = [['files', 'Files'], ['net', 'Connections'], ['http', 'HTTP'], ['error', 'HTTP errors'], ['dns', 'DNS'], ['console', 'Console']];
    var COLORS = ['files', 'net', 'http', 'bad', 'dns', 'console'];
    var processes = data.processes.rows.map(function (r, i) {
      return {index: i, pid: r[0], parent: r[1], name: r[2] || '?', cmd: r[3] || '', start: r[4], exec: r[5], end: r[6], how: r[7],
              state: r[8], bins: [], exchanges: [], lines: [], children: [], depth: 0};
    });
    var on = DOING.map(function () { return true; });
    var order = [], shown = [], words = '', selected = -1, peak = 1;
    var span = Math.max(1, data.span), x = d3.scale.linear().domain([0, span]);
    var tools, view, canvas, inner, left_out, search;

    data.bins.rows.forEach(function (b) {
      if (!processes[b[0]]) return;
      processes[b[0]].bins.push(b);
      peak = Math.max(peak, b[2]);
    });
    data.exchanges.rows.forEach(function (e) { if (processes[e[0]]) processes[e[0]].exchanges.push(e); });
    data.lines.rows.forEach(function (l) { if (processes[l[0]]) processes[l[0]].lines.push(l); });

    /* Children below their parents. */
    processes.forEach(function (p) { if (p.parent >= 0 && p.parent < p.index) processes[p.parent].children.push(p); });
    processes.forEach(function (p) {
      var stack = [p], q;
      if (p.parent >= 0 && p.parent < p.index) return;
      while (stack.length) {
        q = stack.pop();
        order.push(q);
        q.children.slice().reverse().forEach(function (c) { c.depth = q.depth + 1; stack.push(c); });
      }
    });

    tools = element(figure, 'div', {'class': 'tools'});
    search = element(tools, 'input', {type: 'search', placeholder: 'Program or pid \u2026', 'aria-label': 'Filter processes'});
    DOING.forEach(function (d, i) {
      var b;
      if (!data.bins.rows.some(function (r) { return r[2 + i]; })) return;
      b = element(tools, 'button', {type: 'button', 'aria-pressed': 'true', 'data-kind': d[0]});
      element(b, 'span', {'class': 'key ' + d[0]});
      b.appendChild(document.createTextNode(d[1]));
      b.addEventListener('click', function () {
        on[i] = !on[i];
        b.setAttribute('aria-pressed', String(on[i]));
        draw();
      });
    });
    [['\u2212', 'Zoom out', 0.5], ['+', 'Zoom in', 2], ['Reset', 'Show all', 0]].forEach(function (z) {
      var b = element(tools, 'button', {type: 'button', 'aria-label': z[1], title: z[1]}, z[0]);
      b.addEventListener('click', function () { zoom(z[2], (LABEL + width()) / 2); });
    });
    view = element(figure, 'div', {'class': 'view'});
    canvas = element(view, 'canvas', {tabindex: 0, role: 'img', 'aria-label': 'Timeline of ' + order.length + ' processes. Plus and minus zoom, left and right move, up and down select a process.'});
    inner = element(view, 'div');
    left_out = data.processes.left_out;
    element(figure, 'p', {'class': 'cut'}, 'Drag to move, hold Ctrl and turn the wheel to zoom.' +
      (left_out ? ' The first ' + count(order.length) + ' of ' + count(order.length + left_out) + ' processes are drawn.' : '') +
      (data.exchanges.left_out ? ' Of HTTP exchanges the ' + count(data.exchanges.rows.length) + ' slowest are drawn one by one, the others as sums.' : '') +
      (data.bins.left_out ? ' ' + count(data.bins.left_out) + ' sums had no room.' : ''));

    function width() { return canvas.clientWidth || 800; }

    function filter() {
      shown = order.filter(function (p) { return !words || (p.name + ' ' + p.pid + ' ' + p.cmd).toLowerCase().indexOf(words) >= 0; });
      selected = -1;
      size();
    }

    function size() {
      var full = AXIS + shown.length * ROW + 6, height = Math.min(full, Math.max(120, Math.min(424, window.innerHeight * 0.7)));
      var w = view.clientWidth, ratio = window.devicePixelRatio || 1;

      view.style.height = height + 2 + 'px';
      canvas.style.width = w + 'px';
      canvas.style.height = height + 'px';
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(height * ratio);
      inner.style.height = Math.max(0, full - height) + 'px';
      x.range([LABEL, w - 14]);
      draw();
    }

    function limit() {
      var d = x.domain(), len = Math.min(span, Math.max(20, d[1] - d[0])), from = Math.max(0, Math.min(span - len, d[0]));
      x.domain([from, from + len]);
    }

    function zoom(factor, at) {
      var d = x.domain(), t = x.invert(at);
      if (!factor) x.domain([0, span]);
      else x.domain([t - (t - d[0]) / factor, t + (d[1] - t) / factor]);
      limit();
      draw();
    }

    function move(pixels) {
      var d = x.domain(), by = (d[1] - d[0]) * pixels / (x.range()[1] - x.range()[0]);
      x.domain([d[0] + by, d[1] + by]);
      limit();
      draw();
    }

    function draw() {
      var c = canvas.getContext('2d'), ratio = canvas.width / (parseFloat(canvas.style.width) || 1);
      var w = canvas.width / ratio, h = canvas.height / ratio, top = view.scrollTop;
      var first = Math.max(0, Math.floor(top / ROW)), last = Math.min(shown.length, Math.ceil((top + h) / ROW));
      var colors = COLORS.map(color), ink = color('ink'), soft = color('soft'), faint = color('faint'), bad = color('bad');
      var bar = color('bar'), fork = color('bar-fork'), hover = color('hover'), card = color('card');

      c.setTransform(ratio, 0, 0, ratio, 0, 0);
      c.fillStyle = card;
      c.fillRect(0, 0, w, h);
      c.font = '12px system-ui, "DejaVu Sans", sans-serif';
      c.textBaseline = 'middle';
      c.save();
      c.beginPath();
      c.rect(0, AXIS, w, h - AXIS);
      c.clip();
      x.ticks(8).forEach(function (t) {
        c.fillStyle = faint;
        c.fillRect(Math.round(x(t)), AXIS, 1, h);
      });
      for (var i = first; i < last; i++) row(c, shown[i], AXIS + i * ROW - top, i);
      c.restore();
      c.fillStyle = soft;
      x.ticks(8).forEach(function (t) {
        var label = t === 0 ? '0' : duration(t);
        c.textAlign = x(t) > w - 30 ? 'right' : x(t) < LABEL + 10 ? 'left' : 'center';
        c.fillText(label, x(t), AXIS / 2);
      });
      c.fillStyle = faint;
      c.fillRect(0, AXIS - 1, w, 1);

      function row(c, p, y, at) {
        var x0 = Math.max(LABEL, x(p.start)), x1 = Math.min(w, Math.max(x(p.end), x(p.start) + 2)), xe = x(p.exec), step = span / BINS;
        var indent = Math.min(8, p.depth) * 9, name = p.name, room = LABEL - 54 - indent;

        if (at === selected) {
          c.fillStyle = hover;
          c.fillRect(0, y, w, ROW);
        }
        c.textAlign = 'left';
        c.fillStyle = p.state ? bad : ink;
        while (name.length > 2 && c.measureText(name).width > room) name = name.slice(0, -2) + '\u2026';
        c.fillText(name, 8 + indent, y + ROW / 2);
        c.fillStyle = soft;
        c.textAlign = 'right';
        c.fillText(p.pid, LABEL - 8, y + ROW / 2);
        if (x1 < LABEL) return;
        c.fillStyle = p.exec > p.start ? fork : bar;
        c.fillRect(x0, y + 3, x1 - x0, ROW - 6);
        if (p.exec > p.start && xe < x1) {
          c.fillStyle = bar;
          c.fillRect(Math.max(LABEL, xe), y + 3, x1 - Math.max(LABEL, xe), ROW - 6);
        }
        p.bins.forEach(function (b) {
          var bx = x(b[1] * step), bw = Math.max(2, x((b[1] + 1) * step) - bx), height;
          bx = Math.min(bx, x1 - 2);
          if (bx + bw < LABEL || bx > w) return;
          if (bx < LABEL) { bw -= LABEL - bx; bx = LABEL; }
          bw = Math.max(2, Math.min(bw, x1 - bx));
          if (on[0] && b[2]) {
            height = 3 + 9 * Math.log(1 + b[2]) / Math.log(1 + peak);
            c.fillStyle = colors[0];
            c.fillRect(bx, y + ROW - 3 - height, bw, height);
          }
          [1, 2, 4, 5].forEach(function (k, slot) {
            if (!on[k] || !b[2 + k]) return;
            c.fillStyle = colors[k];
            c.fillRect(bx, y + 3 + slot * 3, bw, 3);
          });
          if (on[3] && b[5]) {
            c.fillStyle = colors[3];
            c.fillRect(bx, y + 3, bw, 5);
          }
        });
        p.exchanges.forEach(function (e) {
          var failed = e[3] >= 400, a = x(e[1]), z = x(e[1] + e[2]);
          if (!on[failed ? 3 : 2] || z < LABEL || z - a < 3) return;
          c.fillStyle = colors[failed ? 3 : 2];
          c.fillRect(Math.max(LABEL, a), y + ROW / 2 - 1, z - Math.max(LABEL, a), 2);
        });
        if (p.state) {
          c.fillStyle = bad;
          if (p.state === 2) {
            c.beginPath();
            c.moveTo(x1 - 5, y + 3); c.lineTo(x1 + 4, y + ROW / 2); c.lineTo(x1 - 5, y + ROW - 3);
            c.fill();
          } else {
            c.fillRect(x1 - 2, y + 2, 3, ROW - 4);
          }
        }
      }
    }

    /* What there is at a time (null: anywhere) in a row. */
    function words_of(p, t) {
      var text = p.name + '  ' + p.pid + '\n' + cut(p.cmd, 160) + '\n' + duration(p.start) + ' \u2013 ' + duration(p.end) +
        ' (' + duration(p.end - p.start) + ')' + (p.how ? ', ' + p.how : data.running ? ', runs' : '');
      var near = t === null ? 0 : (x.domain()[1] - x.domain()[0]) / (x.range()[1] - x.range()[0]) * 4;

      if (t === null) return text;
      p.bins.forEach(function (b) {
        if (t < b[1] * span / BINS || t >= (b[1] + 1) * span / BINS) return;
        DOING.forEach(function (d, k) { if (b[2 + k]) text += '\n' + d[1] + ': ' + count(b[2 + k]); });
        if (b[8]) text += '\n' + bytes(b[8]) + ' moved';
      });
      p.exchanges.filter(function (e) { return t >= e[1] - near && t <= e[1] + e[2] + near; }).slice(0, 4).forEach(function (e) {
        text += '\n' + (e[4] || '?') + ' ' + (e[5] || '') + (e[6] || '') + ' \u2192 ' + e[3] + ', ' + duration(e[2]);
      });
      p.lines.filter(function (l) { return Math.abs(t - l[1]) <= near; }).slice(0, 4).forEach(function (l) {
        text += '\n' + (l[2] ? 'stderr: ' : 'stdout: ') + cut(l[3] || '', 100);
      });
      return text;
    }

    function row_at(y) {
      return Math.floor((y - AXIS + view.scrollTop) / ROW);
    }

    search.addEventListener('input', function () { words = search.value.toLowerCase(); filter(); });
    view.addEventListener('scroll', draw);
    canvas.addEventListener('wheel', function (e) {
      if (!e.ctrlKey && !e.metaKey) return;
      e.preventDefault();
      zoom(Math.pow(2, -e.deltaY / 300), Math.max(LABEL, e.offsetX));
    }, {passive: false});
    canvas.addEventListener('dblclick', function (e) { zoom(2, Math.max(LABEL, e.offsetX)); });
    canvas.addEventListener('pointermove', function (e) {
      var p = shown[row_at(e.offsetY)];
      if (e.buttons & 1) { move(-e.movementX); hideTip(); return; }
      if (!p || e.offsetY < AXIS) { hideTip(); return; }
      showTip(words_of(p, e.offsetX < LABEL ? null : x.invert(e.offsetX)), e.clientX, e.clientY);
    });
    canvas.addEventListener('pointerleave', hideTip);
    canvas.addEventListener('keydown', function (e) {
      var r;
      if (e.key === '+' || e.key === '=') zoom(2, (LABEL + width()) / 2);
      else if (e.key === '-') zoom(0.5, (LABEL + width()) / 2);
      else if (e.key === '0') zoom(0, 0);
      else if (e.key === 'ArrowLeft') move(-60);
      else if (e.key === 'ArrowRight') move(60);
      else if ((e.key === 'ArrowDown' || e.key === 'ArrowUp') && shown.length) {
        selected = Math.max(0, Math.min(shown.length - 1, selected + (e.key === 'ArrowDown' ? 1 : -1)));
        if (selected * ROW < view.scrollTop) view.scrollTop = selected * ROW;
        if ((selected + 1) * ROW > view.scrollTop + view.clientHeight - AXIS) view.scrollTop = (selected + 1) * ROW - view.clientHeight + AXIS;
        draw();
        r = canvas.getBoundingClientRect();
        showTip(words_of(shown[selected], null), r.left + LABEL, r.top + AXIS + (selected + 1) * ROW - view.scrollTop);
      } else return;
      e.preventDefault();
    });
    canvas.addEventListener('blur', function () { if (selected >= 0) { selected = -1; draw(); hideTip(); } });
    redraw.push(size);
    filter();
    /* For tests: what part of the time is shown. */
    figure.timeline = {domain: function () { return x.domain(); }, rows: function () { return shown.length; }};
  }

  /* --- map of services --- */

  function map(figure) {
    var nodes = {}, list = [], edges = [], by_key = {}, H = 28, GAP = 16, BOX = 200, W = 1040, NODES_MAX = 60, left_out = 0;
    var columns = [], height, svg, line, box;

    function node(key, label, seen) {
      if (!nodes[key]) {
        if (list.length === NODES_MAX) return null;
        nodes[key] = {key: key, label: label, seen: seen, out: [], into: [], level: 0, state: 0};
        list.push(nodes[key]);
      }
      return nodes[key];
    }

    /* Rows: program, way (0: it calls, 1: it is called, 2: not known), program at the other end, address, port, name, ... */
    data.edges.rows.forEach(function (r) {
      var service = (r[5] || r[3] || '?') + (r[4] ? ':' + r[4] : '');
      var program = node('p' + r[0], r[0] || '?', true), other, from, to, key, e;

      other = r[1] === 1 ? node('c' + r[3], r[3] || '?', false) : r[2] ? node('p' + r[2], r[2], true) : node('s' + service, service, false);
      if (!program || !other) { left_out++; return; }
      from = r[1] === 1 ? other : program;
      to = r[1] === 1 ? program : other;
      if (from === to && !r[12]) return;
      key = from.key + '\u0000' + to.key + '\u0000' + (r[7] || r[6]) + r[8];
      e = by_key[key];
      if (!e) {
        e = by_key[key] = {from: from, to: to, protocol: (r[7] || (r[6] || '').replace(/^IP\./, '')) + (r[8] ? ' over TLS' : ''), connections: 0,
                           sent: 0, received: 0, requests: 0, errors: 0, median: r[14], most: r[15], ports: {}};
        from.out.push(e);
        to.into.push(e);
        edges.push(e);
      }
      if (r[4]) e.ports[r[4]] = 1;
      e.connections += r[9];
      e.sent += r[1] === 1 ? r[11] : r[10];
      e.received += r[1] === 1 ? r[10] : r[11];
      e.requests += r[12];
      e.errors += r[13];
      e.median = Math.max(e.median, r[14]);
      e.most = Math.max(e.most, r[15]);
    });
    if (!edges.length) { figure.remove(); return; }

    /* From left to right as they call one another; calls that go back, in a circle, count for nothing. */
    function visit(n) {
      n.state = 1;
      n.out.forEach(function (e) {
        e.back = e.to.state === 1;
        if (!e.to.state) visit(e.to);
      });
      n.state = 2;
    }
    list.forEach(function (n) { if (!n.state && !n.into.length) visit(n); });
    list.forEach(function (n) { if (!n.state) visit(n); });
    for (var round = 0; round < 5; round++) {
      edges.forEach(function (e) { if (!e.back) e.to.level = Math.max(e.to.level, Math.min(5, e.from.level + 1)); });
    }
    list.forEach(function (n) { (columns[n.level] = columns[n.level] || []).push(n); });
    columns = columns.filter(Boolean);
    columns.forEach(function (c, level) {
      c.forEach(function (n) {
        n.level = level;
        n.weight = n.into.length ? d3.mean(n.into, function (e) { return e.from.y || 0; }) : 0;
      });
      c.sort(function (a, b) { return a.weight - b.weight; });
      c.forEach(function (n, i) { n.y = i * (H + GAP); });
    });
    height = d3.max(columns, function (c) { return c.length; }) * (H + GAP) + GAP;
    columns.forEach(function (c, level) {
      var top = (height - c.length * (H + GAP) + GAP) / 2;
      c.forEach(function (n) {
        n.y += top;
        n.x = columns.length > 1 ? 2 + level * (W - BOX - 4) / (columns.length - 1) : 2;
      });
    });

    svg = d3.select(figure).append('svg').attr('viewBox', '0 0 ' + W + ' ' + Math.max(70, height)).attr('role', 'group').attr('aria-label', 'Map of services');
    svg.style('max-height', Math.max(70, height) * 1.15 + 'px');

    function path(e) {
      var x0 = e.from.x + BOX, y0 = e.from.y + H / 2, x1 = e.to.x, y1 = e.to.y + H / 2, m;
      if (e.from === e.to) return 'M' + x0 + ',' + (y0 - 6) + 'c40,-14 40,26 0,12';
      if (x1 <= x0) return 'M' + x0 + ',' + y0 + 'C' + (x0 + 60) + ',' + (y0 + 50) + ' ' + (x1 - 60) + ',' + (y1 + 50) + ' ' + x1 + ',' + y1;
      m = (x0 + x1) / 2;
      return 'M' + x0 + ',' + y0 + 'C' + m + ',' + y0 + ' ' + m + ',' + y1 + ' ' + x1 + ',' + y1;
    }

    /* A point of the curve where others are far: nearer to the end that fewer lines lead to. */
    function middle(e) {
      var t = e.to.into.length >= e.from.out.length ? 0.32 : 0.68, u = 1 - t, back = e.to.x <= e.from.x + BOX;
      var x0 = e.from.x + BOX, y0 = e.from.y + H / 2, x1 = e.to.x, y1 = e.to.y + H / 2;
      if (back) return [(x0 + x1) / 2, (y0 + y1) / 2 + 42];
      return [x0 * (u * u * u + 1.5 * u * u * t + 1.5 * u * t * t) + x1 * (t * t * t + 1.5 * u * u * t + 1.5 * u * t * t),
              y0 * (u * u * u + 3 * u * u * t) + y1 * (t * t * t + 3 * u * t * t)];
    }

    function rate(n) {
      var r = n / (data.span / 1e6);
      return data.span > 0 ? (r >= 10 ? count(Math.round(r)) : r.toPrecision(2)) + ' a second' : '';
    }

    function words(e) {
      return e.from.label + ' \u2192 ' + e.to.label + '\n' + e.protocol + (Object.keys(e.ports).length ? ', port ' + cut(Object.keys(e.ports).join(' '), 60) : '') +
        '\n' + count(e.connections) + ' connections, ' + rate(e.connections) + '\n' + bytes(e.sent) + ' sent, ' + bytes(e.received) + ' received' +
        (e.requests ? '\n' + count(e.requests) + ' requests, ' + rate(e.requests) + '; ' + count(e.errors) + ' failed\nmedian ' + duration(e.median) + ', 99 % ' + duration(e.most) : '');
    }

    line = svg.selectAll('path').data(edges).enter().append('path')
      .attr('class', function (e) { return 'edge' + (e.errors ? ' failing' : ''); }).attr('d', path)
      .attr('stroke-width', function (e) { return Math.min(9, 1.5 + Math.log(1 + e.connections + e.requests) / Math.LN10 * 1.5); });
    telling(line, words);
    svg.selectAll('text.edge-text').data(edges.length <= 40 ? edges.filter(function (e) { return e.from !== e.to; }) : []).enter().append('text').attr('class', 'edge-text')
      .attr('text-anchor', 'middle')
      .attr('x', function (e) { return middle(e)[0]; }).attr('y', function (e) { return middle(e)[1] - 5; })
      .text(function (e) { return e.protocol + (e.requests ? ' \u00d7 ' + count(e.requests) : ' \u00d7 ' + count(e.connections)) + (e.errors ? ', ' + count(e.errors) + ' failed' : ''); });
    box = svg.selectAll('g.node').data(list).enter().append('g').attr('class', function (n) { return 'node' + (n.seen ? ' seen' : ''); })
      .attr('transform', function (n) { return 'translate(' + n.x + ',' + n.y + ')'; });
    box.append('rect').attr('width', BOX).attr('height', H).attr('rx', 5);
    box.append('text').attr('x', BOX / 2).attr('y', H / 2 + 4).attr('text-anchor', 'middle').text(function (n) { return cut(n.label, 28); });
    box.on('mouseenter', function (n) {
      line.classed('dim', function (e) { return e.from !== n && e.to !== n; });
      box.classed('dim', function (m) { return m !== n && !n.out.concat(n.into).some(function (e) { return e.from === m || e.to === m; }); });
      showTip(n.label + '\n' + (n.seen ? 'a program that was observed' : 'seen from its other end only'), d3.event.clientX, d3.event.clientY);
    }).on('mouseleave', function () {
      line.classed('dim', false);
      box.classed('dim', false);
      hideTip();
    });
    left_out += data.edges.left_out;
    if (left_out) element(figure, 'p', {'class': 'cut'}, count(left_out) + ' edges are not drawn: those with the fewest connections.');
  }

  /* --- latency --- */

  function latency(figure) {
    var W = 1040, H = 210, L = 56, B = 26, svg, y, first, last, from, most, wide, keys;
    var series = [['client', data.client], ['server', data.server]].filter(function (s) { return s[1].length; });

    /* The upper end of a step, in microseconds: ov_step_ns(). */
    function step(i) { return [1, 1.189, 1.414, 1.682][i % 4] * Math.pow(2, Math.floor(i / 4)); }

    if (!series.length) { figure.remove(); return; }
    first = d3.min(series, function (s) { return d3.min(s[1], function (b) { return b[0]; }); });
    last = d3.max(series, function (s) { return d3.max(s[1], function (b) { return b[0]; }); });
    first = Math.max(0, first - 2);
    last = Math.max(last + 2, first + 12);
    most = d3.max(series, function (s) { return d3.max(s[1], function (b) { return b[1]; }); });
    wide = (W - L - 10) / (last - first + 1);
    y = d3.scale.linear().domain([0, most]).range([H - B, 8]);
    keys = element(figure, 'p', {'class': 'tools'});
    series.forEach(function (s) {
      var k = element(keys, 'span');
      element(k, 'span', {'class': 'key ' + s[0]});
      k.appendChild(document.createTextNode('as the ' + s[0]));
    });
    svg = d3.select(figure).append('svg').attr('viewBox', '0 0 ' + W + ' ' + H).attr('role', 'group').attr('aria-label', 'Histogram of response times');
    from = svg.append('g').attr('class', 'axis');
    y.ticks(4).filter(function (t) { return t === Math.round(t); }).forEach(function (t) {
      from.append('line').attr('x1', L).attr('x2', W - 10).attr('y1', y(t)).attr('y2', y(t));
      from.append('text').attr('class', 'soft').attr('x', L - 8).attr('y', y(t) + 4).attr('text-anchor', 'end').text(count(t));
    });
    d3.range(first, last + 1).filter(function (i) { return i % 4 === 3 && L + (i - first + 1) * wide < W - 36; }).forEach(function (i) {
      from.append('text').attr('class', 'soft').attr('x', L + (i - first + 1) * wide).attr('y', H - 8).attr('text-anchor', 'middle').text(duration(step(i + 1)));
    });
    series.forEach(function (s, k) {
      var bars = svg.selectAll('rect.' + s[0]).data(s[1]).enter().append('rect').attr('class', s[0])
        .attr('x', function (b) { return L + (b[0] - first) * wide + 1 + k * (wide - 2) / series.length; })
        .attr('width', Math.max(1, (wide - 2) / series.length - 0.5))
        .attr('y', function (b) { return Math.min(y(b[1]), H - B - 1.5); })
        .attr('height', function (b) { return H - B - Math.min(y(b[1]), H - B - 1.5); });
      telling(bars, function (b) {
        return count(b[1]) + ' answered ' + (b[0] ? 'after ' + duration(step(b[0] - 1)) + ' to ' + duration(step(b[0])) : 'within ' + duration(1)) + '\nas the ' + s[0];
      });
    });
  }

  /* --- directories --- */

  function tree(figure) {
    var W = 1040, H = 340, top = {name: '/', path: '/', children: {}, own: null}, at, tools, where, svg, up;

    data.dirs.rows.forEach(function (d) {
      var n = top, parts = d[0].charAt(0) === '/' ? d[0].split('/').filter(Boolean) : ['(no file)'], path = '';
      parts.forEach(function (part) {
        path += '/' + part;
        /* A name may be "__proto__". */
        if (!Object.prototype.hasOwnProperty.call(n.children, '/' + part)) n.children['/' + part] = {name: part, path: path, children: {}, own: null, parent: n};
        n = n.children['/' + part];
      });
      n.own = n.own || [0, 0, 0, 0];
      for (var i = 0; i < 4; i++) n.own[i] += d[1 + i];
    });

    function sum(n) {
      n.sum = (n.own || [0, 0, 0, 0]).slice();
      n.list = Object.keys(n.children).map(function (k) { return n.children[k]; });
      n.list.forEach(function (c) {
        sum(c);
        for (var i = 0; i < 4; i++) n.sum[i] += c.sum[i];
      });
    }

    sum(top);
    if (!data.dirs.rows.length) { figure.remove(); return; }
    if (data.dirs_rest[0]) top.list.push({name: '(others)', path: count(data.dirs_rest[0]) + ' files in further directories', list: [], sum: data.dirs_rest.concat(0), parent: top});

    /* Bytes, or where none passed opened files. */
    function weight(n) { return n.sum[1] + n.sum[2] || (top.sum[1] + top.sum[2] ? 0 : n.sum[3] || n.sum[0]); }

    function words(n) {
      return n.path + (n.rest ? ' (directly in it)' : '') + '\n' + count(n.sum[0]) + ' files, opened ' + count(n.sum[3]) + ' times\n' + bytes(n.sum[1]) + ' read, ' + bytes(n.sum[2]) + ' written';
    }

    /* Single directories on the way are passed over. */
    function deepest(n) { while (n.list.length === 1 && !n.own) n = n.list[0]; return n; }

    tools = element(figure, 'div', {'class': 'tools'});
    up = element(tools, 'button', {type: 'button'}, 'Up');
    where = element(tools, 'code', {'class': 'where', role: 'status'});
    [['read', 'read'], ['written', 'written']].forEach(function (k) {
      var s = element(tools, 'span');
      element(s, 'span', {'class': 'key ' + k[0]});
      s.appendChild(document.createTextNode(k[1]));
    });
    svg = d3.select(figure).append('svg').attr('viewBox', '0 0 ' + W + ' ' + H).attr('role', 'group').attr('aria-label', 'Directories by bytes');

    /* What a directory consists of: those in it, and the files directly in it. */
    function inside(n, before) {
      var parts = n.list.map(function (c) { return {node: c, sum: c.sum, name: before + c.name, path: c.path, value: weight(c)}; });
      if (n.own) parts.push({node: n, rest: true, sum: n.own, name: before ? before + '\u2026' : '(files)', path: n.path, value: n.own[1] + n.own[2] || (top.sum[1] + top.sum[2] ? 0 : n.own[3])});
      return parts;
    }

    function draw() {
      var parts = inside(at, ''), total = d3.sum(parts, function (p) { return p.value; }), big, cells, mix;

      /* What most is in is shown with what it consists of. */
      do {
        big = null;
        parts.forEach(function (p) { if (!p.rest && p.node.list.length && p.value > total / 6 && (!big || p.value > big.value)) big = p; });
        if (big) parts = parts.filter(function (p) { return p !== big; }).concat(inside(big.node, big.name + '/'));
      } while (big && parts.length < 40);
      parts = parts.filter(function (p) { return p.value > 0; });
      where.textContent = cut(at.path, 200);
      up.disabled = !at.parent;
      svg.selectAll('*').remove();
      if (!parts.length) svg.append('text').attr('class', 'soft').attr('x', 12).attr('y', 28).text('No bytes were moved here.');
      else d3.layout.treemap().size([W, H]).sort(function (a, b) { return a.value - b.value; }).children(function (d) { return d.parts; }).value(function (d) { return d.value; })({parts: parts});
      mix = d3.interpolateRgb(color('read'), color('written'));
      cells = svg.selectAll('g').data(parts).enter().append('g').attr('class', 'cell').attr('transform', function (d) { return 'translate(' + d.x + ',' + d.y + ')'; });
      cells.append('rect').attr('width', function (d) { return Math.max(0, d.dx - 1); }).attr('height', function (d) { return Math.max(0, d.dy - 1); })
        .attr('fill', function (d) { return mix(d.sum[1] + d.sum[2] ? d.sum[2] / (d.sum[1] + d.sum[2]) : 0); });
      cells.filter(function (d) { return d.dx > 46 && d.dy > 18; }).append('text').attr('x', 6).attr('y', 16).text(function (d) { return cut(d.name, Math.floor((d.dx - 8) / 7)); });
      cells.filter(function (d) { return d.dx > 60 && d.dy > 36; }).append('text').attr('class', 'soft').attr('x', 6).attr('y', 32).text(function (d) { return cut(bytes(d.sum[1] + d.sum[2]), Math.floor((d.dx - 8) / 7)); });
      telling(cells, words);
      cells.attr('role', function (d) { return d.rest || !d.node.list.length ? 'img' : 'button'; });
      cells.on('click', enter).on('keydown', function (d) { if (d3.event.key === 'Enter') enter(d); });
    }

    function enter(d) {
      if (d.rest || !d.node.list.length) return;
      at = deepest(d.node);
      hideTip();
      draw();
    }

    up.addEventListener('click', function () {
      do at = at.parent; while (at.parent && at.list.length === 1 && !at.own);
      draw();
    });
    at = deepest(top);
    redraw.push(draw);
    draw();
  }

  [['timeline', timeline], ['map', map], ['latency', latency], ['tree', tree]].forEach(function (c) {
    var figure = document.getElementById('chart-' + c[0]);
    if (figure) c[1](figure);
  });
  window.addEventListener('resize', function () { redraw.forEach(function (f) { f(); }); });
  root.dataset.drawn = '1';
})();
