// Runs a Node.js function inside an execution environment. Speaks frames with the host on descriptor 3 and behaves
// towards the function as AWS's runtime client does. Works on Node.js 14 and later.
//
// It loads no built-in module that Node.js has not loaded at its start: net alone would make a start a sixth longer.
'use strict';

const fs = require('fs');
const path = require('path');
const util = require('util');

const CHANNEL = 3;
const HEADER = 9;
const PARK = 'P'.charCodeAt(0);
const BUFFER_SIZE = 64 * 1024;
const FRAME_MAGIC = 0xa55a0003;
const EXIT_UNHANDLED_REJECTION = 128;
const EXIT_UNCAUGHT_EXCEPTION = 129;
const EXIT_UNSETTLED_AWAIT = 13;
const LARGEST_PROFILE = 1024 * 1024;
const PROFILE = path.join(__dirname, 'profile.js');

const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId');
const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');
const major = parseInt(process.versions.node, 10);

// --- Writing ------------------------------------------------------------------------------------------------------

const pause = new Int32Array(new SharedArrayBuffer(4));

// Writes all of data before it returns, also to a descriptor that does not block.
function writeAll(fd, data) {
  for (let done = 0; done < data.length; ) {
    try {
      done += fs.writeSync(fd, data, done, data.length - done);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
      Atomics.wait(pause, 0, 0, 0.1);
    }
  }
}

function sendFrame(type, meta, body) {
  const size = Math.min(Buffer.byteLength(body), 0xffffffff);
  const metaSize = Buffer.byteLength(meta);
  const small = typeof body === 'string' || size < BUFFER_SIZE;
  const frame = Buffer.allocUnsafe(HEADER + metaSize + (small ? size : 0));
  frame[0] = type.charCodeAt(0);
  frame.writeUInt32BE(metaSize, 1);
  frame.writeUInt32BE(size, 5);
  frame.write(meta, HEADER);
  if (typeof body === 'string') {
    frame.write(body, HEADER + metaSize);
  } else if (small) {
    frame.set(body, HEADER + metaSize);
  }
  if (rehearsing) return;
  writeAll(CHANNEL, frame);
  if (!small) writeAll(CHANNEL, body.subarray(0, size));
}

// --- Logs ---------------------------------------------------------------------------------------------------------

// Whether the function's log is to consist of JSON objects (LoggingConfig's LogFormat).
const jsonLog = (process.env.AWS_LAMBDA_LOG_FORMAT || '').toUpperCase() === 'JSON';

// AWS's shape of an error within a message.
function shape(_, value) {
  if (!(value instanceof Error)) return value;
  const errorType = (value.constructor && value.constructor.name) || 'UnknownError';
  const stackTrace = typeof value.stack === 'string' ? stackOf(value) : [];
  return { errorType, errorMessage: value.message, stackTrace, ...value };
}

// One message as AWS writes it in JSON: a single value as it is, several as text with the first error's members.
function jsonText(now, level, args) {
  const line = { timestamp: now.toISOString(), level, requestId: global[REQUEST_ID] };
  if (args.length === 1) {
    line.message = args[0];
    try {
      return JSON.stringify(line, shape);
    } catch (_) {
      line.message = util.format(args[0]); // a circle, or a BigInt
      return JSON.stringify(line);
    }
  }
  line.message = util.format(...args);
  const error = args.find((arg) => arg instanceof Error);
  if (error) {
    const { errorType, errorMessage, stackTrace } = shape('', error);
    Object.assign(line, { errorType, errorMessage, stackTrace });
  }
  return JSON.stringify(line);
}

function log(level, args) {
  const now = new Date();
  const text = jsonLog
    ? `${jsonText(now, level, args)}\n`
    : `${now.toISOString()}\t${global[REQUEST_ID]}\t${level}\t${util.format(...args)}\n`;
  const size = Buffer.byteLength(text);
  const frame = Buffer.allocUnsafe(16 + size);
  frame.writeUInt32BE(FRAME_MAGIC, 0);
  frame.writeUInt32BE(size, 4);
  frame.writeBigUInt64BE(BigInt(now.getTime()) * 1000n, 8);
  frame.write(text, 16);
  writeAll(1, frame);
}

