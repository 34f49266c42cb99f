package runtimes

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"thaw"
)

const (
	javaJar  = "bootstrap.jar" // built of folder java by java/build.sh
	javaMain = "thaw.java.Main"
	// javaClassPath is the jar as seen from TaskRoot. A class-data archive is only valid with the class path that it was
	// made with; this one can be had outside an environment too.
	javaClassPath = "../runtime/" + javaJar
	// javaArchive holds the runtime client's own classes, for versions without an archive of their own.
	javaArchive = "bootstrap.jsa"

	// ArchiveTarget is where an environment finds the class-data archive of Launch.WithArchive.
	ArchiveTarget = "/var/archive.jsa"

	// oneCore is the memory in MB that brings one whole core, AWS's own figure.
	oneCore = 1769

	archiveTimeout = time.Minute
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
	}
	if in.Prefix != "" {
		l.Binds = append(l.Binds, Bind{in.Prefix, in.Prefix})
	}
	options := javaOptions(in.Version, v.MemorySize, v.Environment["JAVA_TOOL_OPTIONS"])
	if isFile(filepath.Join(dir, javaArchive)) {
		options = append(options, sharedArchive+filepath.Join(RuntimeDir, javaArchive))
	}
	l.Args = slices.Concat([]string{in.Path}, options, []string{"-cp", javaClassPath, javaMain})
	return l, nil
}

const (
	sharedArchive = "-XX:SharedArchiveFile="
	makeArchive   = "-XX:ArchiveClassesAtExit="
)

// ArchiveLaunch says how to make the class-data archive of a version, which spares its later starts the parsing and
// checking of classes. An environment started with it takes events like any other, and every class that is loaded until
// its channel is closed goes into the archive, which it then writes to target, a path inside the environment in a folder
// that it may write to, before it ends with status 0. It needs some hundred milliseconds more than a start for that, and
// memory of several times the archive's size. Nil and no error for a runtime without such archives, which are all but Java
// 13 and later; a runtime that this host cannot run is the *thaw.Error of Check.
func (r *Registry) ArchiveLaunch(ctx context.Context, v *thaw.Version, target string) (*Launch, error) {
	id, err := r.resolve(v.Runtime)
	if err != nil || id.language != "java" {
		return nil, err
	}
	in, err := r.choose(id)
	if err != nil || !canArchive(in.Version) {
		return nil, err
	}
	l, err := r.launchJava(ctx, v, in)
	if err != nil {
		return nil, err
	}
	main := slices.Index(l.Args, "-cp")
	options := slices.DeleteFunc(slices.Clone(l.Args[:main]), func(arg string) bool { return strings.HasPrefix(arg, sharedArchive) })
	l.Args = slices.Concat(options, []string{makeArchive + target}, l.Args[main:], []string{"archive"})
	return l, nil
}

// WithArchive is the Launch that uses the class-data archive in file, a path on the host, which an environment of
// ArchiveLaunch wrote for the same version, interpreter and code. The JVM leaves one that does not fit aside. l itself is
// not changed, and returned when its runtime has no such archives.
func (l *Launch) WithArchive(file string) *Launch {
	if !l.takesArchive() {
		return l
	}
	with := *l
	main := slices.Index(l.Args, "-cp")
	options := slices.DeleteFunc(slices.Clone(l.Args[:main]), func(arg string) bool { return strings.HasPrefix(arg, sharedArchive) })
	with.Args = slices.Concat(options, []string{sharedArchive + ArchiveTarget}, l.Args[main:])
	with.Binds = append(slices.Clone(l.Binds), Bind{file, ArchiveTarget})
	return &with
}

func (l *Launch) takesArchive() bool {
	version, isJava := strings.CutPrefix(l.Version, "java:")
	return isJava && canArchive(version)
}

// canArchive: class-data archives of an application that adds to the JDK's own are Java 13's (JEP 350).
func canArchive(version string) bool { return compareVersions(version, "13") >= 0 }

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
	add("-Xmx"+strconv.Itoa(javaHeap(memoryMB))+"m", "-Xmx", "-XX:MaxHeapSize", "-XX:MaxRAMPercentage", "-XX:MaxRAM=")
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

// javaHeap is the bound of the heap in MB: what is left when the JVM itself has got its 32 MB and a tenth. At 512 MB
// that is 428, where AWS gives 435.
func javaHeap(memoryMB int) int { return max(memoryMB*9/10-32, 16) }

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

// archiveClient writes the archive of the runtime client's own classes into dir, which has the jar.
func archiveClient(ctx context.Context, in *Interpreter, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, archiveTimeout)
	defer cancel()
	fresh, err := os.MkdirTemp(filepath.Dir(dir), ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	task := filepath.Join(fresh, filepath.Base(TaskRoot))
	if err := errors.Join(os.Mkdir(task, 0o755), os.Symlink(dir, filepath.Join(fresh, filepath.Base(RuntimeDir)))); err != nil {
		return err
	}
	archive := filepath.Join(fresh, javaArchive)
	args := append(javaOptions(in.Version, oneCore, ""), makeArchive+archive, "-cp", javaClassPath, javaMain, "archive")
	cmd := exec.CommandContext(ctx, in.Path, args...)
	cmd.Env = []string{}
	cmd.Dir = task
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return errors.Join(os.Chmod(archive, 0o644), os.Rename(archive, filepath.Join(dir, javaArchive)))
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
