package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecondInstanceIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	_, err := Open(t.Context(), Config{Dir: dir})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "stop it first") {
		t.Fatalf("second open: %v", err)
	}
	if err := s.CreateFunction(t.Context(), function("f")); err != nil {
		t.Fatalf("first instance after the second was refused: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := open(t, Config{Dir: dir}).Function("f"); !ok {
		t.Fatal("function is gone after reopening")
	}
}

func TestVersionFile(t *testing.T) {
	for _, test := range []struct {
		text string
		ok   bool
		want error
		say  string
	}{
		{"1\n", true, nil, ""},
		{"1", true, nil, ""},
		{"2\n", false, ErrNewerVersion, "install a newer thaw"},
		{"1000", false, ErrNewerVersion, "install a newer thaw"},
		{"", false, nil, "choose another directory"},
		{"-1", false, nil, "choose another directory"},
		{"one", false, nil, "choose another directory"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "VERSION"), []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), Config{Dir: dir})
		if err == nil {
			s.Close()
		}
		if (err == nil) != test.ok || test.want != nil && !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.say) {
			t.Errorf("version %q: %v", test.text, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "jetstream")); (err == nil) != test.ok {
			t.Errorf("version %q: engine's files: %v", test.text, err)
		}
	}
}

func TestOpenSaysWhatIsWrongWithTheDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []Config{{}, {Dir: file}, {Dir: filepath.Join(file, "below")}, {NATSURL: "nats://127.0.0.1:1"}} {
		if s, err := Open(t.Context(), cfg); err == nil {
			s.Close()
			t.Errorf("%+v opens", cfg)
		}
	}
}