function replaceConsole() {
  const levels = { trace: 'TRACE', debug: 'DEBUG', info: 'INFO', log: 'INFO', warn: 'WARN', error: 'ERROR', fatal: 'FATAL' };
  const order = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];
  const least = jsonLog ? order.indexOf(process.env.AWS_LAMBDA_LOG_LEVEL) : 0;
  for (const name of Object.keys(levels)) {
    console[name] = order.indexOf(levels[name]) < least ? () => {} : (...args) => log(levels[name], args);
  }
}

// --- Errors -------------------------------------------------------------------------------------------------------

// An error with one of AWS's Runtime. types as its name.
function fault(name, message, cause) {
  const error = new Error(message);
  Object.defineProperty(error, 'name', { value: `Runtime.${name}` });
  error.stack = cause && cause.stack ? cause.stack : error.stack.replace(/^Error/, error.name);
  return error;
}

// The lines of an error's stack, without what measures init.
function stackOf(error) {
  return error.stack.split('\n').filter((line) => !line.includes(PROFILE));
}

// The error object that the caller gets.
function describe(error) {
  try {
    if (util.types.isNativeError(error) || (error && error.name && error.message && error.stack)) {
      return { errorType: error.name, errorMessage: error.message, trace: stackOf(error) };
    }
    return { errorType: typeof error, errorMessage: error.toString(), trace: [] };
  } catch (_) {
    return {
      errorType: 'handled',
      errorMessage:
        'callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack',
    };
  }
}

function logError(title, error) {
  const shown = error instanceof Error ? error : new Error(error);
  if (jsonLog) {
    console.error(shown);
    return;
  }
  let text;
  try {
    text = JSON.stringify(shown, (_, value) => {
      if (!(value instanceof Error)) return value;
      const whole = { errorType: value.name, errorMessage: value.message, code: value.code, ...value };
      if (typeof value.stack === 'string') whole.stack = stackOf(value);
      return whole;
    });
  } catch (_) {
    text = JSON.stringify(describe(shown));
  }
  console.error(title, `\t${text}`);
}

function sendError(type, error) {
  const description = describe(error);
  sendFrame(type, String(description.errorType), JSON.stringify(description));
}

// --- Channel ------------------------------------------------------------------------------------------------------

const buffer = Buffer.allocUnsafeSlow(BUFFER_SIZE);

function readMore(target, at) {
  for (;;) {
    let count;
    try {
      count = fs.readSync(CHANNEL, target, at, target.length - at, null);
    } catch (error) {
      if (error.code !== 'EAGAIN') process.reallyExit(0); // the host has gone
      Atomics.wait(pause, 0, 0, 0.1);
      continue;
    }
    if (count === 0) process.reallyExit(0);
    return at + count;
  }
}

// Waits for the next frame: its type, meta fields and body. Nothing else of the process runs meanwhile, as on AWS, where the environment is frozen
// between two invocations: timers and sockets go on with the next one.
function nextFrame() {
  let frame = buffer;
  let have = 0;
  while (have < HEADER) have = readMore(frame, have);
  const metaEnd = HEADER + frame.readUInt32BE(1);
  const end = metaEnd + frame.readUInt32BE(5);
  if (end > frame.length) {
    frame = Buffer.allocUnsafe(end);
    buffer.copy(frame, 0, 0, have);
  }
  while (have < end) have = readMore(frame, have);
  return [frame[0], frame.utf8Slice(HEADER, metaEnd).split('\0'), frame.utf8Slice(metaEnd, end)];
}

// --- Handler ------------------------------------------------------------------------------------------------------

function isModuleFolder(folder) {
  for (;;) {
    if (folder.endsWith('/node_modules')) return false;
    const file = path.join(folder, 'package.json');
    if (fs.existsSync(file)) {
      try {
        return JSON.parse(fs.readFileSync(file)).type === 'module';
      } catch (error) {
        console.warn(`${file} cannot be read, it will be ignored for ES module detection purposes.`, error);
        return false;
      }
    }
    if (folder === '/') return false;
    folder = path.dirname(folder);
  }
}

