package runtimes

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

func TestNativeArtefactsMatchTheirSource(t *testing.T) {
	want := recorded(t)
	for _, name := range []string{"fork.c", "build.sh", "fork_amd64.so", "fork_arm64.so"} {
		b, err := os.ReadFile(filepath.Join("native", name))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != want[name] {
			t.Errorf("native/%s is not what native/SHA256 records; run native/build.sh", name)
		}
	}
}

func TestNativeArtefactsAreReproducible(t *testing.T) {
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
	for _, name := range []string{"fork_amd64.so", "fork_arm64.so"} {
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

// One object is loaded by every interpreter: it exports their three entries, and needs of them nothing that has to be there.
func TestNativeObjectFitsEveryInterpreter(t *testing.T) {
	for _, name := range []string{"fork_amd64.so", "fork_arm64.so"} {
		f, err := elf.Open(filepath.Join("native", name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		symbols, err := f.DynamicSymbols()
		if err != nil {
			t.Fatal(err)
		}
		var exported []string
		for _, s := range symbols {
			if elf.ST_TYPE(s.Info) == elf.STT_SECTION {
				continue
			}
			if s.Section != elf.SHN_UNDEF {
				exported = append(exported, s.Name)
			} else if s.Library == "" && elf.ST_BIND(s.Info) != elf.STB_WEAK {
				t.Errorf("%s needs %s, which not every interpreter has", name, s.Name)
			}
		}
		slices.Sort(exported)
		if want := []string{"Init_fork", "PyInit_fork", "napi_register_module_v1"}; !slices.Equal(exported, want) {
			t.Errorf("%s exports %v, want %v", name, exported, want)
		}
		for _, p := range f.Progs {
			if p.Flags&elf.PF_W != 0 && p.Flags&elf.PF_X != 0 {
				t.Errorf("%s: segment %+v", name, p.ProgHeader)
			}
		}
	}
}
