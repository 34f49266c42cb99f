// Measures what an init spends its time on: the modules that are loaded and the connections that are opened. Loaded at the
// start of a process that is told to measure. What it replaces or listens to is put back when init is over, unless the function has
// replaced it meanwhile.
'use strict';

const Module = require('module');
const fs = require('fs');

const RECORDED = 8000; // modules that are measured
const MODULES = 2000; // of these, as many are told that took longest
const CONNECTIONS = 100;
const LONGEST = 300; // characters of a name or a file
const FRAMES = 10; // as many more are kept of an error's stack, so that those of this file push none of the function's out
const SHORT = 0.05; // milliseconds: a built-in module that took less was there already

const clock = performance.now.bind(performance);

let recording = false;
let begun = 0;
let dropped = 0;
let current = null; // the record of the module that is being loaded
const records = []; // in the order in which the loading began
const connections = [];
const restore = []; // what puts things back

// --- Modules ------------------------------------------------------------------------------------------------------

function enter(kind, name, file) {
  const record = { kind, name, file, parent: current, start: clock(), total: 0, nested: 0, failed: true, running: true };
  if (records.length < RECORDED) {
    records.push(record);
  } else {
    dropped++;
  }
  current = record;
  return record;
}

function leave(record) {
  record.total = clock() - record.start;
  record.running = false;
  current = record.parent;
  if (current) current.nested += record.total;
}

function measure(record, action, self, args) {
  try {
    const result = Reflect.apply(action, self, args);
    record.failed = false;
    return result;
  } finally {
    leave(record);
  }
}

// A file is loaded once by load; _load is also for what is there already, and the only way to a built-in module.
function watchRequire() {
  const { load } = Module.prototype;
  const { _load } = Module;
  const builtins = new Set(Module.builtinModules);
  function measuredLoad(filename) {
    if (!recording) return Reflect.apply(load, this, arguments);
    return measure(enter('require', '', filename), load, this, arguments);
  }
  function measuredRequire(request) {
    if (!recording || !builtins.delete(typeof request === 'string' && request.startsWith('node:') ? request.slice(5) : request)) {
      return Reflect.apply(_load, this, arguments);
    }
    const record = enter('require', request, '');
    try {
      return measure(record, _load, this, arguments);
    } finally {
      if (record.total < SHORT && records[records.length - 1] === record) records.pop();
    }
  }
  Module.prototype.load = measuredLoad;
  Module._load = measuredRequire;
  restore.push(() => {
    if (Module.prototype.load === measuredLoad) Module.prototype.load = load;
    if (Module._load === measuredRequire) Module._load = _load;
  });
}

// Imports an ES module. Node.js does not tell when the modules below it are run: that is the time of this one. Since 22.15 it tells
// how long it takes to find and read them; before, only another thread would be told, which makes a process unsafe to fork.
async function importModule(file, action) {
  if (!recording) return action();
  const entry = enter('esm', '', file);
  const hooks = typeof Module.registerHooks === 'function' ? watchImport(entry) : null;
  try {
    const result = await action();
    entry.failed = false;
    return result;
  } finally {
    if (hooks) hooks.deregister();
    if (entry.running) {
      current = entry;
      leave(entry);
    }
  }
}

function watchImport(entry) {
  const { fileURLToPath, pathToFileURL } = require('url');
  const byURL = new Map([[pathToFileURL(entry.file).href, entry]]);
  const asked = new Map(); // by URL: who asked for it first, when, and how long it took to find
  return Module.registerHooks({
    resolve(specifier, context, next) {
      const start = clock();
      const found = next(specifier, context);
      if (recording && asked.size < RECORDED && !asked.has(found.url)) {
        asked.set(found.url, { parent: context.parentURL, start, took: clock() - start });
      }
      return found;
    },
    load(url, context, next) {
      const start = clock();
      const loaded = next(url, context);
      if (!recording || loaded.format !== 'module' || byURL.has(url)) return loaded;
      const first = asked.get(url) || { start, took: 0 };
      const total = first.took + clock() - start;
      const parent = byURL.get(first.parent) || entry;
      const file = url.startsWith('file:') ? fileURLToPath(url) : '';
      const record = { kind: 'esm', name: file ? '' : url, file, parent, start: first.start, total, nested: 0, read: true };
      byURL.set(url, record);
      if (records.length < RECORDED) records.push(record);
      else dropped++;
      return loaded;
    },
  });
}