// The module's file is looked for in the order of AWS's runtimes; each entry is an extension and how it is loaded.
async function loadModule(root, folder, name) {
  const base = path.resolve(root, folder, name);
  const esm = isModuleFolder(path.dirname(base));
  const typescript = major >= 24;
  const ways = [
    ['', 'require'],
    ['.js', esm ? 'import' : 'require'],
    ['.mjs', 'import'],
    ['.cjs', 'require'],
  ];
  if (typescript) ways.push(['.ts', esm ? 'import' : 'require'], ['.mts', 'import'], ['.cts', 'require']);
  for (const [extension, way] of ways) {
    const file = base + extension;
    if (!fs.existsSync(file)) continue;
    if (extension === '' && fs.statSync(file).isDirectory() && !hasEntry(file)) continue;
    if (way === 'require') return require(file);
    return profile ? profile.importModule(file, () => import(file)) : import(file);
  }
  return require(require.resolve(name, { paths: [root, path.resolve(root, folder)] }));
}

function hasEntry(folder) {
  return ['package.json', 'index.js', 'index.json', 'index.node'].some((name) => fs.existsSync(path.join(folder, name)));
}

async function loadHandler(root, full) {
  if (full.includes('..')) {
    throw fault(
      'MalformedHandlerName',
      `'${full}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`,
    );
  }
  const base = path.basename(full);
  const folder = full.substring(0, full.indexOf(base));
  const dot = base.indexOf('.');
  if (dot < 0) throw fault('MalformedHandlerName', 'Bad handler');
  let handler;
  try {
    handler = await loadModule(root, folder, base.slice(0, dot));
  } catch (error) {
    if (error instanceof SyntaxError) throw fault('UserCodeSyntaxError', String(error), error);
    if (error && error.code === 'MODULE_NOT_FOUND') throw fault('ImportModuleError', String(error));
    throw error;
  }
  for (const name of base.slice(dot + 1).split('.')) {
    handler = handler && handler[name];
  }
  if (!handler) throw fault('HandlerNotFound', `${full} is undefined or not exported`);
  if (typeof handler !== 'function') throw fault('HandlerNotFound', `${full} is not a function`);
  if (handler[STREAMING] && handler[STREAMING] !== 'response') {
    throw fault('MalformedStreamingHandler', 'Only response streaming is supported.');
  }
  if (major >= 24 && handler.length >= 3 && !handler[STREAMING]) {
    throw fault(
      'CallbackHandlerDeprecated',
      'ERROR: AWS Lambda has removed support for callback-based function handlers starting with Node.js 24. You need to modify this function to use a supported handler signature to use Node.js 24 or later. For more information see https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html.',
    );
  }
  return handler;
}

function provideGlobals() {
  const off = process.env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA;
  if (off === '1' || off === 'true') return;
  globalThis.awslambda = {
    streamifyResponse(handler, options) {
      handler[STREAMING] = 'response';
      if (options && typeof options.highWaterMark === 'number') handler[HIGH_WATER_MARK] = options.highWaterMark;
      return handler;
    },
    HttpResponseStream: class HttpResponseStream {
      static from(stream, prelude) {
        stream.setContentType('application/vnd.awslambda.http-integration-response');
        const metadata = JSON.stringify(prelude);
        stream._onBeforeFirstWrite = (write) => {
          write(metadata);
          write(new Uint8Array(8));
        };
        return stream;
      }
    },
  };
}

// --- Invocations --------------------------------------------------------------------------------------------------

let traceId = process.env._X_AMZN_TRACE_ID;
let initialising = true;
let profile = null; // what measures init
let up = 0; // when the loading of the function's code began, microseconds
let invoking = false;
let rehearsing = false; // an invocation goes on that neither host nor function know of
let whenLoopIsEmpty = null; // what to do when nothing could wake the process any more
let serveNext;
let fixed; // what is the same in the contexts of all invocations

function finish(send) {
  invoking = false;
  whenLoopIsEmpty = null;
  send();
  if (!rehearsing) setImmediate(serveNext); // after what is ready to run now
}

