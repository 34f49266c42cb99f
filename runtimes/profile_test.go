package runtimes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/rogpeppe/go-internal/txtar"

	"thaw"
)

func TestParseProfile(t *testing.T) {
	var p thaw.InitProfile
	err := ParseProfile(&p, []byte(`{
		"kinds": ["esm", "require", "<script>"],
		"names": ["", "", "node:crypto"],
		"parents": [-1, 0, 1],
		"files": ["/var/task/app/index.mjs", "/var/task/node_modules/a/node_modules/@b/c/lib/d.js", ""],
		"bytes": [10, 20, -5], "counts": [3],
		"starts": [1, 2, 3], "selves": [10, 20, 99], "totals": [60, 50, 30],
		"failed": [2],
		"connections": [{"host": "db\u001b[31m", "address": "10.0.0.1:5432", "start": 5, "dns": 1, "tcp": 2, "tls": 3, "module": 1, "error": "ECONNRESET"},
		                {"module": 3}],
		"dropped": 7}`))
	if err != nil {
		t.Fatal(err)
	}
	us := time.Microsecond
	want := thaw.InitProfile{
		Modules: []thaw.Module{
			{Name: "app/index.mjs", Parent: -1, Kind: thaw.ModuleESM, File: "/var/task/app/index.mjs", Bytes: 10, Count: 3, Start: us, Self: 10 * us, Total: 60 * us},
			{Name: "@b/c/lib/d.js", Parent: 0, Kind: thaw.ModuleRequire, File: "/var/task/node_modules/a/node_modules/@b/c/lib/d.js", Bytes: 20, Start: 2 * us, Self: 20 * us, Total: 50 * us},
			{Name: "node:crypto", Parent: 1, Kind: thaw.ModuleImport, Failed: true, Start: 3 * us, Self: 30 * us, Total: 30 * us},
		},
		Connections: []thaw.Connection{
			{Host: "db\uFFFD[31m", Address: "10.0.0.1:5432", Start: 5 * us, DNS: us, TCP: 2 * us, TLS: 3 * us, Module: 1, Error: "ECONNRESET"},
			{Module: -1},
		},
		Dropped: 7,
	}
	if fmt.Sprint(p) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
}

