package runtimes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"thaw"
)

// Class-data archives spare a JVM the parsing and checking of classes. There are two of them: the runtime client's own,
// made outside any environment, for versions that have none; and a version's, made by an environment of that version
// alone, since its code is run for it, and used by that version alone, since that code decides what is in it.
const (
	javaArchive = "bootstrap.jsa" // the runtime client's own, in its folder

	// archiveTarget is where an environment finds its version's archive, and newArchive where one is made.
	archiveTarget = "/var/archive.jsa"
	newArchive    = "/tmp/.archive.jsa"

	sharedArchive = "-XX:SharedArchiveFile="
	makeArchive   = "-XX:ArchiveClassesAtExit="

	archiveTimeout = time.Minute
)

// archiveShell runs the JVM that follows and then passes the archive on through the channel: the JVM writes it after
// the last code of the runtime client has run.
var archiveShell = []string{"/bin/sh", "-c", `"$@" && exec cat ` + newArchive + ` >&3 2>/dev/null`, "archive"}

// canArchive: class-data archives of an application that adds to the JDK's own are Java 13's (JEP 350).
func canArchive(version string) bool { return compareVersions(version, "13") >= 0 }

// versionArchive fills in where the version's archive is kept, and gives the path of the archive to start with as an
// environment sees it, empty for none.
func (r *Registry) versionArchive(l *Launch, v *thaw.Version, in *Interpreter, clientDir, own string) string {
	if !canArchive(in.Version) || strings.Contains(own, "-Xshare:") || strings.Contains(own, sharedArchive) {
		return ""
	}
	if !isFile(filepath.Join(clientDir, javaArchive)) {
		return "" // this JVM cannot make archives, or it could have made that one
	}
	sum := sha256.Sum256([]byte(in.Path + "\x00" + clientDir))
	l.Archive = filepath.Join(filepath.Dir(clientDir), archivesDir, archivePrefix(v)+hex.EncodeToString(sum[:6])+".jsa")
	if !isFile(l.Archive) {
		return filepath.Join(RuntimeDir, javaArchive)
	}
	l.Binds = append(l.Binds, Bind{l.Archive, archiveTarget})
	return archiveTarget
}

// archivesDir is the folder of the versions' archives, below Config.Dir.
const archivesDir = "archives"

// archivePrefix begins the names of a version's archives. A generation is never used twice for one name.
func archivePrefix(v *thaw.Version) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d\x00%s", v.Function, v.Number, v.Generation, v.Code.SHA256))
	return hex.EncodeToString(sum[:16]) + "-"
}

// SweepArchives removes the class-data archives of all versions but those named, and what a crash left half written.
func (r *Registry) SweepArchives(versions []*thaw.Version) error {
	wanted := make(map[string]bool, len(versions))
	for _, v := range versions {
		wanted[archivePrefix(v)] = true
	}
	dir := filepath.Join(r.cfg.Dir, archivesDir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("runtimes: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		prefix, _, _ := strings.Cut(entry.Name(), "-")
		if wanted[prefix+"-"] {
			continue
		}
		if info, err := entry.Info(); err != nil || time.Since(info.ModTime()) < archiveYouth {
			continue // perhaps being written, or of a version that came after the list was made
		}
		errs = append(errs, os.Remove(filepath.Join(dir, entry.Name())))
	}
	return errors.Join(errs...)
}

// archiveYouth is longer than making an archive may take.
const archiveYouth = 10 * time.Minute

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
