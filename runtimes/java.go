package runtimes

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"thaw"
)

const (
	javaJar  = "bootstrap.jar" // built of folder java by java/build.sh
	javaMain = "thaw.java.Main"
	// javaClassPath is the jar as seen from TaskRoot. A class-data archive is only valid with the class path that it was
	// made with; this one can be had outside an environment too.
	javaClassPath = "../runtime/" + javaJar

	// oneCore is the memory in MB that brings one whole core, AWS's own figure.
	oneCore = 1769
)

// launchJava is Launch for Java.
func (r *Registry) launchJava(ctx context.Context, v *thaw.Version, in *Interpreter) (*Launch, error) {
	dir, err := r.prepareJava(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("runtimes: prepare the runtime client of %s: %w", in.Path, err)
	}
	l := &Launch{
		Env:     identifier{language: "java"}.environ(in),
		Binds:   []Bind{{dir, RuntimeDir}},
		Channel: true,
		Version: "java:" + in.Version,

		ProfileArgs: []string{profileOption},
	}
	if in.Prefix != "" {
		l.Binds = append(l.Binds, Bind{in.Prefix, in.Prefix})
	}
	own := v.Environment["JAVA_TOOL_OPTIONS"]
	options := javaOptions(in.Version, v.MemorySize, own)
	main := []string{"-cp", javaClassPath, javaMain}
	if archive := r.versionArchive(l, v, in, dir, own); archive != "" {
		l.Args = slices.Concat([]string{in.Path}, options, []string{sharedArchive + archive}, main)
	} else {
		l.Args = slices.Concat([]string{in.Path}, options, main)
	}
	if l.Archive != "" {
		l.ArchiveArgs = slices.Concat(archiveShell, []string{in.Path}, options, []string{makeArchive + newArchive}, main, []string{"archive"})
	}
	return l, nil
}

// javaOptions are the JVM's options for a version of Java and a function's memory size. What the function sets in
// JAVA_TOOL_OPTIONS itself is left out, as the command line would win over it.
func javaOptions(version string, memoryMB int, own string) []string {
	var options []string
	add := func(option string, instead ...string) {
		for field := range strings.FieldsSeq(own) {
			for _, prefix := range instead {
				if strings.HasPrefix(field, prefix) {
					return
				}
			}
		}
		options = append(options, option)
	}
	collector := "-XX:+UseSerialGC"
	if major(version) == "17" {
		collector = "-XX:+UseG1GC" // with the others Java 17 does not use the JDK's archived objects, which costs 10 ms and more
	}
	if !setsCollector(own) {
		options = append(options, collector)
	}
	if memoryMB < oneCore {
		add("-XX:TieredStopAtLevel=1", "-XX:TieredStopAtLevel", "-XX:-TieredCompilation", "-XX:+TieredCompilation", "-Xint")
	}
	add("-Xmx"+strconv.Itoa(managedHeap(memoryMB))+"m", "-Xmx", "-XX:MaxHeapSize", "-XX:MaxRAMPercentage", "-XX:MaxRAM=")
	add("-XX:-UsePerfData", "-XX:+UsePerfData") // a file in /tmp
	add("-Dfile.encoding=UTF-8", "-Dfile.encoding")
	if compareVersions(version, "18") >= 0 {
		// Reflection by generated code pays after thousands of calls; until then it costs the start 20 ms and more.
		add("-Djdk.reflect.useNativeAccessorOnly=true", "-Djdk.reflect.useNativeAccessorOnly")
	}
	if canArchive(version) {
		// An archive that does not fit is no concern of the function's log.
		options = append(options, "-Xlog:cds=off", "-Xlog:cds+dynamic=off")
	}
	return options
}

// setsCollector reports whether the options choose a garbage collector: of two choices the JVM refuses to start.
func setsCollector(own string) bool {
	for field := range strings.FieldsSeq(own) {
		if strings.HasPrefix(field, "-XX:+Use") && strings.HasSuffix(field, "GC") {
			return true
		}
	}
	return false
}

// managedHeap is the bound of a heap in MB: what is left when the virtual machine itself has got its 32 MB and a tenth. At 512 MB
// that is 428, where AWS gives 435.
func managedHeap(memoryMB int) int { return max(memoryMB*9/10-32, 16) }

func major(version string) string {
	number, _, _ := strings.Cut(version, ".")
	return number
}

// prepareJava makes the folder with the runtime client, once per interpreter version and content, and the archive of
// the client's own classes, which takes a second or so.
func (r *Registry) prepareJava(ctx context.Context, in *Interpreter) (string, error) {
	r.preparing.Lock()
	defer r.preparing.Unlock()
	if dir, ok := r.prepared[in.Path]; ok {
		return dir, nil
	}
	jar, err := fs.ReadFile(bootstraps, "bootstrap/"+javaJar)
	if err != nil {
		return "", err
	}
	root, err := filepath.Abs(r.cfg.Dir)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append(jar, in.Path+"\x00"+in.Version...))
	dir := filepath.Join(root, "java-"+in.Version+"-"+hex.EncodeToString(sum[:6]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	file := filepath.Join(dir, javaJar)
	if !isFile(file) {
		if err := writeWhole(file, jar); err != nil {
			return "", err
		}
	}
	if canArchive(in.Version) && !isFile(filepath.Join(dir, javaArchive)) {
		// A JVM without an archive of its own (some are packaged so) cannot make one: functions run without.
		if err := archiveClient(ctx, in, dir); err != nil && ctx.Err() != nil {
			return "", ctx.Err()
		}
	}
	r.prepared[in.Path] = dir
	return dir, nil
}

// writeWhole gives the file its name when it is whole.
func writeWhole(file string, content []byte) error {
	fresh := file + ".new"
	if err := os.WriteFile(fresh, content, 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, file)
}

// javaVersion is the version that an installation tells of itself in its file "release", or empty. Java 8 is 8, not 1.8.
func javaVersion(path string) string {
	file, err := os.Open(filepath.Join(filepath.Dir(filepath.Dir(path)), "release"))
	if err != nil {
		return ""
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "JAVA_VERSION="); ok {
			version := strings.TrimPrefix(strings.Trim(value, `"`), "1.")
			return strings.ReplaceAll(version, "_", ".")
		}
	}
	return ""
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
