// What a node (18 or newer) of a sandbox runs.
//
// It speaks the frames of internal/guest at descriptor 3 with the first
// process of the sandbox (interpret.go), which carries them to the router and
// back: Ready once, then for each Call the Value of the last expression, or a
// Failure, and Done. What the code prints goes to descriptors 1 and 2.
//
// Started as `node runner MODULE...`: the modules are required before the
// guest is ready. The argument "code" runs as a script in the global scope,
// which later calls of a session share; if it awaits at its top level it runs
// as the body of an async function, and its variables are its own. A call is
// over when node would end: nothing is pending any more. A last value that is
// a promise is awaited.
//
// The code shares this process and may do anything to it: this is no boundary.
// The walls are around the process.
'use strict';
const fs = require('fs');
const path = require('path');
const util = require('util');
const vm = require('vm');
const { createRequire } = require('module');
const { Writable } = require('stream');

const PIPE = 3;
const MAX_REPLY = 1 << 20; // bytes of a frame's body
const MAX_FAILURE = 64 << 10;
const { readSync, writeSync } = fs;
const exit = process.reallyExit.bind(process);
const pause = new Int32Array(new SharedArrayBuffer(4));

function writeAll(fd, data) {
  for (let at = 0; at < data.length;) {
    try {
      at += writeSync(fd, data, at);
    } catch (e) {
      // A child may have made the pipe that it shares with us non-blocking.
      if (e.code !== 'EAGAIN') throw e;
      Atomics.wait(pause, 0, 0, 1);
    }
  }
}

function send(kind, call, body = Buffer.alloc(0)) {
  const head = Buffer.alloc(9);
  head.write(kind, 'latin1');
  head.writeUInt32BE(call, 1);
  head.writeUInt32BE(body.length, 5);
  try {
    writeAll(PIPE, Buffer.concat([head, body]));
  } catch (e) { // the code closed it
    try { writeAll(2, Buffer.from(`casemate: descriptor ${PIPE}: ${e.message}\n`)); } catch {}
    exit(1);
  }
}

function receive(n) {
  const data = Buffer.allocUnsafe(n);
  for (let at = 0; at < n;) {
    const got = readSync(PIPE, data, at, n - at, null);
    if (got === 0) exit(0); // the sandbox ends
    at += got;
  }
  return data;
}

// argument returns the argument of that name of a Call's pairs, or undefined.
function argument(body, name) {
  let at = 2;
  for (let left = body.readUInt16BE(0); left > 0; left--) {
    let n = body.readUInt16BE(at);
    const key = body.toString('utf8', at + 2, at + 2 + n);
    at += 2 + n;
    n = body.readUInt32BE(at);
    if (key === name) return body.toString('utf8', at + 4, at + 4 + n);
    at += 4 + n;
  }
  return undefined;
}

// output is process.stdout or stderr, written at once and in order: a full
// pipe makes the code wait, and nothing is lost when it ends the process.
function output(fd) {
  const s = new Writable({
    autoDestroy: false, emitClose: false,
    write(chunk, encoding, done) {
      try {
        writeAll(fd, chunk);
      } catch (e) {
        if (e.code === 'EPIPE') exit(1); // nobody is there any more
      } // else the code closed it, and what it prints is lost
      done();
    },
    destroy(e, done) { done(e); },
  });
  s.fd = fd;
  s._type = 'pipe';
  return s;
}

// explain is the text of a failure, without the runner's own frames.
function explain(e) {
  let text;
  try {
    text = util.types.isNativeError(e) ? util.inspect(e) : 'Uncaught ' + util.inspect(e);
  } catch {
    text = 'an error that cannot be shown';
  }
  text = text.split('\n').filter((l) => !/^\s+at .*(node:internal|node:vm)/.test(l) && !(/^\s+at /.test(l) && l.includes(__filename))).join('\n');
  return text.length > MAX_FAILURE / 4 ? text.slice(0, MAX_FAILURE / 8) + '\n[...]\n' + text.slice(-MAX_FAILURE / 8) : text;
}

const modules = vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER ?? ((name) => import(name));

function parsed(code, filename, columnOffset = 0) {
  return new vm.Script(code, { filename, columnOffset, importModuleDynamically: modules });
}

function parses(code) {
  try { new vm.Script(code); return true; } catch { return false; }
}

