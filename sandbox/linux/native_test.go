package linux

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// recorded reads native/SHA256.
func recorded(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open("native/SHA256")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := map[string]string{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		name, value, _ := strings.Cut(sc.Text(), " ")
		m[name] = value
	}
	return m
}

func TestArtefactsMatchTheirSource(t *testing.T) {
	want := recorded(t)
	for _, name := range []string{"init.c", "build.sh", "init_amd64", "init_arm64"} {
		b, err := os.ReadFile(filepath.Join("native", name))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != want[name] {
			t.Errorf("native/%s is not what native/SHA256 records; run native/build.sh", name)
		}
	}
}

func TestArtefactsAreReproducible(t *testing.T) {
	out, err := exec.Command("x86_64-linux-gnu-gcc", "--version").Output()
	if err != nil {
		t.Skip("no compiler")
	}
	if version, _, _ := strings.Cut(string(out), "\n"); version != recorded(t)["compiler"] {
		t.Skipf("compiler is %q, the artefacts were built with %q", version, recorded(t)["compiler"])
	}
	if _, err := exec.LookPath("aarch64-linux-gnu-gcc"); err != nil {
		t.Skip("no compiler for arm64")
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "native/build.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"init_amd64", "init_arm64"} {
		built, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		committed, err := os.ReadFile(filepath.Join("native", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(built, committed) {
			t.Errorf("native/%s is not what its source builds to; run native/build.sh", name)
		}
	}
}

// Pid 1 is loaded into every sandbox: it has to stay small, without an interpreter, and without memory that is both
// writable and executable.
func TestArtefactsAreStaticAndSmall(t *testing.T) {
	for name, machine := range map[string]elf.Machine{"init_amd64": elf.EM_X86_64, "init_arm64": elf.EM_AARCH64} {
		f, err := elf.Open(filepath.Join("native", name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if f.Machine != machine || f.Type != elf.ET_EXEC {
			t.Errorf("%s: %v %v", name, f.Machine, f.Type)
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC || p.Flags&elf.PF_W != 0 && p.Flags&elf.PF_X != 0 {
				t.Errorf("%s: segment %+v", name, p.ProgHeader)
			}
		}
		if st, err := os.Stat(filepath.Join("native", name)); err != nil || st.Size() > 16<<10 {
			t.Errorf("%s: %v %v", name, st.Size(), err)
		}
	}
}

// TestShimIsOutOfTheWay: a process that is started from the program is given descriptors of its own before the program's path,
// which names a descriptor, is looked up.
func TestShimIsOutOfTheWay(t *testing.T) {
	f, err := openShim()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if fd := f.Fd(); fd < lowestShim {
		t.Errorf("it is descriptor %d", fd)
	}
}
