// Turns an initialised environment into a template, and each fork of it into an environment. Loaded at the start of a
// process that was started as a template, and never in others.
'use strict';

const path = require('path');

const POOL = 128; // numbers that one call of the kernel gives

// Replaces Math.random with a function that can be given another generator later, wherever user code has kept it: V8's own goes on in
// every copy where it was in the template.
function replaceMathRandom() {
  let generator = Math.random;
  Math.random = function random() {
    return generator();
  };
  Object.defineProperty(Math, 'random', { enumerable: false });
  return (other) => {
    generator = other;
  };
}

// A generator on the kernel's: for a Node.js that does not let V8's be reached.
function kernelGenerator(native) {
  const bytes = Buffer.alloc(POOL * 8);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, POOL * 2);
  let at = words.length;
  return () => {
    if (at === words.length) {
      native.fill(bytes);
      at = 0;
    }
    const high = words[at] >>> 5;
    const low = words[at + 1] >>> 6;
    at += 2;
    return (high * 67108864 + low) / 9007199254740992;
  };
}

// randomUUID and randomInt keep random bytes ahead, as many as these numbers of calls take. A copy calls each that often, and so
// comes to bytes that it has drawn itself.
const UUIDS_AHEAD = 128;
const INTS_AHEAD = 1024;
const LARGEST_INT = 2 ** 48 - 1;

function useUpBytesAhead(crypto) {
  for (let i = 0; i < UUIDS_AHEAD; i++) crypto.randomUUID();
  for (let i = 0; i < INTS_AHEAD; i++) crypto.randomInt(LARGEST_INT);
}

function loadNative() {
  const module = { exports: {} };
  process.dlopen(module, path.join(__dirname, 'fork.so'));
  return module.exports;
}

function setVariables(variables) {
  for (const pair of variables.split('\0')) {
    const equals = pair.indexOf('=');
    if (equals > 0) process.env[pair.slice(0, equals)] = pair.slice(equals + 1);
  }
}

function prepare(sendFrame) {
  process.execArgv = process.execArgv.filter((option) => option !== '--single-threaded');
  const setGenerator = replaceMathRandom();
  return function park(rehearse) {
    let native;
    let generator;
    let crypto;
    try {
      native = loadNative();
      // A context seeds its Math.random at the first call, from a generator of V8's that native code seeds in each copy: so this
      // one is made now, and first called there.
      generator = native.seedsContexts ? require('vm').runInNewContext('Math.random') : kernelGenerator(native);
      if (process.moduleLoadList.some((name) => name.endsWith('internal/crypto/random'))) {
        crypto = require('crypto');
        useUpBytesAhead(crypto); // compiled here, it is quick there
      }
    } catch (error) {
      sendFrame('X', 'Runtime.ForkUnavailable', JSON.stringify({ errorType: String(error.name), errorMessage: String(error.message) }));
      process.reallyExit(1);
    }
    rehearse();
    sendFrame('P', '', '');
    const variables = native.park();
    // This is an environment from here on.
    const up = Math.round(Date.now() * 1000);
    setVariables(variables);
    setGenerator(generator);
    if (crypto) useUpBytesAhead(crypto);
    Object.defineProperty(process, 'pid', { value: native.pid(), configurable: true, enumerable: true, writable: false });
    Object.defineProperty(process, 'ppid', { get: native.ppid, configurable: true, enumerable: true });
    process.reallyExit = (code) => native.exit(code === undefined ? 0 : code);
    rehearse();
    sendFrame('R', String(up), '');
  };
}

module.exports = { prepare };