// --- Connections --------------------------------------------------------------------------------------------------

function watchConnections() {
  let channels;
  let errorMonitor;
  try {
    channels = require('diagnostics_channel');
    ({ errorMonitor } = require('events'));
  } catch (_) {
    return; // Node.js 14
  }
  if (typeof channels.subscribe !== 'function') return; // before 18.7
  const watched = ({ socket }) => {
    if (!recording) return;
    if (connections.length >= CONNECTIONS) {
      dropped++;
      return;
    }
    const start = clock();
    const c = { host: '', address: '', start, dns: 0, tcp: 0, tls: 0, module: current, error: '' };
    connections.push(c);
    let at = start; // when the last step had ended
    const took = () => {
      const before = at;
      at = clock();
      return at - before;
    };
    const listeners = {
      lookup(error, address, family, host) {
        c.dns = took();
        c.host = host;
      },
      connect() {
        c.tcp = took();
        c.address = `${socket.remoteFamily === 'IPv6' ? `[${socket.remoteAddress}]` : socket.remoteAddress}:${socket.remotePort}`;
      },
      secureConnect() {
        c.tls = took();
      },
      [errorMonitor](error) {
        c.error = String((error && error.code) || error);
      },
    };
    for (const name of Reflect.ownKeys(listeners)) socket.on(name, listeners[name]);
    restore.push(() => {
      for (const name of Reflect.ownKeys(listeners)) socket.removeListener(name, listeners[name]);
    });
  };
  channels.subscribe('net.client.socket', watched);
  restore.push(() => channels.unsubscribe('net.client.socket', watched));
}

// --- Begin and end ------------------------------------------------------------------------------------------------

function keepStacks() {
  const limit = Error.stackTraceLimit;
  const more = limit + FRAMES;
  if (typeof limit !== 'number') return;
  Error.stackTraceLimit = more;
  restore.push(() => {
    if (Error.stackTraceLimit === more) Error.stackTraceLimit = limit;
  });
}

function begin() {
  keepStacks();
  watchRequire();
  watchConnections();
  begun = clock();
  recording = true;
}

// Puts everything back, and gives what was measured, as the host reads it.
function end() {
  const now = clock();
  recording = false;
  while (restore.length > 0) restore.pop()();
  const told = tell(now);
  records.length = connections.length = 0;
  current = null;
  return told;
}

function tell(now) {
  for (const record of records) if (record.running) record.total = now - record.start;
  for (const record of [...records].reverse()) {
    if (!record.read) continue;
    record.parent.nested += record.total;
    if (record.parent.read) record.parent.total += record.total; // it was read before what it imports
  }
  let chosen = records;
  if (records.length > MODULES) {
    // The sort is stable: what took as long as what it loaded stays before it.
    chosen = [...records].sort((a, b) => b.total - a.total).slice(0, MODULES);
    dropped += records.length - chosen.length;
    const kept = new Set(chosen);
    chosen = records.filter((record) => kept.has(record));
  }
  const index = new Map(chosen.map((record, i) => [record, i]));
  const indexOf = (record) => (index.has(record) ? index.get(record) : -1);
  return JSON.stringify({
    kinds: chosen.map((record) => record.kind),
    names: chosen.map((record) => short(record.name)),
    parents: chosen.map((record) => indexOf(record.parent)),
    files: chosen.map((record) => short(record.file)),
    bytes: chosen.map((record) => sizeOf(record.file)),
    starts: chosen.map((record) => micro(record.start - begun)),
    selves: chosen.map((record) => micro(record.total - record.nested)),
    totals: chosen.map((record) => micro(record.total)),
    failed: chosen.flatMap((record, i) => (record.failed ? [i] : [])),
    connections: connections.map((c) => ({
      host: short(c.host),
      address: short(c.address),
      start: micro(c.start - begun),
      dns: micro(c.dns),
      tcp: micro(c.tcp),
      tls: micro(c.tls),
      module: indexOf(c.module),
      error: short(c.error),
    })),
    dropped,
  });
}

function micro(ms) {
  return Math.round(ms * 1000);
}

function short(text) {
  return String(text).slice(0, LONGEST);
}

function sizeOf(file) {
  try {
    return file ? fs.statSync(file).size : 0;
  } catch (_) {
    return 0;
  }
}

module.exports = { begin, end, importModule };