// TestParseProfileBounds: what a runtime tells has bounds, whatever it tells, and what they leave out is counted.
func TestParseProfileBounds(t *testing.T) {
	in := profile{Kind: thaw.ModuleImport}
	for i := range 3 * MaxModules {
		in.Names = append(in.Names, strings.Repeat("é", 5))
		in.Parents = append(in.Parents, i+1-2*(i%3))
	}
	told, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var p thaw.InitProfile
	if err := ParseProfile(&p, told); err != nil || len(p.Modules) != MaxModules || p.Dropped != 2*MaxModules {
		t.Errorf("%d modules, %d dropped, %v", len(p.Modules), p.Dropped, err)
	}
	checkProfile(t, &p)
	for _, bad := range []string{"", "x", "[]", `{"names": 1}`, `{"connections": {}}`, `{"starts": [1e400]}`, `{"names":["` + strings.Repeat("x", maxProfile) + `"]}`} {
		if err := ParseProfile(&p, []byte(bad)); !errors.Is(err, ErrProfile) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

// TestParseProfileConnections: a list as long as a profile can be makes no more memory than one of the usual length.
func TestParseProfileConnections(t *testing.T) {
	const n = maxProfile/len("{},") - 10
	told := []byte(`{"connections":[` + strings.Repeat("{},", n-1) + `{}]}`)
	var p thaw.InitProfile
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := ParseProfile(&p, told); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if len(p.Connections) != MaxConnections || p.Dropped != n-MaxConnections {
		t.Errorf("%d connections, %d dropped of %d", len(p.Connections), p.Dropped, n)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 8*maxProfile {
		t.Errorf("%d bytes of memory for %d", used, len(told))
	}
	for _, none := range []string{`{"connections":null}`, `{"connections":[]}`} {
		if err := ParseProfile(&p, []byte(none)); err != nil || len(p.Connections) != 0 {
			t.Errorf("%s: %v, %v", none, p.Connections, err)
		}
	}
}

// checkProfile holds what everybody who shows a profile relies on.
func checkProfile(t *testing.T, p *thaw.InitProfile) {
	t.Helper()
	show := func(text string) {
		if len(text) > 3*maxProfileText || strings.ContainsFunc(text, unicode.IsControl) {
			t.Errorf("text %.50q of %d bytes", text, len(text))
		}
	}
	if len(p.Modules) > MaxModules || len(p.Connections) > MaxConnections || p.Dropped < 0 {
		t.Errorf("%d modules, %d connections, %d dropped", len(p.Modules), len(p.Connections), p.Dropped)
	}
	for i, m := range p.Modules {
		if m.Parent < -1 || m.Parent >= i || m.Self < 0 || m.Self > m.Total || m.Start < 0 || m.Bytes < 0 || m.Kind == "" {
			t.Errorf("module %d: %+v", i, m)
		}
		show(m.Name)
		show(m.File)
	}
	for _, c := range p.Connections {
		if c.Module < -1 || c.Module >= len(p.Modules) || c.Start < 0 || c.DNS < 0 || c.TCP < 0 || c.TLS < 0 {
			t.Errorf("connection %+v", c)
		}
		show(c.Host)
		show(c.Address)
		show(c.Error)
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add([]byte(`{"kind":"import","names":["a","b"],"parents":[-1,0],"files":["/a"],"bytes":[1],"starts":[0],"selves":[2],"totals":[1],"failed":[0,9],"dropped":3}`))
	f.Add([]byte(`{"kinds":["esm"],"names":[""],"files":["/x/node_modules/y"],"connections":[{"host":"h","module":0,"tls":-1}]}`))
	f.Add([]byte(`{"names":["\u0000\ud800"],"parents":[9223372036854775807],"dropped":-1}`))
	f.Fuzz(func(t *testing.T, told []byte) {
		var p thaw.InitProfile
		if err := ParseProfile(&p, told); err != nil && !errors.Is(err, ErrProfile) {
			t.Error(err)
		}
		checkProfile(t, &p)
	})
}

// FuzzProfileFrame has a runtime say anything during its init.
func FuzzProfileFrame(f *testing.F) {
	f.Add(slices.Concat(frame('T', "1", "{}"), frame('R', "2", "")))
	f.Add(slices.Concat(frame('T', "", "{}"), frame('T', "", "{}"), frame('R', "", "")))
	f.Add(header('T', 0, maxProfile+1))
	f.Add(slices.Concat(frame('T', "", "x"), frame('X', "E", "{}"), []byte{0}))
	f.Fuzz(func(t *testing.T, data []byte) {
		conn, child := framesPair(t)
		go func() {
			child.Write(data)
			child.Close()
		}()
		err := conn.WaitInit(testContext(t))
		if told := conn.(Profiler).TakeProfile(); len(told) > maxProfile {
			t.Errorf("a profile of %d bytes", len(told))
		}
		_, isFailure := errors.AsType[*thaw.FunctionError](err)
		if err != nil && !isFailure && !errors.Is(err, net.ErrClosed) && !errors.Is(err, ErrProtocol) && !isEnd(err) {
			t.Error(err)
		}
	})
}

func TestProfileFrames(t *testing.T) {
	for name, test := range map[string]struct {
		data    []byte
		profile string
		up      int64
		err     error
	}{
		"apart":    {slices.Concat(frame('T', "7", "{}"), frame('R', "8", "")), "{}", 8, nil},
		"failed":   {slices.Concat(frame('T', "7", "{}"), frame('X', "E", "{}")), "{}", 7, &thaw.FunctionError{}},
		"none":     {frame('R', "8", ""), "", 8, nil},
		"twice":    {slices.Concat(frame('T', "7", "{}"), frame('T', "7", "{}"), frame('R', "8", "")), "{}", 7, ErrProtocol},
		"too long": {header('T', 0, maxProfile+1), "", 0, ErrProtocol},
		"more":     {slices.Concat(frame('T', "7", "{}"), frame('R', "8", ""), []byte("x")), "{}", 7, ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			conn, child := framesPair(t)
			if _, err := child.Write(test.data); err != nil { // at once, so that a read takes several frames
				t.Fatal(err)
			}
			err := conn.WaitInit(testContext(t))
			_, isFailure := errors.AsType[*thaw.FunctionError](err)
			_, wantFailure := test.err.(*thaw.FunctionError)
			if isFailure != wantFailure || !isFailure && !errors.Is(err, test.err) {
				t.Errorf("%v, want %v", err, test.err)
			}
			profiler := conn.(Profiler)
			if told := profiler.TakeProfile(); string(told) != test.profile || profiler.TakeProfile() != nil {
				t.Errorf("profile %q", told)
			}
			if up := conn.(*frames).RuntimeUp(); test.up != 0 && up.UnixMicro() != test.up {
				t.Errorf("up %v", up)
			}
		})
	}
}

// TestProfileCases runs testdata/profile/LANGUAGE-*.txtar with every interpreter of the language while it measures init. A case is
// as for TestBootstraps; besides, a file "profile" has lines of what must be told, a file "no-profile" of what must not, and with a
// file "untold" nothing is told:
//
//	PARENT > NAME [failed]       a module, and the one that loaded it; - for none
//	connect HOST [ERROR]         a connection, with the time of each step that it took
func TestProfileCases(t *testing.T) {
	files, err := filepath.Glob("testdata/profile/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, in := range registry().Interpreters() {
		if in.Unusable != "" && !strings.Contains(in.Unusable, "chmod") {
			continue
		}
		for _, file := range files {
			if strings.HasPrefix(filepath.Base(file), in.Language+"-") {
				t.Run(in.Language+in.Version+"/"+strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
					t.Parallel()
					runProfileCase(t, in, file)
				})
			}
		}
	}
}

func runProfileCase(t *testing.T, in Interpreter, file string) {
	server := listenTwice(t)
	c, steps, want := startCase(t, in, file, "SERVER="+server)
	task := c.cmd.Dir
	defer func() {
		if t.Failed() {
			t.Logf("output: %q", c.output.all())
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	runSteps(ctx, t, c, steps)
	var p thaw.InitProfile
	told := bytes.ReplaceAll(c.conn.(Profiler).TakeProfile(), []byte(task), []byte(TaskRoot))
	if _, untold := want["untold"]; untold {
		if len(told) > 0 {
			t.Errorf("told: %s", told)
		}
		return
	}
	if err := ParseProfile(&p, told); err != nil {
		t.Fatal(err)
	}
	checkProfile(t, &p)
	lines := describeProfile(&p)
	for _, line := range want["profile"] {
		if !slices.Contains(lines, line) {
			t.Errorf("not told: %s", line)
		}
	}
	for _, line := range want["no-profile"] {
		if slices.Contains(lines, line) {
			t.Errorf("told: %s", line)
		}
	}
	if t.Failed() {
		t.Logf("told:\n%s", strings.Join(lines, "\n"))
	}
}

// describeProfile gives the lines of TestProfileCases.
func describeProfile(p *thaw.InitProfile) (lines []string) {
	name := func(i int) string {
		if i < 0 {
			return "-"
		}
		return p.Modules[i].Name
	}
	for _, m := range p.Modules {
		line := name(m.Parent) + " > " + m.Name
		if m.Failed {
			line += " failed"
		}
		lines = append(lines, line)
	}
	for _, c := range p.Connections {
		lines = append(lines, strings.TrimSpace("connect "+c.Host+" "+c.Error))
	}
	return lines
}

// startCase starts the runtime of a case while it measures init, and gives the case's steps and other expectations.
func startCase(t *testing.T, in Interpreter, file string, env ...string) (c *child, steps [][2]string, want map[string][]string) {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	want = map[string][]string{}
	for _, f := range archive.Files {
		if f.Name == "profile" || f.Name == "no-profile" || f.Name == "untold" {
			want[f.Name] = slices.DeleteFunc(strings.Split(string(f.Data), "\n"), func(line string) bool { return line == "" })
		}
	}
	if err := txtar.Write(archive, dir); err != nil {
		t.Fatal(err)
	}
	v := &thaw.Version{Function: "fn", Number: thaw.Latest, Runtime: "test", MemorySize: 256, Environment: map[string]string{}}
	for line := range strings.Lines(string(archive.Comment)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case !ok || strings.HasPrefix(key, "#"):
		case key == "handler":
			v.Handler = value
		case key == "min":
			if compareVersions(in.Version, value) < 0 {
				t.Skipf("%s is for %s %s", in.Version, key, value)
			}
		default:
			steps = append(steps, [2]string{key, value})
		}
	}
	l := launchFor(t, in, v)
	l.Args = append(l.Args, profileOption)
	return startRuntime(t, l, v, dir, env...), steps, want
}

// listenTwice gives the address of a server that takes connections and says nothing.
func listenTwice(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func isEnd(err error) bool { return strings.Contains(err.Error(), "EOF") }
