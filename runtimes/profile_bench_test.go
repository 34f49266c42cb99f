package runtimes

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"thaw"
)

// BenchmarkProfiledInit is what it costs to measure an init: starts with and without it by turns, and the medians of each. Run it
// with -benchtime 40x or more. THAW_BENCH_NODE_MODULES names a folder node_modules that has @aws-sdk/client-s3; boto3 is taken
// from the interpreter.
//
//	off-ms, on-ms      from the runtime being up to init's end, as phase init shows it
//	more-%             the median of the differences between a start with it and the one beside it without, of off-ms
//	unsure-%           about how much that varies from one run of the benchmark to another: half the distance of the quartiles over √n
//	cpu-off-ms, …      the same for the processor's time of the whole start, which other work on the machine disturbs less
func BenchmarkProfiledInit(b *testing.B) {
	for _, in := range registry().Interpreters() {
		if in.Unusable != "" && !strings.Contains(in.Unusable, "chmod") {
			continue
		}
		for name, files := range benchFunctions(in) {
			b.Run(in.Language+in.Version+"/"+name, func(b *testing.B) { benchInit(b, in, files) })
		}
	}
	for _, in := range javaInterpreters(b) {
		b.Run(in.Language+in.Version+"/hello", func(b *testing.B) { benchJava(b, in, "example.Methods::echo", 0) })
		b.Run(in.Language+in.Version+"/1000-classes", func(b *testing.B) { benchJava(b, in, "example.Loads::echo", 1000) })
	}
}

// benchJava has init load as many classes, which are empty, so that what each costs besides counts most.
func benchJava(b *testing.B, in Interpreter, handler string, classes int) {
	v := javaVersionOf(handler)
	v.MemorySize = 512
	plain, measured := launchJavaFor(b, in, v), launchJavaFor(b, in, v)
	measured.Args = append(slices.Clone(measured.Args), measured.ProfileArgs...)
	task := javaTask(b, plain, needClasses(b)[0])
	var names []string
	for i := range classes {
		names = append(names, fmt.Sprintf("com.example.part%d.Class%d", i%50, i))
	}
	addClasses(b, task, names)
	benchStarts(b, [2]*Launch{plain, measured}, v, task)
}

// benchFunctions are folders with a function main.handler or index.handler.
func benchFunctions(in Interpreter) map[string]map[string]string {
	switch in.Language {
	case "python":
		functions := map[string]map[string]string{"hello": {"main.py": "def handler(e, c): return e\n"}}
		if exec.Command(in.Path, "-c", "import boto3").Run() == nil {
			functions["boto3"] = map[string]string{"main.py": `import boto3
s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y")
def handler(e, c): return e
`}
		}
		return functions
	case "nodejs":
		functions := map[string]map[string]string{"hello": {"main.js": "exports.handler = async (e) => e;\n"}}
		if os.Getenv("THAW_BENCH_NODE_MODULES") != "" {
			const use = "new S3Client({ region: 'us-east-1', credentials: { accessKeyId: 'x', secretAccessKey: 'y' } });\n"
			functions["client-s3"] = map[string]string{"main.js": "const { S3Client } = require('@aws-sdk/client-s3');\n" + use + "exports.handler = async (e) => e;\n"}
			functions["client-s3-esm"] = map[string]string{"main.mjs": "import { S3Client } from '@aws-sdk/client-s3';\n" + use + "export const handler = async (e) => e;\n"}
		}
		return functions
	case "ruby":
		return map[string]map[string]string{
			"hello": {"main.rb": "def handler(event:, context:) = event\n"},
			"net":   {"main.rb": "require 'net/http'\nrequire 'openssl'\nrequire 'yaml'\ndef handler(event:, context:) = event\n"},
		}
	}
	return nil
}

func benchInit(b *testing.B, in Interpreter, files map[string]string) {
	dir := b.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	if modules := os.Getenv("THAW_BENCH_NODE_MODULES"); modules != "" {
		if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
			b.Fatal(err)
		}
	}
	v := &thaw.Version{Function: "fn", Number: thaw.Latest, Runtime: "test", MemorySize: 512, Handler: "main.handler"}
	plain, measured := launchFor(b, in, v), launchFor(b, in, v)
	measured.Args = append(measured.Args, profileOption)
	benchStarts(b, [2]*Launch{plain, measured}, v, dir)
}

// benchStarts starts a runtime without and with measuring by turns.
func benchStarts(b *testing.B, launches [2]*Launch, v *thaw.Version, dir string) {
	var took, cpu [2][]float64
	for i := -1; i < b.N; i++ {
		for n := range 2 {
			which := (n + i&1) % 2 // neither is always the first
			init, used := oneInit(b, launches[which], v, dir)
			if i >= 0 { // the first pair warms the caches up
				took[which], cpu[which] = append(took[which], init), append(cpu[which], used)
			}
		}
	}
	report := func(prefix string, values [2][]float64) {
		var more []float64
		for i := range values[0] {
			more = append(more, values[1][i]-values[0][i])
		}
		slices.Sort(more)
		off, n := median(values[0]), len(more)
		b.ReportMetric(off, prefix+"off-ms")
		b.ReportMetric(median(values[1]), prefix+"on-ms")
		b.ReportMetric(100*median(more)/off, prefix+"more-%")
		b.ReportMetric(50*(more[n*3/4]-more[n/4])/off/math.Sqrt(float64(n)), prefix+"unsure-%")
	}
	report("", took)
	report("cpu-", cpu)
}

// oneInit gives the length of an init and the processor's time of the start, in ms.
func oneInit(b *testing.B, l *Launch, v *thaw.Version, dir string) (took, cpu float64) {
	b.Helper()
	conn, file := socketpair(b)
	runtimeDir := l.Binds[0].Source
	args := slices.Clone(l.Args)
	for i := range args {
		args[i] = strings.Replace(args[i], RuntimeDir+"/", runtimeDir+"/", 1)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.ExtraFiles = dir, []*os.File{file}
	for _, pair := range Environ(v, testAccount, "stream", false, l.Env...) {
		pair = strings.ReplaceAll(pair, RuntimeDir, runtimeDir)
		cmd.Env = append(cmd.Env, strings.ReplaceAll(pair, TaskRoot, dir))
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	file.Close()
	c := NewFrames(conn).(*frames)
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	err := c.WaitInit(ctx)
	ready := time.Now()
	if err == nil {
		cpu, err = processorTime(cmd.Process.Pid)
	}
	c.Close()
	cmd.Process.Kill()
	cmd.Wait()
	if err != nil {
		b.Fatal(err)
	}
	return ready.Sub(c.RuntimeUp()).Seconds() * 1000, cpu
}

// processorTime is what all threads of a process have run for, in ms.
func processorTime(pid int) (ms float64, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		ns, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
		if err != nil {
			return 0, err
		}
		ms += ns / 1e6
	}
	return ms, err
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
