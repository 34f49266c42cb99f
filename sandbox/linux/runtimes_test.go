package linux

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"thaw/sandbox"
)

// Each interpreter does what a filter that is too tight breaks: threads, child processes, sockets, timers, its JIT.
func TestInterpretersWork(t *testing.T) {
	needRoot(t)
	d := open(t)
	code := t.TempDir()
	if err := os.WriteFile(filepath.Join(code, "Main.java"), []byte(mainJava), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, bin, want string
		args            []string
	}{
		{"python", "python3", "4 3 b'sub' 127.0.0.1", []string{"-c", `
import asyncio, multiprocessing, socket, ssl, sqlite3, subprocess, threading, uuid, tempfile, concurrent.futures
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); c = socket.create_connection(s.getsockname())
with concurrent.futures.ThreadPoolExecutor(4) as ex: four = sum(ex.map(lambda x: 1, range(4)))
q = multiprocessing.Queue(); p = multiprocessing.Process(target=q.put, args=(3,)); p.start(); three = q.get(); p.join()
async def f():
    p = await asyncio.create_subprocess_exec('/bin/echo', 'x', stdout=asyncio.subprocess.PIPE); return await p.communicate()
asyncio.run(f())
sqlite3.connect(tempfile.mktemp()).execute('create table t(x)')
ssl.create_default_context()
print(four, three, subprocess.run(['/bin/sh', '-c', 'printf sub'], capture_output=True).stdout, c.getpeername()[0])`}},
		{"node", "node", "ok 3 42 sub", []string{"-e", `
const {Worker} = require('worker_threads'), cp = require('child_process'), net = require('net'), zlib = require('zlib'), fs = require('fs'), crypto = require('crypto');
const http = require('http').createServer((q, r) => r.end('ok')).listen(0, '127.0.0.1', async () => {
  const body = await (await fetch('http://127.0.0.1:' + http.address().port)).text();
  const w = await new Promise(r => new Worker('require("worker_threads").parentPort.postMessage(3)', {eval: true}).on('message', r));
  fs.writeFileSync('/tmp/x', zlib.gzipSync('42')); crypto.pbkdf2Sync('a', 'b', 10, 10, 'sha512');
  console.log(body, w, zlib.gunzipSync(fs.readFileSync('/tmp/x')).toString(), cp.execSync('printf sub').toString());
  process.exit(0);
})`}},
		{"ruby", "ruby", "7 sub ok", []string{"-e", `
require 'socket'; require 'json'; require 'openssl'; require 'securerandom'
s = TCPServer.new('127.0.0.1', 0); c = TCPSocket.new('127.0.0.1', s.addr[1]); a = s.accept; a.write('ok'); a.close
r, w = IO.pipe; pid = fork { w.write('x'); exit!(7) }; Process.wait(pid)
puts [$?.exitstatus, ` + "`printf sub`" + `, Thread.new { c.read }.value].join(' ')`}},
		{"java", "java", "ok 4", []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "/var/task/Main.java"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := &sandbox.Spec{Args: append([]string{interpreter(t, c.bin)}, c.args...), Env: []string{"PATH=/usr/bin:/bin", "HOME=/tmp"},
				Dir: "/tmp", MemoryMB: 512, TmpMB: 64, Mounts: []sandbox.Mount{{Source: code, Target: "/var/task"}}}
			out, exit := outcome(t, d, spec)
			if exit != (sandbox.ExitStatus{}) || strings.TrimSpace(out) != c.want {
				t.Errorf("exit %+v: %s", exit, out)
			}
		})
	}
}

const mainJava = `
import java.net.*;
import java.util.concurrent.*;
public class Main {
  public static void main(String[] a) throws Exception {
    ServerSocket s = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
    Socket c = new Socket(s.getInetAddress(), s.getLocalPort());
    s.accept().getOutputStream().write(4);
    new ProcessBuilder("/bin/true").start().waitFor();
    var pool = Executors.newFixedThreadPool(2);
    System.out.println(pool.submit(() -> "ok").get() + " " + c.getInputStream().read());
    pool.shutdown();
  }
}`

// interpreter finds one below /usr, which every sandbox has.
func interpreter(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range []string{"/usr/bin", "/usr/local/bin"} {
		if p := filepath.Join(dir, name); exec.Command(p, "--version").Run() == nil || exec.Command(p, "-version").Run() == nil {
			return p
		}
	}
	t.Skipf("%s is not installed below /usr", name)
	return ""
}

func TestInterpreterOutsideUsr(t *testing.T) {
	needRoot(t)
	d := open(t)
	found, _ := filepath.Glob(filepath.Join(os.Getenv("HOME"), ".pyenv/versions/3.*/bin/python3"))
	if len(found) == 0 {
		t.Skip("no interpreter outside /usr")
	}
	prefix := filepath.Dir(filepath.Dir(found[0]))
	spec := python("import os, sys; print(sys.prefix, os.listdir('/root'), os.path.exists('/root/.bashrc'))")
	spec.Args[0] = found[0]
	spec.Mounts = []sandbox.Mount{{Source: prefix, Target: prefix}}
	out, exit := outcome(t, d, spec)
	if want := prefix + " ['.pyenv'] False\n"; out != want || exit != (sandbox.ExitStatus{}) {
		t.Errorf("exit %+v: %s, want %s", exit, out, want)
	}
	if st, err := os.Stat(d.rootfs.dir + "/root"); err != nil || st.Mode().Perm() != 0o755 {
		t.Error(st, err)
	}
}
