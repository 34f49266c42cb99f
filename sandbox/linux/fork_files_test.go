package linux

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// What init leaves in /tmp to whoever copies it with privilege: the copy has what a function can use, and nothing else is read.
func TestCopiesOfHostileFolders(t *testing.T) {
	needRoot(t)
	d := open(t)
	f := hello("python3.11", "")
	f.files["app.py"] = `
import os, socket, stat
os.chdir('/tmp')
os.symlink('/etc/shadow', 'shadow'); os.symlink('/proc/self/root', 'root'); os.symlink('.', 'loop'); os.symlink('../../../../..', 'up')
os.mkfifo('fifo'); socket.socket(socket.AF_UNIX).bind('socket')
with open('sparse', 'wb') as s: s.truncate(100 << 30); s.seek(50 << 30); s.write(b'middle')
with open('big', 'wb') as b: b.write(b'b' * (20 << 20))
for i in range(200): os.link('big', 'link%d' % i)
os.mkdir(b'\xff\n'); open(b'\xff\n/\xfe', 'w').write('x'); open('new\nline', 'w').close()
open('program', 'w').close(); os.chmod('program', 0o6755)
os.mkdir('closed'); open('closed/in', 'w').write('x'); os.chmod('closed/in', 0); os.chmod('closed', 0)
for i in range(3000): open('many%d' % i, 'w').close()
os.makedirs('deep/' + '/'.join('d' * 100)); os.utime('deep', (1, 1))
def handler(event, context):
    os.chdir('/tmp')
    with open('sparse', 'rb') as s: s.seek(50 << 30); middle = s.read(6).decode()
    os.chmod('closed', 0o700); os.chmod('closed/in', 0o600)
    st = os.stat('sparse')
    return dict(links=[os.readlink(n) for n in ('shadow', 'root', 'loop', 'up')], gone=[os.path.lexists(n) for n in ('fifo', 'socket')], middle=middle, size=st.st_size, holes=st.st_blocks < 1000,
        big=os.path.getsize('link199'), nlink=os.stat('big').st_nlink, odd=open(b'\xff\n/\xfe').read(), line=os.path.exists('new\nline'), mode=oct(os.stat('program').st_mode), owner=os.stat('program').st_uid,
        suid=bool(os.statvfs('/tmp').f_flag & os.ST_NOSUID), closed=open('closed/in').read(), many=len([n for n in os.listdir('.') if n.startswith('many')]),
        deep=os.path.isdir('deep/' + '/'.join('d' * 100)), time=os.stat('deep').st_mtime)
`
	var got map[string]any
	if err := json.Unmarshal([]byte(mustFork(t, park(t, d, specOf(t, f))).invoke(t, "1")), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"links": []any{"/etc/shadow", "/proc/self/root", ".", "../../../../.."}, "gone": []any{false, false}, "middle": "middle", "size": float64(100 << 30), "holes": true,
		"big": float64(20 << 20), "nlink": 201.0, "odd": "x", "line": true, "mode": "0o106755", "owner": 993.0, "suid": true, "closed": "x", "many": 3000.0, "deep": true, "time": 1.0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What cannot be copied fails the fork at its step, and leaves nothing.
func TestFoldersThatCannotBeCopied(t *testing.T) {
	needRoot(t)
	d := open(t)
	p := park(t, d, specOf(t, hello("python3.11", "import os\nos.chdir('/tmp')\nfor _ in range(3000):\n    os.mkdir('d'); os.chdir('d')\nos.chdir('/')")))
	before := steady(t, d)
	for range 2 {
		_, err := forkOne(within(t), p)
		if got, want := fmt.Sprint(err), "sandbox: fork: files: copy what init left in /tmp: folders are nested deeper than 128"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	settled(t, d, before)
}

// A template that goes on to change its /tmp while it is copied leads the copier nowhere, and does not hold it up.
func TestFoldersThatChangeWhileTheyAreCopied(t *testing.T) {
	needRoot(t)
	d := open(t)
	p := initialise(t, d, specOf(t, hello("python3.11", `
import ctypes, os, threading
libc = ctypes.CDLL(None)
os.chdir('/tmp')
open('file', 'w').write('x' * 100); os.mkfifo('fifo'); held = os.open('fifo', os.O_RDWR)
os.mkdir('folder'); open('folder/inside', 'w').write('x'); os.symlink('/', 'link'); os.symlink('/etc', 'folder2')
def swap():
    while True:
        libc.renameat2(-100, b'file', -100, b'fifo', 2)
        libc.renameat2(-100, b'folder', -100, b'link', 2)
        libc.renameat2(-100, b'file', -100, b'folder2', 2)
threading.Thread(target=swap, daemon=True).start()
`)))
	files, err := openOriginals(p.runtime)
	if err != nil {
		t.Fatal(err)
	}
	defer files.close()
	failed, copied := 0, 0
	for range 300 {
		mounts, err := files.makePrivate(within(t), p.shim.id, 16)
		if err != nil {
			failed++
			continue
		}
		copied++
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(mounts[0].Fd()), &st); err != nil || st.Files-st.Ffree > 20 {
			t.Errorf("%d files in the copy, %v", st.Files-st.Ffree, err)
		}
		closeAll(mounts)
	}
	t.Logf("%d copies, %d refused", copied, failed)
}
