'use strict';
// The dashboard. Clients choose their names and error texts: whatever comes from the server is set as text, never as markup. Several may
// have the same name: it never stands without the id.

(() => {
  const $ = id => document.getElementById(id);
  const SHOWN_JOBS = 100, PAGE_JOBS = 50, MOST_LISTED = 1000, SHOWN_EVENTS = 40, WINDOW = 600e3;
  const PATIENCE = 15e3; // an answer takes so long at most
  const DOUBT = 12e3; // the server says every five seconds that it lives
  const STATES = { ready: 'ready', leased: 'leased', verifying: 'verifying', proved: 'proved', dead: 'given up', superseded: 'superseded' };

  // What the server has told: sections of things by their keys.
  let board = new Map();
  let offset = 0; // the server's clock, as seen from here
  let session = null;
  const section = name => board.get(name) || new Map();
  const server = key => section('server').get(key);
  const now = () => Date.now() + offset;
  const operates = () => session !== null && session.role === 'operator';

  // ---- Text

  const number = value => value === null || value === undefined ? '–' : value.toLocaleString('en');
  const few = (value, digits = 1) => value.toLocaleString('en', { maximumFractionDigits: digits, minimumFractionDigits: digits });
  const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
  const blocks = ([first, last]) => first === last ? `block ${number(first)}` : `blocks ${number(first)}–${number(last)}`;
  const range = job => Array.isArray(job.block_numbers) ? job.block_numbers : [job.block_numbers.first, job.block_numbers.last];
  const short = id => String(id).slice(0, 8);

  function duration(millis) {
    const seconds = Math.max(0, millis) / 1000;
    if (seconds < 10) return `${few(seconds)} s`;
    if (seconds < 120) return `${Math.floor(seconds)} s`;
    const minutes = Math.floor(seconds / 60);
    if (minutes < 120) return `${minutes} min`;
    const hours = Math.floor(minutes / 60);
    return hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} d`;
  }

  function bytes(count) {
    const gib = count / 2 ** 30;
    return gib >= 1 ? `${few(gib, gib < 10 ? 1 : 0)} GiB` : `${Math.round(count / 2 ** 20)} MiB`;
  }

  const clock = at => new Date(at).toLocaleTimeString('en-GB');
  const moment = at => new Date(at).toLocaleString('en-GB');

  // What a client calls itself, with its id. The name is isolated: letters that are written from right to left turn nothing else.
  function clientName(id) {
    const client = section('clients').get(id);
    return client && client.name ? `\u2068${client.name}\u2069 (${short(id)})` : short(id);
  }

  function progressText(progress) {
    if (!progress) return '';
    switch (progress.phase) {
      case 'executed': return `executed, ${plural(progress.segments, 'segment')} to prove`;
      case 'segment': return `segment ${number(progress.done)} of ${number(progress.total)}`;
      case 'joining': return `joining ${number(progress.done)} of ${number(progress.total)}`;
      case 'compressing': return 'compressing';
      default: return 'working';
    }
  }

  // ---- Elements

  function element(tag, className, ...children) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...children.filter(child => child !== null && child !== undefined));
    return made;
  }

  function button(text, act, { label, style = '' } = {}) {
    const made = element('button', style, text);
    made.type = 'button';
    if (label) made.setAttribute('aria-label', label);
    made.addEventListener('click', act);
    return made;
  }

  function setText(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  // Children of `parent` for `items`, in order. Those that stay are kept, so that focus and scrolling stay too. A child says by
  // `refresh` what its item is now.
  function list(parent, items, key, make) {
    const known = parent.known || (parent.known = new Map());
    const wanted = new Map(items.map(item => [key(item), item]));
    for (const [id, child] of known) {
      if (!wanted.has(id)) {
        child.remove();
        known.delete(id);
      }
    }
    let place = parent.firstElementChild;
    for (const [id, item] of wanted) {
      let child = known.get(id);
      if (!child) {
        child = make(item);
        known.set(id, child);
      }
      if (child === place) place = place.nextElementSibling;
      else parent.insertBefore(child, place);
      child.refresh(item);
    }
  }

  function figures(parent, pairs) {
    list(parent, pairs.filter(([, value]) => value !== null), ([name]) => name, ([name]) => {
      const value = element('dd');
      const made = element('div', '', element('dt', '', name), value);
      made.refresh = ([, text]) => setText(value, text);
      return made;
    });
  }

  function toast(text) {
    const made = element('p', '', text);
    $('toasts').append(made);
    setTimeout(() => made.remove(), 8000);
  }

  // ---- Requests

  // The second half of the session is kept where pages of this origin alone can read it, and goes along with every request: all ports of
  // this host get the cookie.
  const HALF = 'l2p.session', WHY = 'l2p.why';
  function half() {
    try {
      return localStorage.getItem(HALF);
    } catch {
      return null; // nothing may be kept here: no session either
    }
  }

  function keep(csrf) {
    try {
      localStorage.setItem(HALF, csrf);
    } catch {
      throw new Error('This browser keeps nothing for this page: allow that, or use `l2-prover top`.');
    }
  }

  // Why the page was left, for the one after it.
  function parting(why) {
    try {
      if (why) return sessionStorage.setItem(WHY, why);
      const last = sessionStorage.getItem(WHY);
      sessionStorage.removeItem(WHY);
      return last;
    } catch {
      return null;
    }
  }

  async function ask(method, path, { body, token, signal, patience = PATIENCE } = {}) {
    const headers = {}, sent = token ? null : half(), signals = [];
    if (token) headers.authorization = `Bearer ${token}`;
    if (sent) headers['x-csrf-token'] = sent;
    if (body !== undefined) headers['content-type'] = 'application/json';
    if (signal) signals.push(signal);
    if (patience !== null) signals.push(AbortSignal.timeout(patience));
    let answer;
    try {
      answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: 'no-store', signal: AbortSignal.any(signals) });
    } catch (error) {
      throw new Error(error.name === 'TimeoutError' ? `the server has not answered for ${patience / 1e3} s` : 'the server cannot be reached');
    }
    if (answer.ok) return answer;
    const cookies = 'the cookies of this host are too many for the server: delete those of other programs';
    const error = new Error(answer.status === 431 ? cookies : `the answer was ${answer.status}`);
    error.sent = sent;
    try {
      error.message = (await answer.json()).message || error.message;
      error.status = answer.status;
    } catch {
      // Not from this server, but from a proxy before it, which may have passed the request on.
      if (answer.status < 500) error.status = answer.status;
    }
    if (answer.status === 401 && !token) signedOut(session || sent ? 'The session has ended.' : '', sent);
    throw error;
  }

  async function act(what, method, path, body) {
    try {
      await (await ask(method, path, { body })).text();
      toast(`Done: ${what}.`);
    } catch (error) {
      toast(error.status ? `Not done: ${what}. ${error.message}` : `No answer: ${what}. It may or may not have been done: ${error.message || error}`);
    }
  }

  // ---- Confirmation

  // Asks whether to do something; the answer is null, or a number if one was asked for, or true.
  function confirm({ title, text, yes, danger = false, value }) {
    const dialog = $('confirm'), input = $('confirm-number'), accept = $('confirm-yes');
    $('confirm-title').textContent = title;
    $('confirm-text').textContent = text;
    accept.textContent = yes;
    accept.className = danger ? 'danger' : 'primary';
    $('confirm-field').hidden = value === undefined;
    if (value !== undefined) input.value = value;
    return new Promise(resolve => {
      const end = answer => {
        accept.onclick = $('confirm-no').onclick = dialog.onclose = input.onkeydown = null;
        dialog.close();
        resolve(answer);
      };
      accept.onclick = () => {
        if (value === undefined) return end(true);
        if (input.value !== '' && input.reportValidity()) end(Number(input.value));
      };
      input.onkeydown = event => { if (event.key === 'Enter') accept.click(); };
      $('confirm-no').onclick = () => end(null);
      dialog.onclose = () => end(null);
      dialog.showModal();
      (value === undefined ? $('confirm-no') : input).focus();
    });
  }

  async function decide(question, what, method, path, body) {
    const answer = await confirm(question);
    if (answer === null) return;
    await act(what, method, path, typeof body === 'function' ? body(answer) : body);
    if (openJob) loadJob();
  }

  // ---- Actions

  function serverActions() {
    const controls = $('controls');
    if (!operates()) return controls.replaceChildren();
    const { paused_since: paused, draining_since: draining } = server('switches') || {};
    const wanted = `${Boolean(paused)} ${Boolean(draining)}`;
    if (controls.dataset.shown === wanted && controls.firstChild) return;
    controls.dataset.shown = wanted;
    const focused = [...controls.children].indexOf(document.activeElement);
    controls.replaceChildren(
      paused
        ? button('Resume intake', () => decide({ title: 'Resume the intake?', text: 'New blocks get jobs again.', yes: 'Resume' }, 'the intake goes on', 'DELETE', '/v1/pause'))
        : button('Pause intake', () => decide({ title: 'Pause the intake?', text: 'No new blocks get jobs, at any server of this database, until somebody resumes it. Jobs that exist are proven.', yes: 'Pause' }, 'the intake is paused', 'POST', '/v1/pause')),
      draining
        ? button('Grant leases again', () => decide({ title: 'Grant leases again?', text: 'Clients get jobs again.', yes: 'Grant' }, 'leases are granted again', 'DELETE', '/v1/drain'))
        : button('Drain all', () => decide({ title: 'Drain all clients?', text: 'No client gets a new job, at any server of this database, until somebody ends it. Clients finish what they have.', yes: 'Drain', danger: true }, 'all clients are drained', 'POST', '/v1/drain')),
    );
    // The button that was pressed has another in its place.
    if (focused >= 0) controls.children[focused].focus();
  }

  function clientActions(client) {
    if (!operates()) return [];
    const name = clientName(client.client), id = `Its id is ${client.client}.`;
    const deed = (text, deed, question, style) => button(text, () => decide({ ...question, text: `${question.text} ${id}` }, `${deed} ${name}`, 'POST', `/v1/clients/${encodeURIComponent(client.client)}/${deed}`), { label: `${text} client ${name}`, style });
    const release = deed('Release', 'release', { title: `Release ${name}?`, text: 'It gets jobs again, and what it did wrong is forgotten.', yes: 'Release' });
    if (client.quarantined) return [release];
    const quarantine = deed('Quarantine', 'quarantine', { title: `Quarantine ${name}?`, text: 'Its job is taken away, and it gets none until somebody releases it.', yes: 'Quarantine', danger: true }, 'danger');
    if (client.draining) return [release, quarantine];
    return [deed('Drain', 'drain', { title: `Drain ${name}?`, text: 'It finishes what it has and gets no other job until somebody releases it.', yes: 'Drain' }), quarantine];
  }

  function jobActions(job) {
    if (!operates()) return [];
    const path = deed => `/v1/jobs/${encodeURIComponent(job.job)}/${deed}`;
    const named = blocks(range(job));
    const made = [];
    if (job.state === 'dead') {
      made.push(button('Requeue', () => decide({ title: `Requeue ${named}?`, text: 'The job gets fresh budgets and is offered to clients again.', yes: 'Requeue' }, `${named} requeued`, 'POST', path('requeue'))));
    }
    if (job.state === 'leased') {
      const { client } = job, name = clientName(client);
      made.push(button('Take back', () => decide({ title: `Take ${named} from ${name}?`, text: `The client is told to stop, without blame. Another may take the job. Its id is ${client}.`, yes: 'Take back' }, `${named} taken back from ${name}`, 'POST', `${path('release')}?client=${encodeURIComponent(client)}`)));
    }
    if (['ready', 'leased', 'verifying'].includes(job.state)) {
      made.push(button('Priority', () => decide({ title: `Priority of ${named}`, text: 'Above zero it is served before others, below zero after them. A step is ten minutes.', yes: 'Set', value: job.priority || 0 }, `priority of ${named}`, 'POST', path('priority'), priority => ({ priority }))));
      made.push(button('Cancel', () => decide({ title: `Cancel ${named}?`, text: 'The job is given up and its client is told to stop. Until it is requeued, these blocks stay without a proof.', yes: 'Cancel the job', danger: true }, `${named} cancelled`, 'POST', path('cancel')), { style: 'danger' }));
    }
    return made;
  }

  async function requeueAll(count) {
    const yes = await confirm({ title: `Requeue ${plural(count, 'job')}?`, text: 'Every job that was given up gets fresh budgets and is offered to clients again.', yes: 'Requeue all' });
    if (yes === null) return;
    let after, changed = 0;
    do {
      const body = { deed: 'requeue', state: 'dead' };
      if (after !== undefined) body.after = after;
      let answer;
      try {
        answer = await (await ask('POST', '/v1/jobs/change', { body, patience: 4 * PATIENCE })).json();
      } catch (error) {
        return toast(`Requeued ${plural(changed, 'job')}, then it failed: ${error.message}`);
      }
      changed += answer.changed;
      after = answer.next;
    } while (after !== undefined && after !== null);
    toast(`Done: ${plural(changed, 'job')} requeued.`);
  }

  // ---- What needs attention

  function notices() {
    const found = [], say = (level, text) => found.push({ level, text });
    const intake = server('intake') || {}, counts = server('counts') || {}, { paused_since: paused, draining_since: draining } = server('switches') || {};
    if (server('failing')) say('bad', 'The server cannot read its database. This is what was known last.');
    if (server('crashed')) say('bad', `The server's part ${server('crashed')} has crashed: start the server again.`);
    if (intake.state === 'halted') say('bad', `The intake is halted: ${intake.error}`);
    if (intake.state === 'retrying') say('warn', `The intake tries again: ${intake.error}`);
    if (intake.state === 'full') say('info', 'The intake waits: as many jobs are ready as may be.');
    if (paused) say('warn', `An operator paused the intake ${duration(now() - paused)} ago.`);
    if (draining) say('warn', `No client gets a job: an operator drained all ${duration(now() - draining)} ago.`);
    for (const it of server('settlements') || []) if (it.alarm) say('bad', `Settlement on chain ${it.l1_chain_id} is stuck: ${it.alarm}`);
    const clients = [...section('clients').values()];
    const quarantined = clients.filter(client => client.quarantined).length;
    if (quarantined) say('warn', `${plural(quarantined, 'client is', 'clients are')} in quarantine.`);
    if (counts.dead) say('warn', `${plural(counts.dead, 'job was', 'jobs were')} given up: see Failures.`);
    if (counts.set_aside) say('warn', `${plural(counts.set_aside, 'job is', 'jobs are')} set aside: their proofs are no longer wanted.`);
    const heard = clients.filter(client => !client.silent);
    if (counts.ready && heard.length === 0) say('warn', `${plural(counts.ready, 'job waits', 'jobs wait')}, and no client was heard lately: start one with “l2-prover client”.`);
    list($('notices'), found, notice => notice.level + notice.text.replace(/\d+ (s|min|h|d) /, ''), () => {
      const made = element('li');
      made.refresh = ({ level, text }) => {
        made.className = level;
        setText(made, text);
      };
      return made;
    });
  }

  // ---- Figures and plots

  // A row of the section `trends`, by name.
  const trend = ([seq, first, last, state, created, leased, finished, gas, estimated, proven]) =>
    ({ seq, first, last, state, created, leased, finished, gas, estimated, proven });
  const trends = () => [...section('trends').values()].map(trend).sort((a, b) => a.seq - b.seq);

  function chain(rows) {
    const { head, enqueued, proved, final } = server('chain') || {};
    const settlements = server('settlements') || [];
    const settled = settlements.length ? Math.min(...settlements.map(it => it.settled || 0)) : null;
    const before = proved ?? (rows.length ? rows[0].first - 1 : null);
    const behind = head !== null && head !== undefined && before !== null ? Math.max(0, head - before) : null;
    figures($('chain'), [
      ['head', number(head)], ['with a job', number(enqueued)], ['proved', number(proved)], ['behind', number(behind)],
      ['final', final ? number(final) : null], ['settled', settled === null ? null : number(settled)],
    ]);
    const taken = [], done = [];
    let top = 0, through = 0;
    const byBlocks = new Map();
    for (const row of rows) {
      if (row.last > top) taken.push([row.created, top = row.last]);
      const key = `${row.first}-${row.last}`, known = byBlocks.get(key);
      // Several proofs may be wanted of one batch.
      if (!known) byBlocks.set(key, { ...row });
      else {
        known.finished = Math.max(known.finished || 0, row.finished || 0);
        if (row.state !== 'proved') known.state = row.state;
      }
    }
    for (const row of [...byBlocks.values()].sort((a, b) => a.first - b.first)) {
      if (row.state !== 'proved' || !row.finished) break;
      done.push([through = Math.max(through, row.finished), row.last]);
    }
    const at = now();
    if (taken.length) taken.push([at, top]);
    if (done.length) done.push([at, done[done.length - 1][1]]);
    const series = [{ name: 'taken in', style: 'taken', kind: 'steps', points: taken }, { name: 'proved without a gap', style: 'proved', kind: 'steps', points: done }];
    const paid = [...section('settled').values()].map(([last, at]) => [at, last]).filter(([at]) => rows.length && at >= rows[0].created).sort((a, b) => a[0] - b[0]);
    if (paid.length) series.push({ name: 'settled', style: 'settled', kind: 'steps', points: paid });
    if (plotting) plots.draw($('chain-plot'), {
      series, y: number, height: 220, level: head ?? undefined,
      label: rows.length ? `Blocks over time. Head ${number(head)}, taken in up to ${number(enqueued)}, proved up to ${number(proved)}.` : 'No block has a job yet.',
      legend: series.map(({ name, style }) => ({ name, style })).concat(head ? [{ name: 'dashed: head', value: number(head) }] : []),
    });
  }

  function states() {
    const counts = server('counts') || {}, queue = server('queue') || {};
    const parts = Object.entries(STATES).map(([state, name]) => ({ name, style: state, count: counts[state] || 0 }));
    plots.shares($('state-plot'), parts, parts.map(({ name, count }) => `${number(count)} ${name}`).join(', '));
    figures($('queue'), [
      ['proofs to verify', number(queue.proofs_waiting)], ['clients that wait', number(queue.clients_waiting)], ['jobs that wait', number(counts.ready)],
    ]);
  }

  const proving = row => row.state === 'proved' && row.leased && row.finished > row.leased ? row.finished - row.leased : null;

  function throughput(rows) {
    const at = now(), proved = rows.filter(row => row.state === 'proved' && row.finished);
    const since = Math.max(rows.length ? rows[0].created : at, at - WINDOW), recent = proved.filter(row => row.finished >= since);
    const seconds = Math.max(at - since, 1000) / 1000;
    const count = recent.reduce((sum, row) => sum + row.last - row.first + 1, 0), gas = recent.reduce((sum, row) => sum + row.gas, 0);
    const times = recent.map(proving).filter(time => time !== null);
    figures($('rates'), [
      ['blocks a minute', few(count * 60 / seconds)], ['Mgas a second', few(gas / 1e6 / seconds, 2)],
      ['a proof takes', times.length ? duration(times.reduce((sum, time) => sum + time, 0) / times.length) : '–'],
      ['over the last', duration(seconds * 1000)],
    ]);
    if (!plotting) return;
    if (!proved.length) return plots.empty($('throughput-plot'), 'Nothing is proved yet.');
    const first = Math.min(...proved.map(row => row.finished)), bar = Math.max((at - first) / 40, 1000), bars = new Map();
    for (const row of proved) {
      const from = first + Math.floor((row.finished - first) / bar) * bar;
      bars.set(from, (bars.get(from) || 0) + (row.last - row.first + 1) * 60e3 / bar);
    }
    plots.draw($('throughput-plot'), {
      series: [{ name: 'blocks proved a minute', style: 'proved', kind: 'bars', bar, points: [...bars] }], yFrom: 0, xTo: at,
      label: `Blocks proved a minute over the last ${duration(at - first)}: ${few(count * 60 / seconds)} lately.`,
    });
  }

  const median = values => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

  function gasPlot(rows) {
    const points = rows.filter(row => row.gas > 0 && proving(row) !== null).map(row => [row.finished, proving(row) / 1e3 / (row.gas / 1e6)]);
    if (!points.length) return plots.empty($('gas-plot'), 'No block with gas is proved yet.');
    const middle = median(points.map(point => point[1]));
    plots.draw($('gas-plot'), {
      series: [{ name: 'seconds for a Mgas', style: 'leased', kind: 'dots', points }], yFrom: 0, level: middle,
      label: `Seconds of proving for a million gas, of ${plural(points.length, 'proof')}: ${few(middle, 2)} in the middle.`,
      legend: [{ name: 'seconds for a Mgas', style: 'leased' }, { name: 'dashed: median', value: `${few(middle, 2)} s` }],
    });
  }

  function costPlot(rows) {
    const known = rows.filter(row => row.estimated > 0);
    const cycles = known.filter(row => row.proven > 0).map(row => [row.estimated, row.proven]);
    if (cycles.length) {
      const ratio = median(cycles.map(([estimated, proven]) => proven / estimated));
      return plots.draw($('cost-plot'), {
        series: [{ name: 'cycles proven, over cycles expected', style: 'verifying', kind: 'dots', points: cycles }], xIsTime: false, diagonal: true,
        label: `Cycles that proofs cost against those expected, of ${plural(cycles.length, 'proof')}: ${few(ratio, 2)} times the estimate in the middle.`,
        legend: [{ name: 'cycles proven, over cycles expected', style: 'verifying' }, { name: 'dashed: as expected; median', value: `× ${few(ratio, 2)}` }],
      });
    }
    const times = known.filter(row => proving(row) !== null).map(row => [row.estimated, proving(row) / 1e3]);
    if (!times.length) return plots.empty($('cost-plot'), 'No proof says yet what it cost.');
    plots.draw($('cost-plot'), {
      series: [{ name: 'seconds, over cycles expected (this prover counts no cycles)', style: 'verifying', kind: 'dots', points: times }], xIsTime: false, xFrom: 0, yFrom: 0,
      label: `Seconds of proving against the cycles expected, of ${plural(times.length, 'proof')}.`,
    });
  }

  // ---- Clients

  function standing(client, job) {
    if (client.quarantined) return 'quarantined';
    if (client.draining) return 'draining';
    if (job) return 'proving';
    if (client.rests_until && client.rests_until > now()) return 'resting';
    if (client.silent) return 'silent';
    return client.failed ? 'failing' : 'idle';
  }

  function hardware({ capabilities }) {
    return (capabilities || []).map(it => [
      it.engine || it.system,
      it.memory_bytes ? bytes(it.memory_bytes) : null,
      ...(it.gpus || []).map(gpu => `${gpu.name} (${bytes(gpu.memory_bytes)})`),
      it.segment_po2 ? `segments of 2^${it.segment_po2}` : null,
      it.mocked ? 'MOCKED' : null,
    ].filter(Boolean).join(' · ')).join('; ');
  }

  function clients() {
    const busy = new Map();
    for (const job of section('jobs').values()) if (job.client && (job.state === 'leased' || job.state === 'verifying')) busy.set(job.client, job);
    const all = [...section('clients').values()].map(client => ({
      client: { ...client, capabilities: section('hardware').get(client.client), last_seen: section('heard').get(client.client) },
      job: busy.get(client.client),
    }));
    const order = ({ client, job }) => client.quarantined ? 0 : job ? 1 : client.silent ? 3 : 2;
    all.sort((a, b) => order(a) - order(b) || (a.client.name || a.client.client).localeCompare(b.client.name || b.client.client) || a.client.client.localeCompare(b.client.client));
    const known = server('clients_known') || 0;
    $('clients-count').textContent = known > all.length ? `${number(all.length)} of ${number(known)}${known < 10000 ? '' : ' or more'}` : all.length ? number(all.length) : '';
    $('clients-none').hidden = all.length > 0;
    $('clients-none').textContent = 'No client has come yet. “l2-prover client --server URL” starts one.';
    list($('clients'), all, it => it.client.client, ({ client }) => {
      const name = element('span', 'name'), id = element('code', 'id'), badge = element('span', 'badge'), doing = element('p'), bar = element('progress'), on = element('p', 'soft'), record = element('p', 'soft'), actions = element('div', 'controls');
      const made = element('li', '', element('h3', '', name, id, badge), doing, bar, on, record, actions);
      let shown = '';
      made.refresh = ({ client, job }) => {
        const stands = standing(client, job);
        setText(name, client.name || '');
        setText(id, short(client.client));
        id.title = client.client;
        setText(badge, stands);
        badge.className = `badge ${stands}`;
        const progress = job && section('progress').get(job.job), step = progressText(progress);
        setText(doing, job ? `${blocks(range(job))}${job.part ? ', a part' : ''}${step ? `: ${step}` : ''}, for ${duration(now() - job.leased_at)}` : client.rests_until > now() ? `rests for ${duration(client.rests_until - now())}` : `heard ${duration(now() - client.last_seen)} ago`);
        bar.hidden = !job;
        if (job) {
          const { done, total } = progress || {};
          bar.setAttribute('aria-label', `Progress of ${clientName(client.client)}`);
          if (total > 1) [bar.max, bar.value] = [total, done];
          else bar.removeAttribute('value');
        }
        setText(on, hardware(client));
        setText(record, `${number(client.proved)} proved${client.rejected ? `, ${number(client.rejected)} rejected` : ''}${client.failed ? `, failed ${plural(client.failed, 'time')} since` : ''}${client.cycles_per_second ? `, ${number(client.cycles_per_second)} cycles/s` : ''}`);
        const wanted = `${operates()} ${client.quarantined} ${client.draining} ${client.name}`;
        if (wanted !== shown) actions.replaceChildren(...clientActions(client));
        shown = wanted;
      };
      return made;
    });
  }

  // ---- Jobs

  // A list that is not the newest, live: what is asked for, what came of it and when. It is asked for again as long as it is looked at.
  const listed = { path: null, jobs: null, next: null, at: 0, read: 0, counts: '', asked: 0, asking: false };

  function took(job) {
    // Of a job that is not told live nothing later is known.
    const at = section('jobs').has(job.job) || listed.jobs === null ? now() : listed.at;
    if (job.state === 'leased' || job.state === 'verifying') return `${duration(at - job.leased_at)} so far`;
    if (job.state === 'proved' && job.leased_at && job.finished_at >= job.leased_at) return duration(job.finished_at - job.leased_at);
    return job.state === 'ready' ? `waits ${duration(at - job.created_at)}` : '';
  }

  function jobRow(job) {
    const cells = Array.from({ length: 6 }, () => element('td')), badge = element('span', 'badge');
    cells[2].append(badge);
    const open = button('Details', () => showJob(made.job));
    const made = element('tr', '', ...cells, element('td', '', open));
    made.refresh = job => {
      made.job = job;
      const [first, last] = range(job);
      setText(cells[0], first === last ? number(first) : `${number(first)}–${number(last)}`);
      setText(cells[1], `${job.system} ${job.kind}${job.part ? ' (part)' : ''}`);
      setText(badge, STATES[job.state] || job.state);
      badge.className = `badge ${job.state}`;
      setText(cells[3], job.client ? clientName(job.client) : '');
      setText(cells[4], took(job));
      const wrong = [job.failures && `${number(job.failures)} failed`, job.lost && `${number(job.lost)} lost`, job.priority && `priority ${job.priority}`].filter(Boolean);
      setText(cells[5], wrong.join(', '));
      open.setAttribute('aria-label', `Details of ${blocks([first, last])}`);
    };
    return made;
  }

  function jobs() {
    const live = listed.jobs === null;
    const shown = live
      ? [...section('jobs').values()].sort((a, b) => b.created_at - a.created_at || range(b)[0] - range(a)[0] || a.job.localeCompare(b.job)).slice(0, SHOWN_JOBS)
      : listed.jobs.map(job => section('jobs').get(job.job) || job);
    list($('jobs').tBodies[0], shown, job => job.job, jobRow);
    $('older').hidden = live || listed.next === null;
    setText($('as-of'), live ? '' : `as of ${clock(listed.at)}`);
    if (!live) refreshJobs();
    $('jobs-none').hidden = shown.length > 0;
    $('jobs-none').textContent = live ? 'There is no job yet.' : 'There is no such job.';
    const dead = (server('counts') || {}).dead || 0, wanted = operates() && dead ? String(dead) : '';
    if ($('bulk').dataset.shown !== wanted) {
      $('bulk').dataset.shown = wanted;
      $('bulk').replaceChildren(...(wanted ? [button(`Requeue all ${number(dead)} given up`, () => requeueAll(dead))] : []));
    }
  }

  // A page, the first or the one after what is shown. One that nobody asked for fails without a word: the list says of when it is.
  async function loadJobs(limit, { before = null, quiet = false } = {}) {
    const asked = ++listed.asked, counts = JSON.stringify(server('counts'));
    listed.asking = true;
    try {
      const answer = await ask('GET', `${listed.path}&limit=${limit}${before === null ? '' : `&before=${before}`}`);
      const link = /[?&]before=(\d+)[^>]*>; rel="next"/.exec(answer.headers.get('link') || '');
      // The newest is the last.
      const page = (await answer.json()).reverse();
      if (asked !== listed.asked) return;
      listed.jobs = before === null ? page : listed.jobs.concat(page);
      listed.next = link ? link[1] : null;
      if (before === null) [listed.at, listed.counts] = [now(), counts];
    } catch (error) {
      if (asked === listed.asked && !quiet) toast(`The jobs could not be listed: ${error.message}`);
    }
    if (asked !== listed.asked) return;
    [listed.asking, listed.read] = [false, Date.now()];
    draw();
  }

  function refreshJobs() {
    const age = Date.now() - listed.read, shown = listed.jobs.length;
    if (listed.asking || !stream || shown > MOST_LISTED) return;
    if (age > 5e3 || (age > 1e3 && listed.counts !== JSON.stringify(server('counts')))) loadJobs(Math.max(PAGE_JOBS, shown), { quiet: true });
  }

  function filterJobs() {
    const state = $('state').value, block = $('block').value.trim(), query = new URLSearchParams();
    if (state) query.set('state', state);
    if (block) [query.set('first', block), query.set('last', block)];
    [listed.path, listed.jobs, listed.next] = [`/v1/jobs?${query}`, null, null];
    if (state || block) return loadJobs(PAGE_JOBS);
    listed.asked += 1;
    draw();
  }

  // ---- One job

  // `loading` is the request for what is open, and `stale` that it has to be asked again after it.
  let openJob = null, opener = null, jobText = '', loading = null, stale = false;

  const textOf = job => JSON.stringify([job.state, job.client, job.leased_at, job.finished_at, job.failures, job.lost, job.priority]);

  function forgetJob() {
    if (loading) loading.abort();
    openJob = loading = null;
    stale = false;
  }

  function showJob(job) {
    forgetJob();
    openJob = job;
    jobText = textOf(job);
    opener = document.activeElement;
    $('attempts').tBodies[0].replaceChildren();
    $('attempts').tBodies[0].known = undefined;
    $('job-parts').replaceChildren();
    plots.empty($('job-plot'), 'Loading…');
    $('job').showModal();
    $('job-title').focus();
    drawJob(null);
    loadJob();
  }

  async function loadJob() {
    if (!openJob) return;
    if (loading) {
      stale = true;
      return;
    }
    const mine = loading = new AbortController();
    try {
      const path = `/v1/jobs/${encodeURIComponent(openJob.job)}`, { signal } = mine;
      const [job, history] = await Promise.all([ask('GET', path, { signal }), ask('GET', `${path}/history`, { signal })].map(async answer => (await answer).json()));
      if (loading !== mine) return;
      openJob = job;
      drawJob(history);
    } catch (error) {
      if (loading !== mine) return;
      toast(`The job could not be read: ${error.message}`);
      // It is asked again with the next change of the job, or when it is opened again.
      if (!$('attempts').tBodies[0].firstChild) plots.empty($('job-plot'), `Not read: ${error.message}`);
    }
    loading = null;
    if (!stale) return;
    stale = false;
    loadJob();
  }

  function replay(job) {
    const folder = `failure-${short(job.job)}`;
    return `l2-prover failures export ${job.job} --server ${location.origin} --out ${folder} && l2-prover failures replay ${folder}`;
  }

  function command(text) {
    const code = element('code', '', text);
    const copy = button('Copy', async () => {
      try {
        await navigator.clipboard.writeText(text);
        copy.textContent = 'Copied';
      } catch {
        // Without TLS a browser lends no clipboard: the text is selected instead.
        getSelection().selectAllChildren(code);
        copy.textContent = 'Selected';
      }
      setTimeout(() => { copy.textContent = 'Copy'; }, 2000);
    }, { label: 'Copy the command' });
    return element('div', 'command', code, copy);
  }

  function drawJob(history) {
    const job = openJob;
    $('job-title').textContent = `${blocks(range(job))[0].toUpperCase()}${blocks(range(job)).slice(1)}: ${STATES[job.state] || job.state}`;
    const wanted = `${job.job} ${job.state} ${job.priority} ${operates()} ${job.client && clientName(job.client)}`;
    if ($('job-actions').dataset.shown !== wanted) {
      $('job-actions').dataset.shown = wanted;
      $('job-actions').replaceChildren(...jobActions(job));
    }
    const facts = [
      ['job', job.job], ['proof', `${job.system} ${job.kind}`], ['program', job.program_id], ['gas', number(job.gas_used)], ['transactions', number(job.transactions)],
      ['input', `${number(job.prover_inputs.len)} bytes, ${job.prover_inputs.sha256}`], ['enqueued', moment(job.created_at)],
      ['finished', job.finished_at ? moment(job.finished_at) : null], ['client', job.client ? `${clientName(job.client)} (${job.client})` : null],
      ['progress', progressText(section('progress').get(job.job)) || null], ['priority', job.priority ? String(job.priority) : null], ['given up because', job.cause || null],
      ['accepted proof', job.proof ? `${number(job.proof.len)} bytes, ${job.proof.sha256}` : null], ['last error', job.last_error],
    ].filter(([, value]) => value !== null && value !== undefined);
    list($('job-facts'), facts.flatMap(([name, value]) => [{ id: `${name} name`, tag: 'dt', text: name }, { id: name, tag: 'dd', text: value }]), it => it.id, ({ tag }) => {
      const made = element(tag);
      made.refresh = ({ text }) => setText(made, text);
      return made;
    });
    const wrong = job.failures || job.lost || job.state === 'dead';
    $('job-replay').replaceChildren(...(wrong ? [element('h3', '', 'Replay it'), command(replay(job))] : []));
    if (!history) return;
    const at = now(), running = ['ready', 'leased', 'verifying'].includes(job.state), end = running ? at : job.finished_at || at;
    const ended = outcome => outcome === 'proved' ? 'proved' : outcome === null || outcome === undefined ? 'leased' : ['cancelled', 'released', 'superseded', 'proved_by_other'].includes(outcome) ? 'superseded' : 'dead';
    const first = history.leases.length ? history.leases[0].granted_at : end;
    const rows = [{ name: 'queue', style: 'ready', start: job.created_at, end: first }];
    for (const lease of history.leases) {
      const marks = history.proofs.filter(proof => proof.client === lease.client && proof.received_at >= lease.granted_at && proof.received_at <= (lease.ended_at || at))
        .map(proof => ({ at: proof.received_at, style: 'verifying' }));
      const called = section('clients').get(lease.client);
      rows.push({ name: ((called && called.name) || short(lease.client)).slice(0, 13), style: ended(lease.outcome), start: lease.granted_at, end: lease.ended_at || at, marks });
    }
    plots.timeline($('job-plot'), {
      rows: rows.slice(0, 40), from: job.created_at, to: Math.max(end, ...rows.map(row => row.end)),
      label: `Timeline of ${blocks(range(job))}: ${plural(history.leases.length, 'attempt')}, ${plural(history.proofs.length, 'proof')} handed in. The table below says the same.`,
    });
    const lines = [{ at: job.created_at, what: 'enqueued', client: '', outcome: '' }];
    for (const lease of history.leases) lines.push({ at: lease.granted_at, what: 'leased', client: clientName(lease.client), outcome: lease.ended_at ? `${lease.outcome || 'ended'} after ${duration(lease.ended_at - lease.granted_at)}` : `for ${duration(at - lease.granted_at)} so far` });
    for (const proof of history.proofs) lines.push({ at: proof.received_at, what: `proof of ${number(proof.proof.len)} bytes`, client: clientName(proof.client), outcome: [proof.verdict || 'being verified', proof.reason].filter(Boolean).join(': ') });
    if (job.finished_at) lines.push({ at: job.finished_at, what: STATES[job.state] || job.state, client: '', outcome: '' });
    lines.sort((a, b) => a.at - b.at);
    list($('attempts').tBodies[0], lines.map((line, at) => ({ ...line, id: `${at} ${line.what}` })), line => line.id, () => {
      const cells = Array.from({ length: 4 }, () => element('td'));
      const made = element('tr', '', ...cells);
      made.refresh = line => [clock(line.at), line.what, line.client, line.outcome].forEach((text, at) => setText(cells[at], text));
      return made;
    });
    const parts = history.parts || [], done = parts.filter(part => part.state === 'proved').length;
    $('job-parts').replaceChildren(...(parts.length ? [element('h3', '', 'Parts'), element('p', '', `${number(done)} of ${number(parts.length)} parts proved; ${number(parts.filter(part => part.state === 'leased').length)} are being proven.`)] : []));
  }

  function followJob() {
    if (!openJob || !$('job').open) return;
    const job = section('jobs').get(openJob.job) || section('troubled').get(openJob.job);
    if (!job) return;
    openJob = { ...openJob, ...job };
    if (textOf(job) !== jobText) {
      jobText = textOf(job);
      loadJob();
    }
    drawJob(null);
  }

  // ---- Failures and events

  function failures() {
    const all = [...section('troubled').values()].map(job => section('jobs').get(job.job) || job).sort((a, b) => (b.finished_at || b.leased_at || b.created_at) - (a.finished_at || a.leased_at || a.created_at));
    $('failures-none').hidden = all.length > 0;
    $('failures-count').textContent = all.length ? `the latest ${number(all.length)}` : '';
    list($('failures'), all, job => job.job, job => {
      const title = element('strong'), badge = element('span', 'badge'), error = element('p'), open = button('Details', () => showJob(made.job));
      const made = element('li', '', element('div', 'bar', title, badge, open), error, command(replay(job)));
      made.refresh = job => {
        made.job = job;
        setText(title, blocks(range(job)));
        setText(badge, STATES[job.state] || job.state);
        badge.className = `badge ${job.state}`;
        open.setAttribute('aria-label', `Details of the failure of ${blocks(range(job))}`);
        const times = [job.failures && `failed ${plural(job.failures, 'time')}`, job.lost && `lost its client ${plural(job.lost, 'time')}`].filter(Boolean).join(', ');
        setText(error, [times, job.last_error].filter(Boolean).join(': ') || `given up: ${job.cause || 'budget'}`);
      };
      return made;
    });
  }

  function events() {
    const found = [];
    const say = (at, id, text) => { if (at) found.push({ at, id, text }); };
    for (const job of section('jobs').values()) {
      if (job.part) continue;
      const of = blocks(range(job)) + (job.kind === 'aggregate' || job.kind === 'groth16' ? ` (${job.kind})` : ''), by = job.client ? ` by ${clientName(job.client)}` : '';
      say(job.created_at, `${job.job} enqueued`, `${of}: enqueued`);
      if (job.state === 'leased' || job.state === 'verifying') say(job.leased_at, `${job.job} leased ${job.leased_at}`, `${of}: leased${by}`);
      if (job.state === 'proved') say(job.finished_at, `${job.job} proved`, `${of}: proved${by}`);
      if (job.state === 'dead') say(job.finished_at, `${job.job} dead`, `${of}: given up${job.last_error ? `: ${job.last_error}` : ''}`);
      if (job.state === 'superseded') say(job.finished_at, `${job.job} superseded`, `${of}: superseded by a reorg`);
      if (job.state === 'ready' && job.last_error) say(job.leased_at, `${job.job} tried ${job.leased_at}`, `${of}: tried, and failed: ${job.last_error}`);
    }
    for (const entry of section('audit').values()) say(entry.at, `audit ${entry.id}`, `${entry.actor}: ${entry.deed} ${entry.subject}${entry.detail ? ` ${entry.detail}` : ''}`);
    found.sort((a, b) => b.at - a.at || a.id.localeCompare(b.id));
    list($('events'), found.slice(0, SHOWN_EVENTS), event => event.id, ({ at }) => {
      const time = element('time', '', clock(at)), text = element('span');
      time.dateTime = new Date(at).toISOString();
      const made = element('li', '', time, text);
      made.refresh = event => setText(text, event.text.length > 400 ? `${event.text.slice(0, 400)}…` : event.text);
      return made;
    });
  }

  // ---- Drawing

  // Plots are drawn once a second at most.
  let drawn = 0, plotted = 0, plotting = false, waiting = null;

  function draw() {
    if (!session || board.size === 0) return;
    const version = server('version');
    setText($('version'), version ? `v${version}` : '');
    serverActions();
    notices();
    states();
    clients();
    jobs();
    failures();
    events();
    followJob();
    const rows = trends();
    plotting = Date.now() - plotted > 900;
    chain(rows);
    throughput(rows);
    if (plotting) {
      gasPlot(rows);
      costPlot(rows);
      plotted = Date.now();
    }
    drawn = Date.now();
  }

  // At once if it has been a while, and otherwise a few times a second.
  function soon() {
    if (waiting) return;
    waiting = setTimeout(() => {
      waiting = null;
      draw();
    }, Math.max(0, drawn + 150 - Date.now()));
  }

  // ---- The stream

  let stream = null, retry = null, pause = 500, heard = 0, page = null, leaving = null;

  function link(state, text) {
    $('link').dataset.state = state;
    setText($('link'), text);
  }

  function told(event) {
    // The others say only that the server lives.
    if (!event.startsWith('data: ')) return;
    const change = JSON.parse(event.slice(6));
    offset = change.now - Date.now();
    if (change.whole) board = new Map();
    for (const [name, things] of Object.entries(change.set)) {
      if (!board.has(name)) board.set(name, new Map());
      for (const [key, value] of Object.entries(things)) board.get(name).set(key, value);
    }
    for (const [name, keys] of Object.entries(change.gone || {})) for (const key of keys) section(name).delete(key);
    // Another version of the server has another page.
    const served = server('page');
    if (page !== null && served && served !== page) return location.reload();
    page = served || page;
    link('live', 'live');
    pause = 500;
    soon();
  }

  function disconnect() {
    const mine = stream;
    clearTimeout(retry);
    stream = retry = null;
    if (mine) mine.abort();
  }

  function rest() {
    disconnect();
    link('connecting', 'resting while hidden');
  }

  // Not an EventSource: that sends no header, and does not say why it is refused.
  async function connect() {
    disconnect();
    if (document.hidden) return rest();
    heard = Date.now();
    const mine = stream = new AbortController(), decoder = new TextDecoder();
    try {
      const answer = await ask('GET', '/v1/events', { signal: mine.signal, patience: null }), reader = answer.body.getReader();
      for (let text = '', end; ;) {
        const { value, done } = await reader.read();
        if (stream !== mine) return;
        if (done) return lost();
        heard = Date.now();
        for (text += decoder.decode(value, { stream: true }); (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) told(text.slice(0, end));
      }
    } catch (error) {
      if (stream === mine) lost(error.status ? error.message : undefined);
    }
  }

  function lost(why) {
    disconnect();
    link('lost', why ? `not connected: ${why}` : 'connection lost, trying again');
    retry = setTimeout(resume, pause);
    pause = Math.min(pause * 2, 5000);
  }

  // Who this is may have changed meanwhile.
  async function resume() {
    try {
      session = await (await ask('GET', '/v1/session')).json();
    } catch (error) {
      if (error.status === 401) return;
      if (error.status === 403) return signedOut(error.message, error.sent);
      return lost(error.status ? error.message : undefined);
    }
    signedIn();
  }

  // ---- Signing in and out

  function signedIn() {
    $('sign-in').hidden = true;
    $('main').hidden = false;
    $('sign-out').hidden = !session.expires_at;
    $('who').textContent = session.name ? `${session.name}, ${session.role}` : session.role;
    connect();
  }

  // `used` is the half that no longer counts; another tab may have got another meanwhile.
  function signedOut(why, used) {
    disconnect();
    if (used && half() === used) localStorage.removeItem(HALF);
    if (session) {
      // What was private goes with the page.
      session = null;
      $('main').replaceChildren();
      parting(why);
      return location.reload();
    }
    $('main').hidden = true;
    $('sign-in').hidden = false;
    $('sign-in-problem').textContent = why || parting() || '';
    link('out', 'not signed in');
    $('token').focus();
  }

  $('sign-in').addEventListener('submit', async event => {
    event.preventDefault();
    const token = $('token').value.trim();
    $('token').value = '';
    $('sign-in-problem').textContent = '';
    if (!/^[\x21-\x7e]+$/.test(token)) {
      $('sign-in-problem').textContent = 'That is no token.';
      return;
    }
    try {
      const { csrf, ...mine } = await (await ask('POST', '/v1/session', { token })).json();
      if (csrf) keep(csrf);
      session = mine;
      signedIn();
      $('main').focus();
    } catch (error) {
      $('sign-in-problem').textContent = error.status === 401 ? 'The server does not know this token, or it has ended.' : error.message;
      $('token').focus();
    }
  });

  $('sign-out').addEventListener('click', async () => {
    try {
      await ask('DELETE', '/v1/session');
    } catch (error) {
      if (error.status !== 401 && error.status !== 403) return toast(`Not signed out: ${error.message}`);
    }
    signedOut('You have signed out.', half());
  });

  // ---- Start

  $('state').addEventListener('change', filterJobs);
  $('find').addEventListener('submit', event => {
    event.preventDefault();
    filterJobs();
  });
  $('older').addEventListener('click', () => listed.next && loadJobs(PAGE_JOBS, { before: listed.next }));
  $('job-close').addEventListener('click', () => $('job').close());
  $('job').addEventListener('close', () => {
    forgetJob();
    if (opener && opener.isConnected) opener.focus();
  });
  addEventListener('resize', () => {
    plotted = 0;
    soon();
  });

  // Another tab has signed out, or in.
  addEventListener('storage', event => {
    if (event.key !== HALF && event.key !== null) return;
    if (session && event.newValue === null) sessionStorage.setItem(WHY, 'You have signed out.');
    location.reload();
  });

  // A browser lends a host six connections: a page that nobody sees keeps none.
  document.addEventListener('visibilitychange', () => {
    clearTimeout(leaving);
    if (!session) return;
    if (document.hidden) {
      leaving = setTimeout(rest, 10e3);
    } else if (!stream && !retry) resume();
  });

  setInterval(() => {
    if (!session || document.hidden) return;
    // Times go on without news. A connection can die without a word.
    if (Date.now() - drawn > 900) soon();
    if (stream && Date.now() - heard > DOUBT) lost();
  }, 1000);

  resume();
})();
