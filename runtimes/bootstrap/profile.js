// Measures what an init spends its time on: the modules that are loaded and the connections that are opened. Loaded at the
// start of a process that is told to measure. What it replaces or listens to is put back when init is over, unless the function has
// replaced it meanwhile.
'use strict';

const fs = require('fs');

const Module = module.constructor; // what require('module') gives in 0.3 ms

const RECORDED = 8000; // modules that are measured
const MODULES = 2000; // of these, as many are told that took longest
const CONNECTIONS = 100;
const LONGEST = 300; // characters of a name or a file
const FRAMES = 10; // as many more are kept of an error's stack, so that those of this file push none of the function's out
const NETWORK = ['net', 'tls', 'http', 'https', 'http2'];
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
    const name = typeof request === 'string' && request.startsWith('node:') ? request.slice(5) : request;
    if (!recording || !builtins.delete(name)) return Reflect.apply(_load, this, arguments);
    if (NETWORK.includes(name)) watchConnections();
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
  watchConnections(); // that a module below it imports what opens them would not be seen
  const entry = enter('esm', '', file);
  const { registerHooks } = require('module');
  const hooks = typeof registerHooks === 'function' ? watchImport(entry, registerHooks) : null;
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

function watchImport(entry, registerHooks) {
  const { fileURLToPath, pathToFileURL } = require('url');
  const byURL = new Map([[pathToFileURL(entry.file).href, entry]]);
  const asked = new Map(); // by URL: who asked for it first, when, and how long it took to find
  return registerHooks({
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

let watching = false;

function watchConnections() {
  if (watching) return;
  watching = true;
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
    const tried = (address, port) => {
      c.host = c.host || String(address);
      c.address = `${String(address).includes(':') ? `[${address}]` : address}:${port}`;
    };
    const listeners = {
      lookup(error, address, family, host) {
        c.dns = took();
        c.host = host;
      },
      connectionAttempt: tried, // since Node.js 20
      connect() {
        c.tcp = took();
        tried(socket.remoteAddress, socket.remotePort);
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
  begun = clock();
  recording = true;
}

// Puts everything back, and gives what was measured, as the host reads it.
function end() {
  const now = clock();
  recording = false;
  while (restore.length > 0) {
    try {
      restore.pop()();
    } catch (_) {
      // The function has frozen what was replaced.
    }
  }
  try {
    return tell(now);
  } finally {
    records.length = connections.length = 0;
    current = null;
  }
}

// In plain loops: this runs once, and each function that it calls would be compiled for that.
function tell(now) {
  for (let i = records.length - 1; i >= 0; i--) {
    const record = records[i];
    if (record.running) record.total = now - record.start;
    if (!record.read) continue;
    record.parent.nested += record.total;
    if (record.parent.read) record.parent.total += record.total; // it was read before what it imports
  }
  const chosen = records.length > MODULES ? longest() : records;
  const index = new Map();
  const told = { kinds: [], names: [], parents: [], files: [], bytes: [], starts: [], selves: [], totals: [], failed: [], connections: [], dropped };
  for (let i = 0; i < chosen.length; i++) {
    const record = chosen[i];
    index.set(record, i);
    told.kinds.push(record.kind);
    told.names.push(record.name.slice(0, LONGEST));
    told.parents.push(index.has(record.parent) ? index.get(record.parent) : -1);
    told.files.push(String(record.file).slice(0, LONGEST));
    told.bytes.push(sizeOf(record.file));
    told.starts.push(micro(record.start - begun));
    told.selves.push(micro(record.total - record.nested));
    told.totals.push(micro(record.total));
    if (record.failed) told.failed.push(i);
  }
  for (const c of connections) {
    told.connections.push({
      host: String(c.host).slice(0, LONGEST),
      address: c.address.slice(0, LONGEST),
      start: micro(c.start - begun),
      dns: micro(c.dns),
      tcp: micro(c.tcp),
      tls: micro(c.tls),
      module: index.has(c.module) ? index.get(c.module) : -1,
      error: c.error.slice(0, LONGEST),
    });
  }
  return JSON.stringify(told);
}

// Those that took longest. The sort is stable: what took as long as what it loaded stays before it.
function longest() {
  const kept = new Set([...records].sort((a, b) => b.total - a.total).slice(0, MODULES));
  dropped += records.length - kept.size;
  return records.filter((record) => kept.has(record));
}

function micro(ms) {
  return Math.round(ms * 1000);
}

function sizeOf(file) {
  try {
    return file ? fs.statSync(file).size : 0;
  } catch (_) {
    return 0;
  }
}

module.exports = { begin, end, importModule };