// script makes the script of code, and if that is no script but the body of
// an async function, then that. Its value is what it returns; where its last
// statement stands on the last line and is an expression, that is returned.
// A last line that could go on the statement before it is left alone.
function script(code, filename) {
  const open = '(async () => {', close = '\n})()';
  // "await (x)" is a script too, one that calls a function named await; in a
  // static block that name is not allowed outside of async functions.
  const awaits = /\bawait\b/.test(code) && !parses(`class X { static {${code}\n} }`) && parses(open + code + close);
  try {
    if (!awaits) return parsed(code, filename);
  } catch (e) {
    if (!parses(open + code + close)) throw e; // else it has a return
  }
  const body = code.trimEnd().replace(/;$/, '');
  const cuts = [body.lastIndexOf('\n') + 1];
  for (let i = cuts[0]; (i = body.indexOf(';', i) + 1) > 0;) cuts.push(i);
  for (const cut of cuts.slice(0, 100)) {
    const before = body.slice(0, cut), last = body.slice(cut);
    const apart = /(^|;)\s*$/.test(before) || /^\s*[^\s[(`+\-*\/.,?:%&|^<>=]/.test(last);
    const whole = `${open}${before}return (${last}\n)${close}`;
    if (apart && parses(open + before + close) && parses(`${open}return (${last}\n)${close}`) && parses(whole)) return parsed(whole, filename, -open.length);
  }
  return parsed(open + code + close, filename, -open.length);
}

let calls = 0;
let call = null; // the number of the call in progress
let settled = false; // its code has run to its end
let value; // of its last expression
let wrong; // text of a failed preload

function begin() {
  const head = receive(9);
  const body = receive(head.readUInt32BE(5));
  call = head.readUInt32BE(1);
  calls++;
  settled = false;
  value = undefined;
  process.exitCode = undefined;
  const code = argument(body, 'code');
  if (wrong !== undefined) return finish(1, wrong);
  if (code === undefined) return finish(2, 'the argument code is missing');
  const mine = call;
  run(code, calls === 1 ? '<code>' : `<code ${calls}>`).then((v) => {
    if (call !== mine) return;
    settled = true;
    value = v;
  }).catch((e) => {
    if (call === mine) finish(1, explain(e));
  });
}

async function run(code, name) {
  return script(code, name).runInThisContext();
}

function show(n) {
  const data = Buffer.from(util.inspect(value));
  if (data.length <= MAX_REPLY) send('V', n, data);
  else writeAll(1, Buffer.concat([data, Buffer.from('\n')])); // printed, and so counted, as output is
}

function finish(status, failure) {
  const n = call;
  call = null;
  if (failure === undefined && value !== undefined) {
    try {
      show(n);
    } catch (e) { // its own inspection failed
      [status, failure] = [1, explain(e)];
    }
  }
  if (failure !== undefined) send('X', n, Buffer.from(failure));
  const body = Buffer.alloc(4);
  body.writeUInt32BE(status & 0xff);
  send('D', n, body);
  setImmediate(begin);
}

function start() {
  const preload = process.argv.slice(2);
  process.argv = [process.execPath, ''];
  for (const [name, fd] of [['stdout', 1], ['stderr', 2]]) {
    Object.defineProperty(process, name, { value: output(fd), configurable: true, enumerable: true, writable: true });
  }
  const require = createRequire(path.join(process.cwd(), 'code.js'));
  const module = { exports: {} };
  Object.assign(globalThis, { require, module, exports: module.exports });
  for (const m of preload) {
    try {
      require(m);
    } catch (e) {
      wrong = `preload: the module ${m} cannot be required: ${e && e.message}`;
      break;
    }
  }
  process.on('uncaughtException', (e) => {
    if (call !== null) finish(1, explain(e));
  });
  process.on('beforeExit', () => {
    if (call === null) return;
    if (settled) finish(process.exitCode ?? 0);
    else finish(13, 'the code awaits a promise that nothing will settle');
  });
  const pairs = [Buffer.from([0, 2])];
  for (const [k, v] of [['version', '1'], ['runtime', 'Node ' + process.versions.node]]) {
    const n = Buffer.alloc(6);
    n.writeUInt16BE(k.length);
    n.writeUInt32BE(v.length, 2);
    pairs.push(n.subarray(0, 2), Buffer.from(k), n.subarray(2), Buffer.from(v));
  }
  send('R', 0, Buffer.concat(pairs));
  begin();
}

start();