function succeed(result) {
  let text;
  try {
    text = JSON.stringify(result === undefined ? null : result);
  } catch (_) {
    const message = 'Unable to stringify response body';
    fail(major >= 24 ? fault('JSONStringifyError', message) : new Error(message));
    return;
  }
  finish(() => sendFrame('S', '', text === undefined ? 'null' : text));
}

function fail(error) {
  logError('Invoke Error', error);
  finish(() => sendError('F', error));
}

function parseField(text, name) {
  if (!text) return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`Cannot parse ${name} as json: ${error}`);
  }
}

function makeContext(meta, own) {
  const deadline = Number(meta[1]);
  return Object.assign(own, fixed, {
    clientContext: parseField(meta[4], 'ClientContext'),
    identity: parseField(meta[5], 'CognitoIdentity'),
    invokedFunctionArn: meta[2],
    awsRequestId: meta[0],
    tenantId: undefined,
    getRemainingTimeInMillis: () => deadline - Date.now(),
  });
}

function readEnvironment() {
  fixed = {
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
  };
}

function begin(meta) {
  invoking = true;
  global[REQUEST_ID] = meta[0];
  if (meta[3] !== traceId) {
    traceId = meta[3];
    if (traceId) process.env._X_AMZN_TRACE_ID = traceId;
    else delete process.env._X_AMZN_TRACE_ID;
  }
}

function isPromise(value) {
  return value && typeof value.then === 'function';
}

function runBuffered(handler, meta, body) {
  begin(meta);
  let finished = false;
  const once = (action) => (...args) => {
    if (finished) return;
    finished = true;
    action(...args);
  };
  const isError = (error) => error !== undefined && error !== null;
  let waits = true;
  const done = once((error, result) => (isError(error) ? fail(error) : succeed(result)));
  const callback = once((error, result) => {
    if (isError(error)) fail(error);
    else if (!waits) succeed(result);
    else whenLoopIsEmpty = () => succeed(result);
  });
  const own = {
    get callbackWaitsForEmptyEventLoop() {
      return waits;
    },
    set callbackWaitsForEmptyEventLoop(value) {
      waits = value;
    },
    succeed: (result) => done(null, result),
    fail: (error) => done(isError(error) ? error : 'handled'),
    done,
  };
  whenLoopIsEmpty = () => {
    finished = true;
    if (handler.constructor && handler.constructor.name === 'AsyncFunction') {
      fail(
        fault(
          'NodeJsExit',
          'The Lambda runtime client detected an unexpected Node.js exit code. This is most commonly caused by a Promise that was never settled. For more information, see https://nodejs.org/docs/latest/api/process.html#exit-codes',
        ),
      );
    } else {
      succeed(null);
    }
  };
  try {
    const result = handler(JSON.parse(body), makeContext(meta, own), callback);
    if (isPromise(result)) result.then(own.succeed, own.fail);
  } catch (error) {
    callback(isError(error) ? error : 'handled');
  }
}

// An invocation without a function. What it runs is compiled in the template, and a fork writes here to the memory that it then has
// for itself, before a request waits.
function rehearse() {
  const id = global[REQUEST_ID];
  rehearsing = true;
  runBuffered((event, context) => context.succeed(event), ['', '0', '', traceId, '', ''], '{"":[0,""]}');
  rehearsing = false;
  global[REQUEST_ID] = id;
}

// Collects a streamed response, which goes to the host as a whole once it has ended.
function collector(highWaterMark) {
  const { Writable } = require('stream');
  const chunks = [];
  const stream = new Writable({
    highWaterMark,
    write(chunk, _, next) {
      chunks.push(chunk);
      next();
    },
  });
  const write = stream.write.bind(stream);
  let started = false;
  stream.write = (chunk, ...rest) => {
    if (!started && typeof stream._onBeforeFirstWrite === 'function') stream._onBeforeFirstWrite((first) => write(first));
    started = true;
    if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) chunk = JSON.stringify(chunk);
    return write(chunk, ...rest);
  };
  const end = stream.end.bind(stream);
  stream.end = (chunk, ...rest) => {
    if (chunk === undefined || chunk === null || typeof chunk === 'function') return end(chunk, ...rest);
    stream.write(chunk);
    return end(...rest.filter((argument) => typeof argument === 'function'));
  };
  stream.setContentType = () => {
    if (started) throw fault('InvalidStreamingOperation', 'Cannot set content-type, too late.');
  };
  return [stream, chunks];
}

