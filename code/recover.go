package code

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Names inside a cache's directory.
const (
	treesDir   = "trees"   // whole trees, named DIGEST.SIZE
	partialDir = "partial" // work that has not ended, and trees on their way out
	bootFile   = "boot"    // the machine's boot under which the trees were written
)

// bootID is the kernel's name for this boot of the machine; a variable so that tests can restart it.
var bootID = "/proc/sys/kernel/random/boot_id"

func treePath(dir, name string, size int64) string {
	return filepath.Join(dir, treesDir, name+"."+strconv.FormatInt(size, 10))
}

// recoverTrees makes the cache's directories and gives the whole trees in them, by digest. Trees of an earlier boot are
// dropped: files are not brought to the disk one by one, so that a power cut may have left some of them empty, and
// unpacking again costs less than waiting for the disk each time.
func recoverTrees(dir string) (map[string]*unpacked, error) {
	trees, partial := filepath.Join(dir, treesDir), filepath.Join(dir, partialDir)
	if err := os.MkdirAll(partial, 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(trees, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	boot, err := os.ReadFile(bootID)
	if err != nil {
		return nil, fmt.Errorf("find out which boot this is: %w", err)
	}
	written, err := os.ReadFile(filepath.Join(dir, bootFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if string(written) != string(boot) {
		if err := moveInto(trees, partial); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, bootFile), boot, 0o644); err != nil {
			return nil, err
		}
	}
	if err := emptyDirectory(partial); err != nil {
		return nil, err
	}
	return listTrees(trees)
}

// moveInto moves everything in a directory into another.
func moveInto(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		into, err := os.MkdirTemp(to, "old-")
		if err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(from, e.Name()), filepath.Join(into, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func emptyDirectory(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func listTrees(dir string) (map[string]*unpacked, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found := map[string]*unpacked{}
	for _, e := range entries {
		digest, size, ok := parseTreeName(e.Name())
		if !ok || !e.IsDir() {
			return nil, fmt.Errorf("%s is nothing that thaw put there; remove it", filepath.Join(dir, e.Name()))
		}
		found[digest] = &unpacked{path: filepath.Join(dir, e.Name()), size: size}
	}
	return found, nil
}

func parseTreeName(name string) (digest string, size int64, ok bool) {
	hexDigest, number, _ := strings.Cut(name, ".")
	sum, err := hex.DecodeString(hexDigest)
	if err != nil || len(sum) != 32 {
		return "", 0, false
	}
	size, err = strconv.ParseInt(number, 10, 64)
	return base64.StdEncoding.EncodeToString(sum), size, err == nil && size > 0
}