async function runStreaming(handler, meta, body) {
  begin(meta);
  const [stream, chunks] = collector(handler[HIGH_WATER_MARK]);
  const ended = new Promise((resolve, reject) => stream.on('finish', resolve).on('error', reject));
  ended.catch(() => {});
  whenLoopIsEmpty = () => fail('Response stream is not finished.');
  try {
    const context = makeContext(meta, { callbackWaitsForEmptyEventLoop: true });
    const result = handler(JSON.parse(body), stream, context);
    if (!isPromise(result)) throw 'Streaming does not support non-async handlers.';
    if ((await result) !== undefined) console.warn('Streaming handlers ignore return values.');
    await ended;
    if (invoking) finish(() => sendFrame('S', '', Buffer.concat(chunks)));
  } catch (error) {
    if (invoking) fail(error);
  }
}

// --- Process ------------------------------------------------------------------------------------------------------

// Ends the process because of an error that nothing caught, telling the host if it waits for something.
function die(title, error, status) {
  if (initialising) endProfile();
  logError(title, error);
  if (initialising) sendError('X', error);
  else if (invoking) sendError('D', error);
  process.exit(status);
}

// What measures init. It is not looked for as modules are, which takes as long as to compile it, and is not in require.cache.
function loadProfile() {
  const part = new module.constructor(PROFILE);
  part.filename = PROFILE;
  part._compile(fs.readFileSync(PROFILE, 'utf8'), PROFILE);
  return part.exports;
}

// Tells the host what init spent its time on, if it has been measured.
function endProfile() {
  if (!profile) return;
  let body = '';
  try {
    const told = profile.end();
    if (Buffer.byteLength(told) <= LARGEST_PROFILE) body = told;
  } catch (_) {
    // No profile, then.
  }
  profile = null;
  sendFrame('T', String(up), body);
}

function watchProcess() {
  process.on('uncaughtException', (error) => die('Uncaught Exception', error, EXIT_UNCAUGHT_EXCEPTION));
  process.on('unhandledRejection', (reason, promise) => {
    const error = Object.assign(fault('UnhandledPromiseRejection', String(reason)), { reason, promise });
    die('Unhandled Promise Rejection', error, EXIT_UNHANDLED_REJECTION);
  });
  process.on('beforeExit', () => {
    if (initialising) process.exit(EXIT_UNSETTLED_AWAIT);
    const action = whenLoopIsEmpty;
    whenLoopIsEmpty = null;
    if (action) action();
  });
}

async function main() {
  const options = process.argv.splice(2);
  const park = options.includes('--template') ? require(path.join(__dirname, 'park.js')).prepare(sendFrame) : null;
  if (options.includes('--profile')) profile = loadProfile();
  replaceConsole();
  watchProcess();
  provideGlobals();
  up = Math.round((performance.timeOrigin + performance.now()) * 1000);
  if (profile) profile.begin();
  let handler;
  try {
    handler = await loadHandler(process.env.LAMBDA_TASK_ROOT || '/var/task', process.env._HANDLER || '');
  } catch (error) {
    die('Uncaught Exception', error, EXIT_UNCAUGHT_EXCEPTION);
  }
  initialising = false;
  endProfile();
  sendFrame('R', String(up), '');
  const run = handler[STREAMING] ? runStreaming : runBuffered;
  serveNext = () => {
    for (;;) {
      const [type, meta, body] = nextFrame();
      if (type !== PARK) {
        run(handler, meta, body);
        return;
      }
      if (park) park(rehearse);
      else sendFrame('X', 'Runtime.ForkUnavailable', JSON.stringify({ errorType: 'Error', errorMessage: 'not started as a template' }));
      readEnvironment();
    }
  };
  readEnvironment();
  setImmediate(serveNext);
}

main();
